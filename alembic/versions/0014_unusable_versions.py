"""Versions that no worker can render with say why; attempts can end for that reason."""

import sqlalchemy as sa

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

REASONS = (
    "worker_lost", "preempted", "oom", "timeout", "stalled", "bad_input", "output_check_failed", "transient",
    "canceled", "bug",
)  # fmt: skip


def _allow(*reasons: str) -> None:
    op.drop_constraint(op.f("ck_attempts_reason"), "attempts")
    listed = ", ".join(f"'{reason}'" for reason in reasons)
    op.create_check_constraint(op.f("ck_attempts_reason"), "attempts", f"reason IN ({listed})")


def upgrade() -> None:
    op.add_column("versions", sa.Column("unusable", sa.Text(), nullable=True))
    _allow(*REASONS, "bad_bundle")


def downgrade() -> None:
    op.execute("UPDATE attempts SET reason = 'bug' WHERE reason = 'bad_bundle'")
    _allow(*REASONS)
    op.drop_column("versions", "unusable")
