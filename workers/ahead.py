"""The inputs of the next chunk come while this one is rendered, without a lease on it: a hint, no promise."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable

from farm import log
from farm.domain.chunk import Lease
from farm.domain.order import Foreseen
from workers.inputs import Inputs

logger = log.get(__name__)


class Ahead:
    """One look ahead at a time. What fails is only logged: the chunk that needs a file fetches it itself.

    foresee: what the worker will probably need after this lease; None when that is here already or nobody knows.
    """

    def __init__(self, inputs: Inputs, foresee: Callable[[Lease], Foreseen | None]) -> None:
        self._inputs, self._foresee = inputs, foresee
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, lease: Lease) -> None:
        """Returns at once. A look that is still going on is left alone."""
        if self._stopping.is_set() or (self._thread is not None and self._thread.is_alive()):
            return
        self._thread = threading.Thread(target=self._look, args=(lease,), name="ahead", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No further file. One that is on its way is left to end by itself, unheeded."""
        self._stopping.set()

    def wait(self, timeout_s: float) -> bool:
        """Whether no look is going on any more."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self._thread is None or not self._thread.is_alive()

    def _look(self, lease: Lease) -> None:
        try:
            found = self._foresee(lease)
            if found is None:
                return
            for blob in found.blobs:
                if self._stopping.is_set():
                    return
                self._inputs.bring(blob)
            scratch = self._inputs.scratch()
            try:
                self._inputs.bundle(found.bundle_key, found.bundle_sha256, scratch)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        except Exception as error:
            logger.info("the next chunk's inputs were not brought ahead", error=str(error))
