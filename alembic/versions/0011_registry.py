"""Versions have a lineage, an evaluation and a report; aliases a share and a revision, and moves wait for workers."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

EMPTY = sa.text("'{}'::jsonb")
NO_TEXTS = sa.text("'{}'::text[]")


def _document(name: str, *, empty: bool = False) -> sa.Column:
    default = EMPTY if empty else None
    return sa.Column(name, postgresql.JSONB(none_as_null=True), nullable=not empty, server_default=default)


def _moment(name: str, *, now: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=not now, server_default=sa.func.now() if now else None)


def upgrade() -> None:
    op.add_column("versions", _document("lineage", empty=True))
    op.add_column("versions", _document("evaluation"))
    op.add_column("versions", _document("reports", empty=True))
    op.add_column("versions", _document("gate"))
    op.add_column("models", _document("gate"))
    op.add_column("models", _document("canary"))
    op.add_column("aliases", sa.Column("share", sa.Float(), nullable=True))
    op.add_column("aliases", sa.Column("revision", sa.BigInteger(), nullable=False, server_default="1"))
    op.add_column("aliases", _moment("since", now=True))
    op.add_column("aliases", _moment("watched_at"))
    op.create_check_constraint(op.f("ck_aliases_share"), "aliases", "share BETWEEN 0 AND 1")
    op.execute("UPDATE aliases SET since = updated_at")
    op.create_table(
        "stagings",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("version_id", sa.Text(), nullable=False),
        sa.Column("move", postgresql.JSONB(none_as_null=True), nullable=False),
        _moment("since", now=True),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("model", "alias", name=op.f("pk_stagings")),
        sa.ForeignKeyConstraint(
            ["model", "version_id"], ["versions.model", "versions.id"], name=op.f("fk_stagings_model")
        ),
    )
    op.add_column("alias_moves", sa.Column("share", sa.Float(), nullable=True))
    op.add_column("alias_moves", sa.Column("forced", sa.Boolean(), nullable=False, server_default=sa.text("false")))
    op.add_column(
        "alias_moves", sa.Column("reasons", postgresql.ARRAY(sa.Text()), nullable=False, server_default=NO_TEXTS)
    )
    op.drop_constraint(op.f("ck_alias_moves_kind"), "alias_moves")
    op.create_check_constraint(
        op.f("ck_alias_moves_kind"), "alias_moves", "kind IN ('promote', 'rollback', 'share', 'stop')"
    )
    op.add_column("jobs", sa.Column("cohort", sa.Text(), nullable=True))
    op.create_check_constraint(op.f("ck_jobs_cohort"), "jobs", "cohort IN ('champion', 'canary')")
    op.create_index(
        op.f("ix_jobs_cohort"), "jobs", ["version_id", "created_at"], postgresql_where=sa.text("cohort IS NOT NULL")
    )
    op.add_column("workers", _document("bundles", empty=True))


def downgrade() -> None:
    op.drop_column("workers", "bundles")
    op.drop_index(op.f("ix_jobs_cohort"), table_name="jobs")
    op.drop_column("jobs", "cohort")
    op.execute("DELETE FROM alias_moves WHERE kind IN ('share', 'stop')")
    op.drop_constraint(op.f("ck_alias_moves_kind"), "alias_moves")
    op.create_check_constraint(op.f("ck_alias_moves_kind"), "alias_moves", "kind IN ('promote', 'rollback')")
    for column in ("reasons", "forced", "share"):
        op.drop_column("alias_moves", column)
    op.drop_table("stagings")
    for column in ("watched_at", "since", "revision", "share"):
        op.drop_column("aliases", column)
    op.drop_column("models", "canary")
    op.drop_column("models", "gate")
    for column in ("gate", "reports", "evaluation", "lineage"):
        op.drop_column("versions", column)
