"""What a whole farm runs on: its own services, or those that the environment names; and an S3 server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

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
def on_s3(services: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """The same with an S3 server: the run's own, else one on loopback, without its bucket."""
    if services.get("STORAGE_URL", "").startswith("s3://"):
        credentials = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        yield {**services, **credentials}
        return
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        **services,
        "STORAGE_URL": "s3://dubfarm/farm",
        "STORAGE_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }
    server.stop()
