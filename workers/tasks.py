"""The farm's Celery tasks. Messages carry nothing: each task looks in Postgres for what there is to do."""

from __future__ import annotations

from collections.abc import Callable

from celery import Celery

from farm import log
from farm import queue as farm_queue
from farm.db.session import Database
from farm.errors import Transient
from farm.flow.canary import watch
from farm.flow.metrics import collect
from farm.flow.release import release
from farm.flow.staging import complete
from farm.flow.sweep import sweep
from workers.worker import Worker

logger = log.get(__name__)


def add_work(app: Celery, worker: Worker, heard: Callable[[], None]) -> None:
    @app.task(name=farm_queue.WORK_TASK)
    def work() -> None:
        heard()
        try:
            worker.work()
        except Transient as error:
            logger.warning("no chunk claimed, a later wake-up tries again", error=str(error))


def add_train(app: Celery, wake: Callable[[], None]) -> None:
    """wake: of the launcher, whose turns take longer than a message may."""

    @app.task(name=farm_queue.TRAIN_TASK)
    def train() -> None:
        wake()


def add_tick(app: Celery, database: Database, heard: Callable[[], None]) -> None:
    @app.task(name=farm_queue.TICK_TASK)
    def tick() -> None:
        heard()
        try:
            swept = None
            while swept is None or swept.more:
                with database.transaction() as session:
                    swept = sweep(session)
            with database.transaction() as session:
                wakeups = release(session)
            with database.transaction() as session:
                complete(session)
            with database.transaction() as session:
                watch(session)
            with database.transaction() as session:
                collect(session)
        except Transient as error:
            logger.warning("tick failed, the next one does the same", error=str(error))
            return
        for wakeup in wakeups:
            farm_queue.send_work(app, wakeup.queue, wakeup.count)
