"""The farm's first start: whose key it prints."""

from __future__ import annotations

from farm.db.session import Database
from farm.domain.tenant import Scope
from farm.embedded import first_start
from farm.flow import keys
from farm.settings import FarmSettings


def test_who_starts_the_farm_runs_it(database: Database, database_url: str) -> None:
    """Also on a database that other tenants used before, and with a key of then."""
    with database.transaction() as session:
        other = keys.create(session, keys.ensure_tenant(session, "was here first"), "key", [Scope.ADMIN])
    text = first_start.owner_key(FarmSettings(database_url=database_url), None)
    with database.transaction() as session:
        found = keys.verify(session, text)
        first = keys.verify(session, other.text)
        assert found is not None
        assert first is not None
        assert (found.is_operator, found.may(Scope.ADMIN), first.is_operator) == (True, True, True)
        assert keys.verify(session, keys.create(session, keys.ensure_tenant(session, "new"), "k", []).text) is not None
        again = keys.ensure_tenant(session, "new")
        later = keys.verify(session, keys.create(session, again, "k", [Scope.ADMIN]).text)
        assert later is not None
        assert not later.is_operator
