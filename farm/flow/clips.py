"""Which clips a prepared set holds: its manifest names them, however they are spread over shards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from farm.errors import Rejected
from farm.flow.schedules import Counted
from farm.storage import keys
from farm.storage.blobs import BlobStore, Missing, open_store

MANIFEST: Final = "manifest.json"
MOST_BYTES: Final = 256 << 20
"""Of a manifest; a clip takes some 100 of them."""


def count(store: BlobStore, schedule: str, uri: str, known: str | None, endpoint_url: str | None = None) -> Counted:
    """The clips of the prepared set at `uri` beside those of an earlier list. store: the farm's own, where lists are
    kept; known: key of that list, None: there is none, and every clip is new.

    Raises Rejected("dataset_missing", "dataset_invalid"), Transient.
    """
    now = _named(_manifest(open_store(uri, endpoint_url), uri))
    before = set(store.get_bytes(known).decode().split()) if known is not None else set[str]()
    text = "\n".join(sorted(now)).encode()
    key = keys.clips(schedule, hashlib.sha256(text).hexdigest())
    store.put_bytes(text, key)
    return Counted(len(now - before), key)


def _manifest(data: BlobStore, uri: str) -> bytes:
    try:
        size = data.stat(MANIFEST).size_bytes
        if size > MOST_BYTES:
            raise Rejected("dataset_invalid", f"the manifest at {uri} has {size} bytes, {MOST_BYTES} are read at most")
        return data.get_bytes(MANIFEST)
    except Missing:
        raise Rejected("dataset_missing", f"there is no prepared set at {uri}: no {MANIFEST}") from None


def _named(manifest: bytes) -> set[str]:
    """A short digest of each clip: the file that it was cut from, and where in it."""
    try:
        document: Any = json.loads(manifest)
        return {
            hashlib.sha256(json.dumps(clip).encode()).hexdigest()[:16]
            for shard in document["shards"]
            for clip in _clips(shard)
        }
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Rejected("dataset_invalid", f"its {MANIFEST} is none of a prepared set: {error!r}") from None


def _clips(shard: Mapping[str, Any]) -> Iterator[list[Any]]:
    for clip in shard["clips"]:
        yield [clip["identity"], clip["video"], clip["clip"], clip["first_s"]]
