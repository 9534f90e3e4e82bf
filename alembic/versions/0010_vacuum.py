"""Rows that each claim rewrites are vacuumed by their number of changes, not by a share of a table of millions.

At the default of a fifth, a backlog of a million chunks gathers 200,000 dead entries at the head of ix_chunks_claim,
which every claim reads first.
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

OFTEN = {
    "autovacuum_vacuum_scale_factor": "0.005",
    "autovacuum_vacuum_threshold": "500",
    "autovacuum_analyze_scale_factor": "0.02",
    "autovacuum_vacuum_cost_delay": "0",
}
TABLES = ("chunks", "attempts", "shares")


def upgrade() -> None:
    said = ", ".join(f"{name} = {value}" for name, value in OFTEN.items())
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} SET ({said})")


def downgrade() -> None:
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} RESET ({', '.join(OFTEN)})")
