"""What is seen of a run's attempt, and what follows from it. Rows say what is wanted, processes what is: this maps
both ways."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from farm.domain.run import Outcome, RunError, RunStatus, Standing


class Life(StrEnum):
    """Of an attempt's processes. unknown: nobody can tell just now (a cluster that does not answer)."""

    ALIVE = "alive"
    GONE = "gone"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Report:
    """status.json, as far as it fits: what does not is left out rather than believed."""

    state: str
    standing: Standing
    error: RunError | None
    updated_at: str


@dataclass(frozen=True)
class Seen:
    """exit_code: where it is known (a child's, of this very process). report: of this attempt, not of an earlier."""

    life: Life
    report: Report | None = None
    exit_code: int | None = None
    detail: str = ""


STOPPED: Final = 3
"""Exit status of a trainer that was asked to stop, and left a checkpoint."""
FATAL: Final = frozenset({"nan", "diverged", "bad_dataset", "bad_override", "bad_ray_address", "usage"})
"""Errors that the same again would meet again."""
MOST_FRUITLESS: Final = 3
"""Attempts in a row that got no further than the one before."""
MOST_ATTEMPTS: Final = 100
STOP_GRACE: Final = timedelta(seconds=60)
"""From asking an attempt to stop to ending its processes."""
LOST_AFTER: Final = timedelta(seconds=120)
"""A machine that has not been heard of for so long has lost its attempts."""
START_GRACE: Final = timedelta(seconds=20)
"""An attempt may take so long to appear where it was launched."""


@dataclass(frozen=True)
class Asked:
    """What the rows want of an attempt. stop_asked_at: when it was asked to end; room: for rendering, not for good.
    fruitless: attempts in a row, this one not counted, that got nowhere."""

    status: RunStatus
    started_at: datetime
    began_at: tuple[int, int]
    cancel: bool = False
    room: bool = False
    stop_asked_at: datetime | None = None
    attempts: int = 1
    fruitless: int = 0


@dataclass(frozen=True)
class Carry:
    """It goes on: write down where it stands."""


@dataclass(frozen=True)
class End:
    """End the processes: softly first (they leave a checkpoint), then for good."""

    hard: bool


@dataclass(frozen=True)
class Over:
    """The attempt has ended. then: what becomes of the run; succeeded once its bundle is registered. fruitless: in a
    row, this one counted."""

    outcome: Outcome
    then: RunStatus
    reason: str
    error: RunError | None = None
    fruitless: int = 0


@dataclass(frozen=True)
class Wait:
    reason: str


def decide(asked: Asked, seen: Seen, now: datetime) -> Carry | End | Over | Wait:
    """What to do about an attempt."""
    if seen.life is Life.UNKNOWN:
        return Wait(seen.detail or "nobody can tell how it stands")
    if seen.life is Life.ALIVE:
        if not (asked.cancel or asked.room):
            return Carry()
        if asked.stop_asked_at is None:
            return End(hard=False)
        return End(hard=True) if now - asked.stop_asked_at > STOP_GRACE else Carry()
    report = seen.report
    if report is None and seen.exit_code is None and now - asked.started_at < START_GRACE:
        return Wait("starting")
    return _ended(asked, report, seen)


def _ended(asked: Asked, report: Report | None, seen: Seen) -> Over:
    state = report.state if report is not None else ""
    if asked.cancel:
        return Over(Outcome.CANCELED, RunStatus.CANCELED, "canceled by request")
    if state == "succeeded":
        return Over(Outcome.SUCCEEDED, RunStatus.SUCCEEDED, "done")
    error = report.error if report is not None else None
    if state == "failed" and error is None:
        error = RunError("bug", "the trainer failed without saying why")
    if seen.exit_code == 2 and error is None:
        error = RunError("usage", "the trainer did not understand its command line")
    if error is not None and error.code in FATAL:
        return Over(Outcome.FAILED, RunStatus.FAILED, error.code, error)
    if seen.exit_code == STOPPED or state in ("stopped", "canceled"):
        return Over(Outcome.STOPPED, RunStatus.QUEUED, "made room" if asked.room else "preempted: it left a checkpoint")
    got_on = report is not None and report.standing.place > asked.began_at
    fruitless = 0 if got_on else asked.fruitless + 1
    why = error or RunError("lost", seen.detail or "its processes ended without a word")
    outcome = Outcome.FAILED if error is not None else Outcome.LOST
    if fruitless >= MOST_FRUITLESS or asked.attempts >= MOST_ATTEMPTS:
        tries = f"{fruitless} attempts in a row got no further" if fruitless else f"{asked.attempts} attempts"
        return Over(outcome, RunStatus.FAILED, why.code, RunError(why.code, f"{tries}; the last: {why.detail}"))
    return Over(outcome, RunStatus.QUEUED, f"{why.code}: {why.detail}", fruitless=fruitless)


