"""Priorities of training runs, and whether one may have another stopped."""

import sqlalchemy as sa

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

TABLES = ("training_runs", "training_schedules")


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("priority", sa.Integer(), server_default="50", nullable=False))
        op.add_column(table, sa.Column("preempt", sa.Boolean(), server_default=sa.text("false"), nullable=False))


def downgrade() -> None:
    for table in TABLES:
        op.drop_column(table, "preempt")
        op.drop_column(table, "priority")
