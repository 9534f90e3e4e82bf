"""`python -m api`: the API server, from settings in the environment."""

from __future__ import annotations

import signal
import socket
import threading
from types import FrameType

import uvicorn
from fastapi import FastAPI

from api.app import create_app
from farm import log, queue, trace
from farm.db.session import connect
from farm.domain.limits import InputLimits
from farm.domain.quota import Rate
from farm.rates import Limiter
from farm.settings import ApiSettings, FarmSettings, InputSettings, WebhookSettings
from farm.storage.blobs import open_store


class Server(uvicorn.Server):
    """uvicorn that tells event streams about the end first: else it would wait for them, and they for it."""

    def __init__(self, config: uvicorn.Config, stopping: threading.Event) -> None:
        super().__init__(config)
        self._stopping = stopping

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; a second Ctrl-C does not wait. Not uvicorn's own: that raises the signal again when it has stopped, and
        a stop that was asked for is a clean end (exit 0)."""
        self._stopping.set()
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def config(app: FastAPI, host: str, port: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        # Downloads in flight get this long; event streams end by themselves.
        timeout_graceful_shutdown=10,
    )


def main() -> None:
    log.setup("api")
    trace.setup("api")
    farm, inputs, api, webhooks = FarmSettings(), InputSettings(), ApiSettings(), WebhookSettings()
    database = connect(farm.database_url)
    store = open_store(farm.storage_url, farm.storage_endpoint_url)
    celery = queue.celery_app(farm.broker_url)
    stopping = threading.Event()
    app = create_app(
        database,
        store,
        InputLimits(**inputs.model_dump(exclude={"sandbox"})),
        lambda name, count: queue.send_work(celery, name, count),
        lambda: queue.ping(farm.broker_url),
        limiter=Limiter(farm.broker_url, Rate(api.rate_per_s, api.rate_burst)),
        public_url=api.public_url,
        stopping=stopping,
        webhook_limits=InputLimits(schemes=webhooks.schemes, private_hosts=webhooks.private_hosts),
    )
    inherited = None if api.fd is None else [socket.socket(fileno=api.fd)]
    Server(config(app, api.host, api.port), stopping).run(sockets=inherited)
    database.close()


if __name__ == "__main__":
    main()
