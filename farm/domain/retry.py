"""What follows a failed attempt: a pure function of the failure and of the attempts so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from farm.domain.chunk import Failure, Reason

RETRIES: Final = 4  # attempts that count before the job fails
LOST_CAP: Final = 20  # attempts that do not count: not the job's fault, yet not endless
FREE: Final = frozenset({Reason.WORKER_LOST, Reason.PREEMPTED})
AT_ONCE: Final = frozenset({Reason.WORKER_LOST, Reason.PREEMPTED, Reason.OOM})
BLAMED: Final = frozenset({Reason.TIMEOUT, Reason.STALLED, Reason.OUTPUT_CHECK_FAILED, Reason.TRANSIENT, Reason.BUG})
"""What may be the worker's own doing: the chunk goes to another one where there is one, and if that finishes it, the
failure counts against the worker. After oom the same worker tries with half the batch; the second one is its own doing
too."""


@dataclass(frozen=True)
class Try:
    """An attempt that failed. is_suspect: its worker is in quarantine by now, or on trial after one."""

    reason: Reason
    worker_id: str
    is_suspect: bool = False


@dataclass(frozen=True)
class RetryAfter:
    """Try again after `delay_s`; `halve_batch` where memory ran out."""

    delay_s: float
    halve_batch: bool = False


@dataclass(frozen=True)
class GiveUp:
    """The chunk fails, and its job with it, with this code and detail."""

    code: str
    detail: str


def next_try(failure: Failure, tries: tuple[Try, ...], dice: float, *, others: bool = False) -> RetryAfter | GiveUp:
    """Decide after `failure`, the last of `tries` (all that failed, oldest first); `dice` in [0, 1) spreads delays.

    others: a worker could try that is not to blame for a failure. Then each worker's failures count once, and a
    suspect's not at all: a bad worker cannot fail a job while a good one exists. bad_input and bad_bundle give up at
    once: every worker would find the same. worker_lost and preempted never count; all that does not count has a cap of
    its own.
    Delays: none after worker_lost, preempted and oom, else 1 s doubling to 60 s, with full jitter on the upper half.
    """
    if failure.reason in (Reason.BAD_INPUT, Reason.BAD_BUNDLE, Reason.CANCELED):
        return GiveUp(failure.code, failure.detail)
    spent = _spent(tries, others=others)
    free = len(tries) - spent
    if free > LOST_CAP:
        lost = sum(one.reason in FREE for one in tries)
        if lost > LOST_CAP // 2:
            return GiveUp("workers_lost", f"{lost} workers were lost on this chunk; last: {failure.detail}")
        return GiveUp(failure.code, f"{failure.detail} (after {len(tries)} attempts)")
    if spent >= RETRIES:
        return GiveUp(
            failure.code, f"{failure.detail} (after {len(tries) - sum(t.reason in FREE for t in tries)} attempts)"
        )
    if failure.reason in AT_ONCE:
        return RetryAfter(0.0, halve_batch=failure.reason is Reason.OOM)
    ceiling = min(60.0, 2.0 ** max(0, sum(one.reason not in FREE for one in tries) - 1))
    return RetryAfter(ceiling * (0.5 + 0.5 * dice))


def _spent(tries: tuple[Try, ...], *, others: bool) -> int:
    counted = [one for one in tries if one.reason not in FREE]
    if not others:
        return len(counted)
    return len({one.worker_id for one in counted if not one.is_suspect})


def is_blamed(reason: Reason, worker_id: str, tries: tuple[Try, ...]) -> bool:
    """Whether a failure, which is in `tries` by now, may be its worker's own doing."""
    ooms = sum(one.reason is Reason.OOM and one.worker_id == worker_id for one in tries)
    return reason in BLAMED or (reason is Reason.OOM and ooms > 1)


def forgive_s(quarantines: int) -> float:
    """Seconds of a worker's next quarantine, after so many in a row: two minutes, doubling to four hours."""
    return min(120.0 * 2.0 ** min(quarantines, 16), 4 * 3600.0)
