"""Counters that metrics read, what finds the ended ones, and the trace that a batch belongs to."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

ENDED = sa.text("finished_at IS NOT NULL")
OPEN = sa.text("finished_at IS NULL")


def upgrade() -> None:
    op.create_table(
        "metrics",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_metrics")),
    )
    op.create_index("ix_attempts_ended", "attempts", ["finished_at"], postgresql_where=ENDED)
    op.create_index("ix_jobs_ended", "jobs", ["finished_at"], postgresql_where=ENDED)
    op.create_index("ix_batches_open", "batches", ["id"], postgresql_where=OPEN)
    op.add_column("batches", sa.Column("traceparent", sa.Text(), nullable=True))
    op.add_column("webhook_events", sa.Column("traceparent", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("webhook_events", "traceparent")
    op.drop_column("batches", "traceparent")
    op.drop_index("ix_batches_open", table_name="batches")
    op.drop_index("ix_jobs_ended", table_name="jobs")
    op.drop_index("ix_attempts_ended", table_name="attempts")
    op.drop_table("metrics")
