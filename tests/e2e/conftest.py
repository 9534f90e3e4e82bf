"""What a whole farm runs on: its own services, or those that the environment names; and an S3 server."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping

import pytest


@pytest.fixture
def services(request: pytest.FixtureRequest) -> Mapping[str, str]:
    """The variables of the outside services that this run is given, with a database of the test's own."""
    return _services(request)


@pytest.fixture(scope="module")
def module_services(request: pytest.FixtureRequest) -> Mapping[str, str]:
    """The same for the tests of a module together."""
    return _services(request)


def _services(request: pytest.FixtureRequest) -> Mapping[str, str]:
    named: dict[str, str] = {}
    if os.environ.get("DATABASE_URL"):
        new_database: Callable[[], str] = request.getfixturevalue("new_database")
        named["DATABASE_URL"] = new_database()
    if broker := os.environ.get("BROKER_URL"):
        named["BROKER_URL"] = broker
    if os.environ.get("STORAGE_URL"):
        named["STORAGE_URL"] = request.getfixturevalue("storage_url")
    if endpoint := request.getfixturevalue("storage_endpoint_url"):
        named["STORAGE_ENDPOINT_URL"] = endpoint
    return named


@pytest.fixture
def on_s3(services: Mapping[str, str], request: pytest.FixtureRequest) -> Mapping[str, str]:
    """The same with an S3 server: the one that the run is given, else our own, without its bucket."""
    if services.get("STORAGE_URL", "").startswith("s3://"):
        return services
    endpoint: str = request.getfixturevalue("own_s3_url")
    return {**services, "STORAGE_URL": f"s3://dubfarm-{secrets.token_hex(4)}/farm", "STORAGE_ENDPOINT_URL": endpoint}
