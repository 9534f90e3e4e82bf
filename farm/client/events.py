"""Watching a batch or a job: server-sent events, resumed after cuts, and polling where they do not come through."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from farm.client.answers import Event
from farm.client.transport import RETRIED, ApiError, Transport, pause_s

SILENCE_S: Final = 45.0
"""The server sends a comment every 15 s; three missing ones mean the connection is dead."""
CUTS_BEFORE_POLLING: Final = 3
POLL_S: Final = 2.0


@dataclass
class _Cursor:
    """Where the stream is, and whether it has ended."""

    last_id: str | None = None
    ended: bool = False
    cuts: int = field(default=0)


def parse(lines: Iterable[str]) -> Iterator[tuple[str | None, str, str]]:
    """(id, event, data) of a text/event-stream, by the WHATWG rules that the API uses; comments are dropped."""
    id: str | None = None
    event, data = "message", []
    for line in lines:
        if not line:
            if data:
                yield id, event, "\n".join(data)
            event, data = "message", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            id = value
        elif name == "event":
            event = value
        elif name == "data":
            data.append(value)


def watch(
    transport: Transport, path: str, poll: Callable[[], Mapping[str, Any]], ended: Callable[[Mapping[str, Any]], bool]
) -> Iterator[Event]:
    """Events of `path` until the thing watched has ended; the last event has type `end`.

    poll reads how things stand (what progress carries) and `ended` tells from it whether that is final. Raises ApiError
    (404, 401, ...), and Unreachable when neither events nor polling get through.
    """
    cursor = _Cursor()
    while not cursor.ended:
        if cursor.cuts < CUTS_BEFORE_POLLING:
            yield from _streamed(transport, path, cursor)
        else:
            yield from _polled(poll, ended, cursor)


def _streamed(transport: Transport, path: str, cursor: _Cursor) -> Iterator[Event]:
    headers = {"Accept": "text/event-stream"}
    if cursor.last_id is not None:
        headers["Last-Event-ID"] = cursor.last_id
    try:
        with transport.stream("GET", path, headers=headers, read_timeout_s=SILENCE_S) as response:
            for id, name, data in parse(response.iter_lines()):
                cursor.cuts = 0
                cursor.last_id = id or cursor.last_id
                cursor.ended = name == "end"
                yield Event(id or "", name, json.loads(data))
                if cursor.ended:
                    return
    except httpx.TransportError:
        pass
    except ApiError as error:
        if error.status not in RETRIED:
            raise
    cursor.cuts += 1
    time.sleep(pause_s(cursor.cuts - 1, None))


def _polled(
    poll: Callable[[], Mapping[str, Any]], ended: Callable[[Mapping[str, Any]], bool], cursor: _Cursor
) -> Iterator[Event]:
    """A few polls in place of events, then the stream gets another chance."""
    for _ in range(10):
        data = poll()
        cursor.ended = ended(data)
        yield Event(cursor.last_id or "", "end" if cursor.ended else "progress", data)
        if cursor.ended:
            return
        time.sleep(POLL_S)
    cursor.cuts = CUTS_BEFORE_POLLING - 1
