"""Fair share between tenants, caps, bad workers, and measured speeds."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

CLAIMABLE = sa.text("status = 'waiting' AND NOT held")
LEASED = sa.text("status = 'leased'")
FAILED = sa.text("outcome = 'failed'")


def upgrade() -> None:
    op.add_column("tenants", sa.Column("weight", sa.Double(), server_default="1", nullable=False))
    op.add_column("tenants", sa.Column("max_in_flight", sa.Integer(), nullable=True))
    op.create_check_constraint(op.f("ck_tenants_weight"), "tenants", "weight > 0 AND weight <= 1000")
    op.create_check_constraint(op.f("ck_tenants_max_in_flight"), "tenants", "max_in_flight >= 0")
    op.create_table(
        "shares",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("virtual_time", sa.Double(), server_default="0", nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("turn", sa.Integer(), server_default="0", nullable=False),
        sa.Column("level", sa.Integer(), server_default="101", nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_shares_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "queue", name=op.f("pk_shares")),
        postgresql_with={"fillfactor": 50},
    )
    op.create_index("ix_shares_active", "shares", ["queue"], unique=False, postgresql_where=sa.text("active"))
    op.add_column("chunks", sa.Column("version_id", sa.Text(), nullable=True))
    op.add_column("chunks", sa.Column("failed_by", postgresql.ARRAY(sa.Text()), nullable=True))
    op.drop_index("ix_chunks_claim", table_name="chunks", postgresql_where=CLAIMABLE)
    op.create_index(
        "ix_chunks_claim",
        "chunks",
        ["queue", "tenant_id", sa.literal_column("priority DESC"), "job_number", "ordinal"],
        unique=False,
        postgresql_where=CLAIMABLE,
    )
    op.create_index("ix_chunks_in_flight", "chunks", ["tenant_id", "queue"], unique=False, postgresql_where=LEASED)
    op.create_index(
        "ix_attempts_failed", "attempts", ["worker_id", "finished_at"], unique=False, postgresql_where=FAILED
    )
    op.add_column("workers", sa.Column("quarantines", sa.Integer(), server_default="0", nullable=False))
    op.add_column("workers", sa.Column("forgiven_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "workers",
        sa.Column(
            "speeds",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
    )


def downgrade() -> None:
    op.drop_column("workers", "speeds")
    op.drop_column("workers", "forgiven_at")
    op.drop_column("workers", "quarantines")
    op.drop_index("ix_attempts_failed", table_name="attempts", postgresql_where=FAILED)
    op.drop_index("ix_chunks_in_flight", table_name="chunks", postgresql_where=LEASED)
    op.drop_index("ix_chunks_claim", table_name="chunks", postgresql_where=CLAIMABLE)
    op.create_index(
        "ix_chunks_claim",
        "chunks",
        ["queue", sa.literal_column("priority DESC"), "job_number", "ordinal"],
        unique=False,
        postgresql_where=CLAIMABLE,
    )
    op.drop_column("chunks", "failed_by")
    op.drop_column("chunks", "version_id")
    op.drop_table("shares")
    op.drop_constraint(op.f("ck_tenants_max_in_flight"), "tenants")
    op.drop_constraint(op.f("ck_tenants_weight"), "tenants")
    op.drop_column("tenants", "max_in_flight")
    op.drop_column("tenants", "weight")
