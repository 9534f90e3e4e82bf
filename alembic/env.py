"""Runs migrations on the connection that farm.db.migrate hands over, or on DATABASE_URL for the alembic command."""

import os

from sqlalchemy import Connection, create_engine

from alembic import context
from farm.db.rows import Row
from farm.db.session import driver_url


def run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Row.metadata, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()


handed = context.config.attributes.get("connection")
if handed is not None:
    run(handed)
else:
    with create_engine(driver_url(os.environ["DATABASE_URL"])).begin() as own:
        run(own)
