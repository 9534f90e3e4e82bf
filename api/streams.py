"""Server-sent events of a batch or a job.

The log's events come with their id (`Last-Event-ID` resumes behind it); between them `progress` says how things stand,
at most once a second and only when something changed; `end` is the last one. A comment every 15 s keeps proxies awake.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from api.deps import Farm
from api.errors import ApiProblem
from api.gate import json_bytes
from farm.db import deltas, events
from farm.db.session import Session
from farm.domain.event import Event
from farm.errors import Transient

TICK_S: Final = 1.0
NAP_S: Final = 0.1
HEARTBEAT_S: Final = 15.0
MOST_AT_ONCE: Final = 500

DOCUMENTED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "An event stream: the log's events with ids, `progress` between them, `end` at last.",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": 'id: 7\nevent: job.status\ndata: {"job_id":"job_…","data":{"status":"running"}}\n\n',
            }
        },
    }
}


@dataclass(frozen=True)
class Look:
    """How the watched thing stands: what `progress` and `end` carry."""

    data: Mapping[str, Any]
    ended: bool


@dataclass(frozen=True)
class Told:
    """An event of the log as it goes out."""

    id: int
    kind: str
    data: Mapping[str, Any]


After = Callable[[Session, int, int], Sequence[Told]]
"""Events with a larger id, oldest first, so many at most."""
Looker = Callable[[Session, datetime | None], Look | None]
"""Reads the thing; with a time, also what in it changed since. None: it is gone."""


def response(
    farm: Farm,
    last_event_id: str | None,
    look: Looker,
    after: After,
) -> StreamingResponse:
    if last_event_id is not None and not (last_event_id.isascii() and last_event_id.isdecimal()):
        raise ApiProblem("last_event_id_invalid", "Last-Event-ID is the id of an event of this stream")
    last_id = min(int(last_event_id or 0), 2**63 - 1)

    def read(last_id: int, since: datetime | None) -> tuple[Sequence[Told], Look | None, datetime]:
        with farm.transaction() as session:
            next_since = deltas.safe_since(session)
            found = after(session, last_id, MOST_AT_ONCE)
            # A backlog goes out first: how things stand now comes behind it.
            return found, look(session, since) if len(found) < MOST_AT_ONCE else Look({}, False), next_since

    return StreamingResponse(
        _stream(farm, last_id, read),
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        media_type="text/event-stream",
    )


async def _stream(
    farm: Farm, last_id: int, read: Callable[[int, datetime | None], tuple[Sequence[Told], Look | None, datetime]]
) -> AsyncIterator[bytes]:
    yield b"retry: 1000\n\n"
    shown: Mapping[str, Any] | None = None
    jobs_shown: dict[str, Any] = {}
    since: datetime | None = None
    spoke = time.monotonic()
    while not farm.stopping.is_set():
        try:
            found, look, next_since = await run_in_threadpool(read, last_id, since)
        except Transient:
            return  # the client comes back with its Last-Event-ID
        if look is None:
            return
        for event in found:
            last_id = event.id
            yield _event(event.kind, event.data, event.id)
        if len(found) == MOST_AT_ONCE:
            continue
        since = next_since
        if look.ended:
            yield _event("end", look.data)
            return
        recent = {job["id"]: job for job in look.data.get("jobs", ())}
        news = [job for id, job in recent.items() if jobs_shown.get(id) != _lasting(job)]
        jobs_shown = {id: _lasting(job) for id, job in recent.items()}
        rest = {name: value for name, value in look.data.items() if name != "jobs"}
        lasting = {name: _lasting(value) for name, value in rest.items()}
        if found or news or lasting != shown:
            yield _event("progress", rest | {"jobs": news} if "jobs" in look.data else rest)
            shown, spoke = lasting, time.monotonic()
        elif time.monotonic() - spoke >= HEARTBEAT_S:
            yield b": alive\n\n"
            spoke = time.monotonic()
        until = time.monotonic() + TICK_S
        while time.monotonic() < until and not farm.stopping.is_set():
            await asyncio.sleep(NAP_S)


def _lasting(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """What counts as a change: an estimate moves on with the clock while nothing happens."""
    return {name: value for name, value in answer.items() if name != "eta"}


def _event(name: str, data: Mapping[str, Any], id: int | None = None) -> bytes:
    head = f"id: {id}\n" if id is not None else ""
    return f"{head}event: {name}\n".encode() + b"data: " + json_bytes(data) + b"\n\n"


def of_jobs(tenant_id: str, *, batch_id: str | None = None, job_id: str | None = None) -> After:
    """The log of a batch, or of one job."""

    def after(session: Session, last_id: int, limit: int) -> list[Told]:
        found = events.after(session, tenant_id, batch_id=batch_id, job_id=job_id, last_id=last_id, limit=limit)
        return [Told(event.id, event.kind, _event_data(event)) for event in found]

    return after


def _event_data(event: Event) -> dict[str, Any]:
    return {
        "id": event.id,
        "kind": event.kind,
        "batch_id": event.batch_id,
        "job_id": event.job_id,
        "at": event.at.isoformat().replace("+00:00", "Z"),
        "data": dict(event.data),
    }
