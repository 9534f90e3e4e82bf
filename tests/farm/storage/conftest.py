"""A store on an S3 server in this process."""

from __future__ import annotations

import os

import pytest

from farm.storage.s3 import S3Store, connect


@pytest.fixture
def s3_store(own_s3_url: str) -> S3Store:
    client = connect(own_s3_url)
    if "farm" not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket="farm")
    return S3Store(client, "farm", f"run-{os.urandom(4).hex()}")
