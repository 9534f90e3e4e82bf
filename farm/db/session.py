"""Connections and transactions."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, LiteralString, cast

import psycopg
from psycopg.rows import namedtuple_row
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, OperationalError, TimeoutError
from sqlalchemy.orm import Session, sessionmaker

from farm.errors import LeaseLost, Transient

__all__ = ["Database", "Session", "connect", "driver_url", "run"]

_AWAY: Final = (OperationalError, InterfaceError, psycopg.OperationalError, psycopg.InterfaceError)

RESTED_S: Final = 1.0
"""A connection that was used a moment ago is not asked whether it lives: that is a round trip too."""


def driver_url(url: str) -> str:
    """Any postgres url, spelled for psycopg 3."""
    parsed = make_url(url)
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    return parsed.render_as_string(hide_password=False)


class Database:
    """A pool of connections. Safe to share between threads; make one a process, after any fork."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._sessions = sessionmaker(engine, expire_on_commit=False)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """One transaction: committed at the end of the block, rolled back when it raises.

        LeaseLost commits too: the verb that raises it has written down why the lease ended. Raises
        Transient("database_unavailable") when the server is away or had to break off the transaction.
        """
        lost: LeaseLost | None = None
        try:
            with self._sessions() as session, session.begin():
                try:
                    yield session
                except LeaseLost as error:
                    lost = error
        except (*_AWAY, TimeoutError) as error:
            raise Transient("database_unavailable", str(getattr(error, "orig", None) or error).strip()) from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise Transient("database_unavailable", str(error.orig)) from error
            raise
        if lost is not None:
            raise lost

    def alone(self, statement: LiteralString, values: Mapping[str, Any]) -> list[Any]:
        """Rows, by name, of one statement that is a transaction of its own: one round trip where `transaction` takes
        three. Raises as `transaction` does; whether it was committed is then unknown."""
        try:
            connection = self.engine.raw_connection()
            try:
                driver = cast("psycopg.Connection[Any]", connection.driver_connection)
                driver.autocommit = True
                try:
                    return _rows(driver, statement, values)
                finally:
                    if not driver.closed:
                        driver.autocommit = False
            except psycopg.Error as error:
                connection.invalidate(error)
                raise
            finally:
                connection.close()
        except (*_AWAY, TimeoutError) as error:
            raise Transient("database_unavailable", str(error).strip()) from error

    def ping(self) -> None:
        """Raises Transient unless the database answers."""
        with self.transaction() as session:
            session.execute(text("select 1"))

    def close(self) -> None:
        self.engine.dispose()


def run(session: Session, statement: LiteralString, values: Mapping[str, Any]) -> list[Any]:
    """Rows, by name, of a statement in psycopg's spelling (%(name)s), in the session's transaction.

    For what every claim and settle says: SQLAlchemy's way to the server costs more than the server's answer
    (docs/decisions/hot-statements.md). psycopg prepares what it meets often.
    """
    connection = session.connection()
    driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    try:
        return _rows(driver, statement, values)
    except psycopg.Error as error:
        if driver.closed:
            connection.invalidate(error)
        raise


def _rows(driver: psycopg.Connection[Any], statement: LiteralString, values: Mapping[str, Any]) -> list[Any]:
    with driver.cursor(row_factory=namedtuple_row) as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


def connect(url: str, *, pool_size: int = 10, timeout_s: float = 30.0) -> Database:
    """A database handle; connects lazily. Connections that died with a server restart are replaced unseen."""
    engine = create_engine(
        driver_url(url),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=timeout_s,
        connect_args={
            "connect_timeout": 10,
            "options": "-c timezone=UTC",
            "application_name": "dubfarm",
            # A server that is gone without a word (partition, power) is noticed in seconds, not in many minutes.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
        },
    )
    event.listen(engine, "checkin", _put_back)
    event.listen(engine, "checkout", _look)
    return Database(engine)


def _put_back(_connection: Any, record: Any) -> None:
    record.info["used_at"] = time.monotonic()


def _look(connection: Any, record: Any, _proxy: Any) -> None:
    """Ask a connection that has rested for a sign of life; the pool replaces it where there is none."""
    if time.monotonic() - record.info.get("used_at", time.monotonic()) < RESTED_S:
        return
    try:
        connection.execute("")
        connection.rollback()
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise DisconnectionError from error
