"""When what a lost attempt had stored was swept, and what finds the attempts that are due."""

import sqlalchemy as sa

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

LOST = sa.text("outcome IN ('failed', 'returned') AND swept_at IS NULL")


def upgrade() -> None:
    op.add_column("attempts", sa.Column("swept_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_attempts_strays", "attempts", ["finished_at"], postgresql_where=LOST)


def downgrade() -> None:
    op.drop_index("ix_attempts_strays", table_name="attempts")
    op.drop_column("attempts", "swept_at")