# --- reading status.json ---------------------------------------------------------------------------------------------


def report_of(document: Mapping[str, Any]) -> Report:
    """A Report of the trainer's status.json. Whatever is missing or of another type counts as unknown."""
    losses = document.get("losses")
    standing = Standing(
        stage=_text(document.get("stage")),
        stage_number=_whole(document.get("stage_number")),
        stages=_whole(document.get("stages")),
        step=_whole(document.get("step")),
        steps=_whole(document.get("steps")),
        samples_per_s=_number(document.get("samples_per_s")),
        eta_s=_number(document.get("eta_s")),
        losses={_text(str(name)) or "": _number(value) for name, value in losses.items()}
        if isinstance(losses, Mapping)
        else {},
        goodput=_number(document.get("goodput")),
        gpu_hours=_number(document.get("gpu_hours")) or 0.0,
        workers=_whole(document.get("workers")),
    )
    error = document.get("error")
    known = RunError(_plain(error.get("code")), _plain(error.get("detail", ""))) if isinstance(error, Mapping) else None
    return Report(str(document.get("state", "")), standing, known, str(document.get("updated_at", "")))


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _whole(value: object) -> int:
    number = _number(value)
    return max(0, min(int(number), 2**31 - 1)) if number is not None else 0


def _plain(value: object) -> str:
    return str(value)[:2000].replace("\0", "")


def _text(value: object) -> str | None:
    return value[:200].replace("\0", "") if isinstance(value, str) else None


# --- alerts ----------------------------------------------------------------------------------------------------------

STALL: Final = timedelta(minutes=15)
"""No step done for so long, pauses for rendering not counted."""
DIVERGED_RATIO: Final = 10.0
WINDOW: Final = 5


def alerts(
    standing: Standing, since_progress: timedelta, recent: Sequence[float], stall: timedelta = STALL
) -> Mapping[str, str]:
    """What to tell of a run that goes on: {kind: detail}, kinds stall, nan, divergence.

    recent: of this stage, the sum of its losses over time, oldest first (farm.domain.curves).
    """
    told: dict[str, str] = {}
    if since_progress > stall:
        told["stall"] = f"no step done for {since_progress.total_seconds() / 60:.0f} minutes"
    broken = sorted(name for name, value in standing.losses.items() if value is None)
    if broken:
        told["nan"] = f"no finite number: {', '.join(broken)}"
    if len(recent) >= 3 * WINDOW:
        best = min(sum(recent[at : at + WINDOW]) / WINDOW for at in range(len(recent) - 2 * WINDOW + 1))
        newest = sum(recent[-WINDOW:]) / WINDOW
        if best > 0 and newest > DIVERGED_RATIO * best:
            told["divergence"] = f"the losses' sum is {newest:.3g}, its best was {best:.3g}"
    return told


# --- making room for rendering ---------------------------------------------------------------------------------------

PATIENCE: Final = timedelta(minutes=10)
TURN: Final = timedelta(minutes=1)
CALM: Final = timedelta(seconds=5)


@dataclass(frozen=True)
class Room:
    """Whether a run makes room, since when it has (or has not), when a chunk last waited, and whether it has a turn of
    its own now."""

    yielding: bool
    since: datetime
    waited_at: datetime | None = None
    turn: bool = False


def make_room(room: Room, chunks_wait: bool, now: datetime) -> Room:
    """The rule: a run makes room as soon as a chunk waits, and goes on when none has for CALM. After PATIENCE of making
    room without a break it has a TURN of its own, however many wait: training gets on under any load."""
    waited_at = now if chunks_wait else room.waited_at
    if room.yielding:
        if waited_at is None or now - waited_at >= CALM:
            return Room(False, now, waited_at)
        patient = now - room.since >= PATIENCE
        return Room(False, now, waited_at, turn=True) if patient else Room(True, room.since, waited_at)
    if room.turn and now - room.since < TURN:
        return Room(False, room.since, waited_at, turn=True)
    return Room(True, now, waited_at) if chunks_wait else Room(False, room.since, waited_at)
