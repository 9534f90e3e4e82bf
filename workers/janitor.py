"""The control worker's sweep of media that are past their time: a thread of its own, a little at a time."""

from __future__ import annotations

import threading
from typing import Final

from farm import log
from farm.db.session import Database
from farm.domain.retention import Retention
from farm.errors import Transient
from farm.flow import retain
from farm.storage.blobs import BlobStore

REST_S: Final = 60.0
SHARDS: Final = 256

_log = log.get(__name__)


class Janitor:
    """Goes round while there is something to erase, and every REST_S else. Killing it anywhere harms nothing."""

    def __init__(self, database: Database, store: BlobStore, kept: Retention, rest_s: float = REST_S) -> None:
        self._database, self._store, self._kept, self._rest_s = database, store, kept, rest_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="janitor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        shard = 0
        while not self._ended.is_set():
            erased = 0
            try:
                for count in retain.round_of(self._database.transaction, self._store, self._kept):
                    erased += count
                    if self._ended.is_set():
                        return
                erased += retain.adopt(self._database.transaction, self._store, shard)
                shard = (shard + 1) % SHARDS
            except Transient as error:
                _log.warning("media not swept, the next round goes on", code=error.code, detail=error.detail)
                erased = 0
            except Exception:
                _log.exception("bug")
                erased = 0
            if erased:
                _log.info("media erased", count=erased)
            self._ended.wait(1.0 if erased else self._rest_s)
