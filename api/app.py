"""The application: routes, error shape, the gate around them, and the farm behind them."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from fastapi import FastAPI

from api import errors, openapi
from api.again import Again
from api.deps import Farm
from api.gate import BODY_LIMIT, Gate
from api.v1 import (
    aliases,
    assets,
    audit,
    batches,
    consents,
    fleet,
    jobs,
    keys,
    models,
    rules,
    schedules,
    service,
    tenants,
    training,
    webhooks,
)
from api.waker import Waker
from farm import __version__
from farm.db.session import Database
from farm.domain.limits import InputLimits
from farm.rates import Limiter
from farm.storage.blobs import BlobStore


def create_app(
    database: Database,
    store: BlobStore,
    limits: InputLimits,
    send: Callable[[str, int], object],
    broker_check: Callable[[], None],
    *,
    limiter: Limiter | None = None,
    public_url: str | None = None,
    body_limit: int = BODY_LIMIT,
    stopping: threading.Event | None = None,
    webhook_limits: InputLimits | None = None,
) -> FastAPI:
    """The API over these handles, which stay the caller's to close.

    send: (queue, count) tops up wake-ups and never raises for a broker that is down. broker_check: raises Transient
    when it is. limiter: how often a key may ask; None lets it ask as often as it likes. stopping: set it when the
    process is to end; event streams then end at once.
    """
    waker = Waker(database, send)
    ended = stopping or threading.Event()
    farm = Farm(database, store, limits, waker.wake, broker_check, limiter, public_url, ended)
    if webhook_limits is not None:
        farm = replace(farm, webhook_limits=webhook_limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        waker.start()
        yield
        farm.stopping.set()
        waker.stop()

    app = FastAPI(
        title="Dubfarm",
        version=__version__,
        lifespan=lifespan,
        redoc_url=None,
        generate_unique_id_function=openapi.operation_id,
    )
    app.state.farm = farm
    errors.install(app)
    for module in (
        batches,
        jobs,
        consents,
        assets,
        models,
        aliases,
        rules,
        fleet,
        keys,
        tenants,
        audit,
        webhooks,
        training,
        schedules,
        service,
    ):
        app.include_router(module.router)
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]
    app.add_middleware(Again)
    app.add_middleware(Gate, body_limit=body_limit, requests=farm.requests)
    return app
