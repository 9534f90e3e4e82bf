"""A request that meets a restart of the database is done again instead of being answered with 503.

Only what may be done twice: reads, changes that say the same twice, whatever carries an Idempotency-Key (its answer
is stored in the transaction that creates), and what had not got past its API key yet. Inside the gate, whose request id
and log line cover all tries.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.gate import takes_raw_bytes

log = structlog.get_logger("api")

AWAY: Final = "database_away"
"""Key of the scope that the answer to a lost database sets."""
PATIENCE_S: Final = 15.0
"""A restart of Postgres takes a second or two; after so long the client is told."""
PAUSE_S: Final = 0.3


class Again:
    def __init__(self, app: ASGIApp, patience_s: float = PATIENCE_S) -> None:
        self.app = app
        self.patience_s = patience_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or takes_raw_bytes(scope):
            await self.app(scope, receive, send)
            return
        until = time.monotonic() + self.patience_s
        heard: list[Message] = []
        while True:
            is_last = time.monotonic() >= until
            swallowed = False
            at = 0

            async def receive_again() -> Message:
                nonlocal at
                if at == len(heard):
                    heard.append(await receive())
                at += 1
                return heard[at - 1]

            async def send_unless_away(message: Message, is_last: bool = is_last) -> None:
                nonlocal swallowed
                if message["type"] == "http.response.start" and scope.get(AWAY) and not is_last:
                    swallowed = may_be_repeated(scope)
                if not swallowed:
                    await send(message)

            scope.pop(AWAY, None)
            await self.app(scope, receive_again, send_unless_away)
            gone = bool(heard) and heard[-1]["type"] == "http.disconnect"
            if not swallowed or gone:
                return
            log.info("the database was away, doing the request again", path=scope["path"])
            await asyncio.sleep(PAUSE_S)


def may_be_repeated(scope: Scope) -> bool:
    if scope.get("tenant_id") is None:  # nobody knows yet who asks: nothing was done
        return True
    says_the_same = scope["path"].endswith(("/cancel", "/pause", "/resume", "/drain"))
    return says_the_same or scope["method"] in ("GET", "HEAD", "PATCH") or "idempotency-key" in Headers(scope=scope)
