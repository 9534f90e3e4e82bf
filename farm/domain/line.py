"""The line of training runs: who is next, who has to make way, and why one waits. Rendering stands in it too. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

PRIORITY: Final = 50
RENDER_PRIORITY: Final = 100
"""Rendering's place in the line where nobody says another: before every run but those of the highest priority."""


@dataclass(frozen=True)
class Waiting:
    """A queued run. preempts: it may have one of lower priority stopped."""

    run_id: str
    priority: int
    preempts: bool = False
    schedule: str | None = None


@dataclass(frozen=True)
class Training:
    """A run with an open attempt. leaves: it has been asked to end, or to stop at a checkpoint and make room."""

    run_id: str
    priority: int
    leaves: bool = False
    schedule: str | None = None


def victim(first: Waiting, training: Sequence[Training]) -> Training | None:
    """Which run stops at a checkpoint so that the first one in line has its place: of lower priority, the lowest, of
    equal ones the youngest. training: at the place in question, all of whose room is taken. None while one leaves."""
    if not first.preempts or any(run.leaves for run in training):
        return None
    lower = [run for run in training if run.priority < first.priority]
    youngest_first = sorted(lower, key=lambda run: run.run_id, reverse=True)
    return min(youngest_first, key=lambda run: run.priority, default=None)


def reasons(waiting: Sequence[Waiting], training: Sequence[Training], renders_before: int | None) -> Mapping[str, str]:
    """Why each queued run waits. waiting: in the order in which they will start. renders_before: rendering wants the
    devices, and goes before runs of lower priority than this; None: it does not."""
    busy = {run.schedule: run.run_id for run in training if run.schedule is not None}
    found: dict[str, str] = {}
    ahead: list[Waiting] = []
    for run in waiting:
        if run.schedule in busy:
            found[run.run_id] = f"{busy[run.schedule]} of its schedule has not ended"
        elif renders_before is not None and run.priority < renders_before:
            found[run.run_id] = "makes room for rendering"
        else:
            found[run.run_id] = _behind(ahead) if ahead else _of_first(run, training)
            ahead.append(run)
    return found


def _behind(ahead: Sequence[Waiting]) -> str:
    more = f", and {len(ahead) - 1} more" if len(ahead) > 1 else ""
    return f"{ahead[0].run_id} (priority {ahead[0].priority}) is ahead of it{more}"


def _of_first(run: Waiting, training: Sequence[Training]) -> str:
    if not training:
        return "next in line"
    if leaving := [other.run_id for other in training if other.leaves]:
        return f"next in line: {', '.join(leaving)} makes room"
    names = ", ".join(f"{other.run_id} (priority {other.priority})" for other in training)
    lower = any(other.priority < run.priority for other in training)
    why = ", of lower priority, but it may not preempt" if lower and not run.preempts else ""
    return f"waits for a place: {names} {'is' if len(training) == 1 else 'are'} training{why}"
