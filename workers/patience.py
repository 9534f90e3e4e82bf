"""A store that does not answer is asked again for a while before the chunk is given up.

The lease is kept meanwhile: a worker whose farm has lost its store has nothing better to do, and an outage of a minute
should cost no job its retries.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

from farm import log
from farm.errors import Transient

logger = log.get(__name__)

T = TypeVar("T")

PATIENCE_S: Final = 120.0
LONGEST_PAUSE_S: Final = 10.0
PATIENT_WITH: Final = frozenset({"storage_unavailable", "storage_full"})


def patiently(step: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
    """The result of `step`, one call of a BlobStore, repeated with growing pauses; its last Transient in the end."""
    until, pause_s = time.monotonic() + patience_s, 0.25
    while True:
        try:
            return step()
        except Transient as error:
            if error.code not in PATIENT_WITH or time.monotonic() + pause_s > until:
                raise
            logger.warning("the store did not answer, asking again", pause_s=pause_s, error=str(error))
            time.sleep(pause_s * (0.5 + 0.5 * random.random()))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
