"""What a farm needs before its processes start: schema, storage, a tenant with a key, a champion to render with."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import util
from pathlib import Path
from urllib.parse import quote

from farm.db import migrate
from farm.db.session import Database, connect
from farm.domain.tenant import Actor, Scope
from farm.domain.version import CHAMPION, Version
from farm.embedded import process
from farm.embedded.address import Address
from farm.errors import Rejected
from farm.flow import keys, versions
from farm.flow.register import register
from farm.settings import FarmSettings
from farm.storage.blobs import open_store

TENANT = "embedded"
ACTOR = "first start"
SHIPPED = Path(__file__).resolve().parent.parent / "nets" / "shipped"
"""Bundles that come with the package, a folder each."""
SEED_S = 300.0
Say = Callable[[str], None]


@dataclass(frozen=True)
class Ready:
    """champion: name of the version that new jobs get; None where there is none and none could be made here."""

    champion: str | None


def set_up(settings: FarmSettings, say: Say, logs: Path | None = None) -> Ready:
    """Bring schema, bucket and champion up to date."""
    migrate.upgrade(settings.database_url)
    _make_bucket(settings)
    database = connect(settings.database_url, pool_size=1)
    try:
        with database.transaction() as session:
            champion = versions.resolve(session, CHAMPION)
        return Ready(champion.name if champion is not None else _crown(database, settings, say, logs))
    finally:
        database.close()


def owner_key(settings: FarmSettings, earlier: Address | None) -> str:
    """The key of the embedded farm's owner: the earlier one while it holds."""
    database = connect(settings.database_url, pool_size=1)
    try:
        with database.transaction() as session:
            # Whoever starts the farm runs it, also on a database that others used before.
            tenant = keys.ensure_tenant(session, TENANT, operator=True)
            if earlier is not None:
                holder = keys.verify(session, earlier.key)
                if holder is not None and holder.tenant_id == tenant:
                    return earlier.key
            return keys.create(session, tenant, "owner of the embedded farm", [Scope.ADMIN]).text
    finally:
        database.close()


def new_key(settings: FarmSettings, tenant_name: str) -> str:
    """A new key with all scopes for a tenant, made if new."""
    database = connect(settings.database_url, pool_size=1)
    try:
        with database.transaction() as session:
            tenant = keys.ensure_tenant(session, tenant_name)
            return keys.create(session, tenant, ACTOR, [Scope.ADMIN]).text
    finally:
        database.close()


def _make_bucket(settings: FarmSettings) -> None:
    """Make the bucket of an s3:// storage if it is not there and we may."""
    if not settings.storage_url.startswith("s3://"):
        return
    from botocore.exceptions import ClientError

    from farm.storage.s3 import connect

    bucket = settings.storage_url.removeprefix("s3://").split("/")[0]
    s3 = connect(settings.storage_endpoint_url or None)
    try:
        s3.head_bucket(Bucket=bucket)
        return
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise Rejected("bucket_refused", f"bucket {bucket}: {error}") from None
    region = s3.meta.region_name
    place = {"CreateBucketConfiguration": {"LocationConstraint": region}} if region not in ("us-east-1", None) else {}
    s3.create_bucket(Bucket=bucket, **place)


def _crown(database: Database, settings: FarmSettings, say: Say, logs: Path | None) -> str | None:
    """Store the shipped bundle (else an untrained one, made here) and make it champion."""
    shipped = sorted(manifest.parent for manifest in SHIPPED.glob("*/manifest.json"))
    if shipped:
        say(f"registering the built-in model {shipped[0].name}")
        return _register(database, settings, shipped[0]).name
    if util.find_spec("torch") is None:
        return None
    say("making the built-in model (tiny, untrained)")
    making = Path(tempfile.mkdtemp(prefix="dubfarm-bundle-"))
    try:
        # In a process of its own: this one stays free of torch.
        log = (logs or making) / "seed.log"
        command = [sys.executable, "-m", "farm.embedded.seed", making / "bundle"]
        if process.spawn(command, log, env={**os.environ, "PYTHONPATH": _package()}).wait(SEED_S) != 0:
            raise process.not_started("Making the built-in model", log)
        return _register(database, settings, making / "bundle").name
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _register(database: Database, settings: FarmSettings, bundle: Path) -> Version:
    store = open_store(settings.storage_url, settings.storage_endpoint_url)
    raw = (bundle / "manifest.json").read_bytes()
    name, digest = str(json.loads(raw)["name"]), hashlib.sha256(raw).hexdigest()
    take = partial(register, database, store, f"file://{quote(str(bundle.resolve()))}")
    try:
        version = take(name=name).version
    except Rejected as error:  # a database from outside may use the name for other weights
        if error.code != "version_name_taken":
            raise
        version = take(name=f"{name}-{digest[:8]}").version
    with database.transaction() as session:
        return versions.promote(session, CHAMPION, version.id, actor=Actor(ACTOR))


def _package() -> str:
    """PYTHONPATH for children: the package may lie in a folder that is not installed."""
    root = str(Path(__file__).resolve().parent.parent.parent)
    return os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
