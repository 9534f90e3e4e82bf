"""What a whole farm runs on: its own services, or those that the environment names; and an S3 server."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping

import pytest


@pytest.fixture
def services(request: pytest.FixtureRequest, storage_url: str, storage_endpoint_url: str | None) -> Mapping[str, str]:
    """The variables of the outside services that this run is given, with a database of the test's own."""
    named: dict[str, str] = {}
    if os.environ.get("DATABASE_URL"):
        new_database: Callable[[], str] = request.getfixturevalue("new_database")
        named["DATABASE_URL"] = new_database()
    if broker := os.environ.get("BROKER_URL"):
        named["BROKER_URL"] = broker
    if os.environ.get("STORAGE_URL"):
        named["STORAGE_URL"] = storage_url
    if storage_endpoint_url:
        named["STORAGE_ENDPOINT_URL"] = storage_endpoint_url
    return named


@pytest.fixture
def on_s3(services: Mapping[str, str], request: pytest.FixtureRequest) -> Mapping[str, str]:
    """The same with an S3 server: the one that the run is given, else our own, without its bucket."""
    if services.get("STORAGE_URL", "").startswith("s3://"):
        return services
    endpoint: str = request.getfixturevalue("own_s3_url")
    return {**services, "STORAGE_URL": f"s3://dubfarm-{secrets.token_hex(4)}/farm", "STORAGE_ENDPOINT_URL": endpoint}
