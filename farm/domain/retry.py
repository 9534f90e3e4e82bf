"""What follows a failed attempt: a pure function of the failure and of the attempts so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from farm.domain.chunk import Failure, Reason

RETRIES: Final = 4  # attempts that count before the job fails
LOST_CAP: Final = 20  # worker_lost and preempted together: not the job's fault, yet not endless
FREE: Final = frozenset({Reason.WORKER_LOST, Reason.PREEMPTED})
AT_ONCE: Final = frozenset({Reason.WORKER_LOST, Reason.PREEMPTED, Reason.OOM})


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


def next_try(failure: Failure, earlier: tuple[Reason, ...], dice: float) -> RetryAfter | GiveUp:
    """Decide after `failure`, given the reasons of all earlier attempts; `dice` in [0, 1) spreads the back-off.

    bad_input gives up at once. worker_lost and preempted do not spend retries but have a cap of their own.
    The others back off exponentially, 1 s doubling to 60 s, with full jitter on the upper half.
    """
    if failure.reason in (Reason.BAD_INPUT, Reason.CANCELED):
        return GiveUp(failure.code, failure.detail)
    reasons = (*earlier, failure.reason)
    free = sum(reason in FREE for reason in reasons)
    spent = len(reasons) - free
    if free > LOST_CAP:
        return GiveUp("workers_lost", f"{free} workers were lost on this chunk; last: {failure.detail}")
    if spent >= RETRIES:
        return GiveUp(failure.code, f"{failure.detail} (after {spent} attempts)")
    if failure.reason in AT_ONCE:
        return RetryAfter(0.0, halve_batch=failure.reason is Reason.OOM)
    ceiling = min(60.0, 2.0 ** (spent - 1))
    return RetryAfter(ceiling * (0.5 + 0.5 * dice))
