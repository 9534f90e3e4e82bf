"""What a farm needs before its processes start: the schema, one tenant with a key, and a champion to render with."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from farm.db import migrate
from farm.db.session import Database, connect
from farm.domain.tenant import Scope
from farm.domain.version import CHAMPION
from farm.embedded import process
from farm.embedded.address import Address
from farm.errors import Rejected
from farm.flow import keys, versions
from farm.settings import FarmSettings
from farm.storage import keys as object_keys
from farm.storage.blobs import open_store

TENANT = "embedded"
ACTOR = "embedded farm"
SHIPPED = Path(__file__).resolve().parent.parent / "nets" / "shipped"
"""Bundles that come with the package, a folder each."""
SEED_S = 300.0


def prepare(
    settings: FarmSettings,
    earlier: Address | None,
    environment: Mapping[str, str],
    logs: Path,
    say: Callable[[str], None],
) -> str:
    """Bring schema, tenant and champion up to date; returns an API key, the earlier one while it still holds."""
    migrate.upgrade(settings.database_url)
    database = connect(settings.database_url, pool_size=1)
    try:
        key = _key(database, earlier)
        with database.transaction() as session:
            champion = versions.resolve(session, CHAMPION)
        if champion is None:
            _crown(database, settings, environment, logs, say)
    finally:
        database.close()
    return key


def _key(database: Database, earlier: Address | None) -> str:
    with database.transaction() as session:
        tenant = keys.ensure_tenant(session, TENANT)
        if earlier is not None:
            holder = keys.verify(session, earlier.key)
            if holder is not None and holder.tenant_id == tenant:
                return earlier.key
        return keys.create(session, tenant, ACTOR, [Scope.ADMIN]).text


def _crown(
    database: Database,
    settings: FarmSettings,
    environment: Mapping[str, str],
    logs: Path,
    say: Callable[[str], None],
) -> None:
    """Store the shipped bundle (else an untrained one, made here) and make it champion."""
    shipped = sorted(manifest.parent for manifest in SHIPPED.glob("*/manifest.json"))
    if shipped:
        say(f"registering the built-in model {shipped[0].name}")
        _register(database, settings, shipped[0])
        return
    say("making the built-in model (tiny, untrained)")
    making = Path(tempfile.mkdtemp(prefix="dubfarm-bundle-"))
    try:
        # In a process of its own: this one stays free of torch.
        log = logs / "seed.log"
        child = process.spawn([sys.executable, "-m", "farm.embedded.seed", making / "bundle"], log, env=environment)
        if child.wait(SEED_S) != 0:
            raise process.not_started("Making the built-in model", log)
        _register(database, settings, making / "bundle")
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _register(database: Database, settings: FarmSettings, bundle: Path) -> None:
    raw = (bundle / "manifest.json").read_bytes()
    manifest = json.loads(raw)
    digest = hashlib.sha256(raw).hexdigest()
    store = open_store(settings.storage_url, settings.storage_endpoint_url)
    folder = object_keys.bundle(digest)
    for path in sorted(path for path in bundle.rglob("*") if path.is_file()):
        store.put_file(path, object_keys.bundle_file(folder, path.relative_to(bundle).as_posix()))
    for name in (str(manifest["name"]), f"{manifest['name']}-{digest[:8]}"):
        try:
            with database.transaction() as session:
                version = versions.register(
                    session, name=name, bundle_key=folder, bundle_sha256=digest, manifest=manifest
                )
                versions.promote(session, CHAMPION, version.id, actor=ACTOR)
            return
        except Rejected as error:  # a database from outside may use the name for other weights
            if error.code != "version_name_taken":
                raise
