"""Which `Reason` an exception is: the one place that decides, for parent and child alike."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from farm.domain.chunk import Failure, Reason
from farm.errors import Rejected, Transient

DETAIL_LIMIT = 4000
DISK_FULL = "disk_full"
DAMAGED: Final = frozenset({"bundle_corrupt", "bundle_missing"})
"""What loading a bundle says of files that are not those of its manifest: of a machine's copy, not of the version."""


class Failed(Exception):
    """An attempt ended with this failure; carries what the worker reports."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure

    def __str__(self) -> str:
        return f"{self.failure.reason}: {self.failure.code}: {self.failure.detail}"


def failure_of(error: BaseException) -> Failure:
    """What to report for `error`. LeaseLost and Aborted never come here: they are not failures."""
    if isinstance(error, Failed):
        return error.failure
    if isinstance(error, Rejected):
        return Failure(Reason.BAD_INPUT, error.code, error.detail)
    if isinstance(error, Transient):
        return Failure(Reason.TRANSIENT, error.code, error.detail)
    if _is_out_of_memory(error):
        return Failure(Reason.OOM, "out_of_memory", _tail(error))
    if type(error).__name__ == "OutputCheckFailed":
        return Failure(Reason.OUTPUT_CHECK_FAILED, "output_check_failed", str(error))
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure(Reason.TRANSIENT, DISK_FULL, f"the worker's disk is full: {error}")
    return Failure(Reason.BUG, "bug", _tail(error))


def exit_failure(code: int | None, tail: str, *, for_memory: bool = False) -> Failure:
    """What to report for a child that ended by itself with `code` (negative: the signal that killed it). for_memory:
    the kernel has killed somebody for want of memory meanwhile."""
    if code == -9 and for_memory:
        return Failure(
            Reason.OOM, "memory_killed", f"the kernel killed the engine's process for want of memory. {tail}"
        )
    if code is not None and code in (-9, -15, -1, -2):
        return Failure(
            Reason.WORKER_LOST, "engine_killed", f"the engine's process was killed by signal {-code}. {tail}"
        )
    how = f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"
    return Failure(Reason.BUG, "engine_died", f"the engine's process died with {how}. {tail}")


def bundle_failed(error: Rejected) -> Failed:
    """What a refused bundle is to the job that pinned it: never its input's fault. A damaged copy comes again; weights
    that are what was registered are of no use to any worker."""
    reason = Reason.TRANSIENT if error.code in DAMAGED else Reason.BAD_BUNDLE
    return Failed(Failure(reason, error.code, f"the job's model: {error.detail}"))


@contextmanager
def about(what: str) -> Iterator[None]:
    """Say which of the job's files a refusal is about."""
    try:
        yield
    except Rejected as error:
        raise Rejected(error.code, f"{what}: {error.detail}") from error


def _is_out_of_memory(error: BaseException) -> bool:
    # Recognised by name, like OutputCheckFailed: the parent process has neither torch nor av.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _tail(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-DETAIL_LIMIT:]
