"""Reading only what changed, without a gap."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import text

from farm.db.session import Session


def safe_since(session: Session) -> datetime:
    """A time before which nothing can appear any more, for the next `updated_since`.

    Rows carry the time at which their transaction began, and show when it commits: what a transaction that is open now
    will show may be older than what was read. Read this before the rows. A second of margin covers a transaction that
    has taken its time and is not yet seen in the list of open ones.
    """
    begun = text(
        "SELECT least(clock_timestamp() - interval '1 second', min(xact_start)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    return session.scalars(begun).one()
