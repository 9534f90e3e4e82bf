"""Every service restarts, one after another, under load, with a migration in between: nobody is turned away."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from farm.db import migrate
from tests.faults.field import Field
from tests.faults.load import Caller

pytestmark = pytest.mark.timeout(900)

NEXT = """
from alembic import op
import sqlalchemy as sa

revision = "next"
down_revision = "{head}"


def upgrade():
    for table in ("batches", "jobs", "chunks", "attempts", "workers", "events", "tenants"):
        op.add_column(table, sa.Column("of_the_next_version", sa.Text, nullable=True))
        op.add_column(table, sa.Column("counted_by_the_next_version", sa.Integer, nullable=False, server_default="0"))
    op.create_table("of_the_next_version", sa.Column("id", sa.Text, primary_key=True))
    op.create_index("of_the_next_version_1", "jobs", ["of_the_next_version"])


def downgrade():
    op.drop_table("of_the_next_version")
    for table in ("batches", "jobs", "chunks", "attempts", "workers", "events", "tenants"):
        op.drop_column(table, "of_the_next_version")
        op.drop_column(table, "counted_by_the_next_version")
"""


def test_every_service_is_renewed_under_load(hurt: Field, tmp_path: Path) -> None:
    """The schema goes ahead of the code, as in a rolling upgrade: what runs is the older one."""
    scripts = tmp_path / "alembic"
    shutil.copytree(migrate.SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    head = ScriptDirectory(str(scripts)).get_current_head()
    (scripts / "versions" / "9999_next.py").write_text(NEXT.replace("{head}", str(head)))
    before = hurt.farm.processes()
    with Caller(hurt.address.url, hurt.address.key, hurt.items("dub", "still")) as caller:
        caller.submit_soon()
        hurt.until(lambda: len(caller.batches) == 1)
        hurt.rendering(caller.batches[0])
        migrate.upgrade(hurt.address.database_url, scripts=scripts)
        caller.submit_soon()
        hurt.farm.renew()
        caller.submit_soon()
    after = hurt.farm.processes()
    print(f"{caller.requests} requests, {caller.resets} repeated, the slowest took {caller.slowest_s:.1f} s")
    assert caller.failed == [], hurt.logs()
    assert len(caller.batches) == 3
    assert {name for name in before if after.get(name) == before[name]} == set()
    for batch in caller.batches:
        hurt.finished(batch)
        assert set(hurt.reasons(batch)) <= {"preempted"}
