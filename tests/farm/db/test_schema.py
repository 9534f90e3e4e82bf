"""The migrations make exactly the tables that the rows describe."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from alembic import command
from farm.db import migrate
from farm.db.rows import Row
from farm.db.session import Database

CATALOG = """
select 'column', c.table_name, c.column_name, c.data_type, c.is_nullable,
    coalesce(c.column_default, c.identity_generation)
from information_schema.columns c where c.table_schema = 'public' and c.table_name <> 'alembic_version'
union all
select 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', ''
from pg_constraint where connamespace = 'public'::regnamespace and conrelid <> 0
    and conrelid::regclass::text <> 'alembic_version'
union all
select 'index', tablename, indexname, indexdef, '', ''
from pg_indexes where schemaname = 'public' and tablename <> 'alembic_version'
order by 1, 2, 3
"""


@contextmanager
def _fresh_database(server: str) -> Iterator[sa.Engine]:
    name = f"dubfarm_schema_{secrets.token_hex(4)}"
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine = sa.create_engine(sa.engine.make_url(server).set(database=name), poolclass=sa.NullPool)
    try:
        yield engine
    finally:
        with admin.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


def test_migrated_schema_equals_the_rows(database_server: str, database_url: str) -> None:
    migrated = sa.create_engine(database_url, poolclass=sa.NullPool)
    with _fresh_database(database_server) as made, migrated.connect() as one, made.connect() as other:
        Row.metadata.create_all(made)
        assert [tuple(row) for row in one.execute(sa.text(CATALOG))] == [
            tuple(row) for row in other.execute(sa.text(CATALOG))
        ]
        context = MigrationContext.configure(one, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Row.metadata) == []


def test_upgrade_can_be_repeated_and_undone(database_server: str) -> None:
    with _fresh_database(database_server) as engine:
        url = engine.url.render_as_string(hide_password=False)
        database = Database(engine)
        assert not migrate.is_current(database)
        migrate.upgrade(url)
        migrate.upgrade(url)
        assert migrate.is_current(database)
        with engine.begin() as connection:
            command.downgrade(migrate.config(connection), "-1")
            before = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one()
        assert not migrate.is_current(database)
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = 'a newer one'"))
        assert migrate.is_current(database), "old code must stay ready while newer code is rolled out"
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = :at"), {"at": before})
        with engine.begin() as connection:
            command.downgrade(migrate.config(connection), "base")
        with engine.connect() as connection:
            assert connection.execute(sa.text(CATALOG)).all() == []
