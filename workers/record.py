"""What is left behind of an attempt for people: its span, its lines in the log, and these in the store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from farm import log, trace
from farm.domain.chunk import Lease
from farm.domain.order import Order
from farm.storage import keys
from farm.storage.blobs import BlobStore

logger = log.get(__name__)


@contextmanager
def traced(order: Order, asked_ns: int) -> Iterator[None]:
    """Around an attempt: its ids on every line, and a span named after its work, below the batch's submission, that
    begins with the claim. asked_ns: unix time before the claim."""
    lease = order.lease
    ids = {"batch": lease.batch_id, "job": lease.job_id, "chunk": lease.chunk_id, "attempt": lease.attempt}
    ids |= {"version": order.version_id}
    marks = {f"dubfarm.{name}": value for name, value in ids.items()}
    with trace.span(lease.work.value, parent=order.traceparent, start_ns=asked_ns, **marks), log.bound(**ids):
        trace.past("claim", asked_ns, time.time_ns())
        yield


def keep_log(lines: log.Lines, lease: Lease, store: BlobStore) -> None:
    """Store the attempt's lines beside what it made. A log that is not stored is only a log."""
    try:
        store.put_bytes(lines.text().encode(), keys.log(lease.job_id, lease.chunk_id, lease.token))
    except Exception as error:
        logger.warning("an attempt's log was not stored", chunk=lease.chunk_id, error=str(error))
