"""Media are kept as long as the farm's policy says, and erased for good then, or when their tenant asks.

A class of a job's media counts as erased from a commit on, under the job's lock; its objects are deleted after that. So
a killed sweep leaves objects that the next one finds, and no job that goes on ever loses one: only ended jobs are
marked, and a job that is marked cannot be taken up again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Final

from farm.db import media
from farm.db.media import Remains, Stray
from farm.db.session import Session
from farm.domain.retention import Retention
from farm.storage import keys
from farm.storage.blobs import BlobStore

LATE_S: Final = 3600.0
"""A worker that lost its lease may write for so long; what it wrote is swept in a second round."""

Transaction = Callable[[], AbstractContextManager[Session]]


def round_of(
    transaction: Transaction, store: BlobStore, kept: Retention, limit: int = 100, late_s: float = LATE_S
) -> Iterator[int]:
    """One bounded round, a step at a time; each says how many things it erased. Stop between steps as you like.

    late_s: who lost its lease so long ago writes no more.

    Safe in any number of processes at once. Raises Transient; what is left, the next round finds.
    """
    for name, days in (("chunks", kept.chunks), ("previews", kept.previews), ("outputs", kept.outputs)):
        with transaction() as session:
            yield len(media.erase_due(session, name, days, limit))
    with transaction() as session:
        due = media.to_sweep(session, limit)
    for remains in due:
        yield sweep_job(transaction, store, remains, late_s)
    with transaction() as session:
        lost = media.strays(session, late_s, limit)
    for stray in lost:
        yield sweep_stray(transaction, store, stray)
    with transaction() as session:
        yield media.expire_assets(session, kept.assets, limit)
    with transaction() as session:
        uploads = media.uploads_due(session, kept.uploads, limit)
    for asset_id in uploads:
        yield sweep_upload(transaction, store, asset_id)
    with transaction() as session:
        inputs = media.inputs_due(session, kept.inputs, limit)
    for key in inputs:
        yield sweep_input(transaction, store, key)
    with transaction() as session:
        yield media.forget_events(session, kept.events, 100 * limit)


def sweep_job(transaction: Transaction, store: BlobStore, remains: Remains, late_s: float = LATE_S) -> int:
    """Delete what of an ended job's objects does not remain."""
    count = 0
    if remains.erased_output_key is not None:
        store.delete(remains.erased_output_key)
    for found in list(store.list(keys.job(remains.job_id))):
        is_kept = found.key in (remains.output_key, remains.preview_key)
        if not is_kept and (not remains.chunks or (remains.preview_key is None and keys.is_preview(found.key))):
            store.delete(found.key)
            count += 1
    with transaction() as session:
        media.swept(session, remains.job_id, late_s)
    return count


def sweep_stray(transaction: Transaction, store: BlobStore, stray: Stray) -> int:
    """What an attempt had stored that ended without a commit: nothing names it, so nothing misses it.

    Its log stays as long as the job's chunks do, and so does its picture while that is the newest of its chunk or job.
    """
    log, count = keys.log(stray.job_id, stray.chunk_id, stray.token), 0
    for found in list(store.list(keys.of_attempt(stray.job_id, stray.chunk_id, stray.token))):
        if found.key != log and found.key not in stray.kept:
            store.delete(found.key)
            count += 1
    with transaction() as session:
        media.stray_swept(session, stray.token)
    return count


def sweep_upload(transaction: Transaction, store: BlobStore, asset_id: str) -> int:
    """An upload that was never completed."""
    with transaction() as session:
        if not media.expire_pending(session, asset_id):
            return 0
        for found in list(store.list(keys.upload(asset_id))):
            store.delete(found.key)
    return 1


def sweep_input(transaction: Transaction, store: BlobStore, key: str) -> int:
    """Delete an input under its row's lock, so that nobody can come to rely on it meanwhile."""
    with transaction() as session:
        if not media.hold_unneeded(session, key):
            return 0
        for found in list(store.list(keys.made_of_input(key.rpartition("/")[2]))):
            store.delete(found.key)
        store.delete(key)
        media.set_swept(session, key)
    return 1


def adopt(transaction: Transaction, store: BlobStore, shard: int) -> int:
    """Inputs of one of 256 shards of the store that no row knows (a worker died between storing and saying so): from
    now on their time runs."""
    found = [stat.key for stat in store.list(keys.inputs(shard))]
    with transaction() as session:
        return media.adopt(session, found)
