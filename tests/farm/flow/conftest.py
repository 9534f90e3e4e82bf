"""A small farm of rows for the verbs."""

from __future__ import annotations

import pytest

from farm.db.session import Database
from farm.domain.tenant import Actor
from farm.flow import keys, versions
from tests.small_farm import Fleet


@pytest.fixture
def fleet(database: Database) -> Fleet:
    with database.transaction() as session:
        tenant = keys.ensure_tenant(session, "studio")
        version = versions.register(
            session,
            name="v1",
            bundle_key="bundles/x",
            bundle_sha256="dd",
            manifest={"trained": False, "licence": "any"},
        )
        versions.promote(session, "champion", version.id, actor=Actor("test"))
    return Fleet(database, tenant, version.id)
