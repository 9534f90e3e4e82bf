"""The launcher: fires schedules, starts queued runs, makes rows and processes agree. A thread of the control worker.

Its turns are woken by a Celery task that beat sends. Any number may run side by side: every decision is a transaction
on a locked row, and what is started is known by its attempt's token.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from farm import __version__, log
from farm.db import runs, workers
from farm.db.runs import Run
from farm.db.session import Database
from farm.domain import curves
from farm.domain.line import RENDER_PRIORITY
from farm.domain.override import Value
from farm.domain.reconcile import MOST_FRUITLESS, STALL, Life, Over, Report, Room, make_room, report_of
from farm.domain.run import Attempt, OnSuccess, Outcome, RunError, RunSpec, RunStatus, resume_point
from farm.domain.tenant import Actor
from farm.domain.version import CHAMPION, Lineage
from farm.errors import Rejected, Transient
from farm.flow import clips, launch, recipes, reconcile, schedules, staging
from farm.flow.launch import Launch
from farm.flow.register import register
from farm.flow.schedules import UNCOUNTED, Counted
from farm.storage import keys
from farm.storage.blobs import BlobStore, Missing
from workers.places import Going, LocalPlace, Order, Place, told_of_the_store

logger = log.get(__name__)

CURVES_EVERY_S: Final = 3.0
MOST_READ: Final = 8 << 20
MOST_STATUS: Final = 1 << 20
POLL_S: Final = 10.0
"""Without a wake-up a turn comes so often all the same."""
SCHEDULER: Final = Actor("scheduler")


@dataclass(frozen=True)
class Terms:
    """at_once: runs here at the same time. shares_with: render queues that a run makes room for, once a chunk has
    waited there for yield_after and if the run's priority is below render_priority; empty: none. corpus: where puppets
    are kept. stall: an alert after so long without a step."""

    at_once: int = 1
    shares_with: tuple[str, ...] = ()
    yield_after: timedelta = timedelta(0)
    render_priority: int = RENDER_PRIORITY
    corpus: Path | None = None
    stall: timedelta = STALL
    threads: int = 1


def farm_id(database_url: str) -> str:
    """Tells this farm's processes from another's on the same machine."""
    return hashlib.sha256(database_url.encode()).hexdigest()[:16]


def can_train_here() -> bool:
    """Whether the extra `trainer` is installed, by what only it brings."""
    return all(importlib.util.find_spec(name) is not None for name in ("trainer", "torch", "ray", "espeakng_loader"))


@dataclass
class Launcher:
    """`start`, `wake`, `stop`. store: the farm's; runs write into it. place None: schedules fire, and runs wait."""

    database: Database
    store: BlobStore
    place: Place | None
    terms: Terms = field(default_factory=Terms)
    endpoint_url: str | None = None

    def __post_init__(self) -> None:
        self._ended, self._woken = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="launcher", daemon=True)
        self._room = Room(False, datetime.now(UTC))
        self._curves_read: dict[str, float] = {}

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self._woken.set()

    def stop(self) -> None:
        """Runs on this machine leave a checkpoint and wait for the next launcher."""
        self._ended.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(timeout=40)

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                self._woken.clear()
                try:
                    self.turn()
                except Transient as error:
                    logger.warning(
                        "training not looked after, the next turn does", code=error.code, detail=error.detail
                    )
                except Exception:
                    logger.exception("bug")
                self._woken.wait(POLL_S)
        finally:
            if self.place is not None:
                self.place.close()

    def turn(self, now: datetime | None = None) -> None:
        """One look at everything. now: the schedules' clock, the database's where it is None."""
        self.fire(now)
        if self.place is None:
            with self.database.transaction() as session:
                why = "there is no place to train: set RAY_ADDRESS, or install dubfarm[trainer]"
                launch.explain(session, nowhere=why)
            return
        self._look_at_rendering()
        with self.database.transaction() as session:
            held = runs.held(session, self.place.host)
        for run in held:
            self._see_to(run, self.place)
        self._end_strays(self.place)
        with self.database.transaction() as session:
            reconcile.give_up_silent(session)
        self._start(self.place)

    # --- schedules -------------------------------------------------------------------------------------------------

    def fire(self, now: datetime | None = None) -> None:
        with self.database.transaction() as session:
            waiting = schedules.waiting(session, now)
        for kept in waiting:
            counted = UNCOUNTED
            if kept.schedule.min_new_clips > 0 and kept.schedule.spec.dataset.uri is not None:
                counted = self._count(kept.schedule.name, kept.schedule.spec.dataset.uri, kept.clips)
            with self.database.transaction() as session:
                started = schedules.fire(session, kept, counted, now)
            logger.info("schedule fired", schedule=kept.schedule.name, runs=started)

    def _count(self, name: str, uri: str, known: str | None) -> Counted:
        try:
            return clips.count(self.store, name, uri, known, self.endpoint_url)
        except (Rejected, Transient) as error:
            logger.warning("clips not counted", schedule=name, uri=uri, code=error.code, detail=error.detail)
            return replace(UNCOUNTED, why=error.detail)

    # --- open attempts ---------------------------------------------------------------------------------------------

    def _look_at_rendering(self) -> None:
        if not self.terms.shares_with:
            return
        with self.database.transaction() as session:
            queues = [q for q in workers.queues(session) if q.queue in self.terms.shares_with]
        after = self.terms.yield_after.total_seconds()
        waits = any(q.oldest_waiting_s is not None and q.oldest_waiting_s >= after for q in queues)
        self._room = make_room(self._room, waits, datetime.now(UTC))

    def _see_to(self, run: Run, place: Place) -> None:
        attempt = run.attempt
        assert attempt is not None
        seen = place.look(attempt)
        seen = replace(seen, report=self._report(attempt))
        # What is asked to stop computes until it has: a checkpoint takes a moment.
        leaves = run.status is RunStatus.CANCELING or run.room_asked
        makes_room = self._yields(run.spec) and seen.life is Life.ALIVE and not leaves
        if place.halts and seen.life is Life.ALIVE and (makes_room or run.yielding):
            place.halt(attempt, makes_room)
        self._read_curves(run, ended=seen.life is Life.GONE)
        with self.database.transaction() as session:
            todo = reconcile.settle(
                session,
                attempt,
                seen,
                yielding=makes_room and place.halts,
                room=makes_room and not place.halts,
                stall=self.terms.stall,
            )
        if todo.finished:
            self._finish(run, attempt)
        elif todo.end == "soft":
            self.store.put_bytes(b"", keys.of_run(run.id, "stop"))
        elif todo.end == "hard":
            place.end(Going(run.id, attempt.token, attempt.submission_id))

    def _yields(self, spec: RunSpec) -> bool:
        return self._room.yielding and spec.priority < self.terms.render_priority

    def _report(self, attempt: Attempt) -> Report | None:
        """The trainer's account, where it is this attempt's own."""
        document = self._json(keys.of_run(attempt.run_id, "status.json"))
        if document is None or document.get("attempt") != attempt.token:
            return None
        return report_of(document)

    def _json(self, key: str) -> dict[str, Any] | None:
        with suppress(Missing, ValueError, RecursionError):
            if self.store.stat(key).size_bytes <= MOST_STATUS:
                document = json.loads(self.store.get_bytes(key))
                return document if isinstance(document, dict) else None
        return None

    def _read_curves(self, run: Run, ended: bool) -> None:
        assert run.attempt is not None
        if not ended and time.monotonic() - self._curves_read.get(run.id, -CURVES_EVERY_S) < CURVES_EVERY_S:
            return
        self._curves_read[run.id] = time.monotonic()
        key, offset = keys.of_run(run.id, "curves.jsonl"), run.curves_read
        with suppress(Missing):
            size = self.store.stat(key).size_bytes
            if size < offset:  # a resumed run has cut off steps that it does again
                offset = 0
            if size == offset:
                return
            stop = min(size, offset + MOST_READ)
            text = b"".join(self.store.read_range(key, offset, stop))
            read = curves.read(text, recipes.steps_of(run.spec), ended=ended and stop == size)
            with self.database.transaction() as session:
                reconcile.read_curves(session, run.attempt, read.points, offset + read.bytes)

    def _finish(self, run: Run, attempt: Attempt) -> None:
        """A bundle becomes a version, and where that was asked for, champion."""
        spec = run.spec
        lineage = Lineage(
            recipe=spec.recipe,
            overrides=dict(spec.overrides),
            code_version=__version__,
            dataset_version=spec.dataset.manifest_sha256,
            run=run.id,
        )
        name = f"{spec.recipe}-{run.id[-8:]}"
        try:
            made = register(
                self.database,
                self.store,
                self.store.uri(keys.run(run.id)),
                name=name,
                lineage=lineage,
                endpoint_url=self.endpoint_url,
                actor=SCHEDULER,
            )
        except Rejected as error:
            wrong = RunError(error.code, error.detail)
            with self.database.transaction() as session:
                reconcile.fail(session, attempt, Over(Outcome.FAILED, RunStatus.FAILED, error.code, wrong))
            return
        reason = f"registered as {name}"
        if spec.on_success is OnSuccess.PROMOTE:
            reason = self._promote(made.version.id, name)
        with self.database.transaction() as session:
            reconcile.succeed(session, attempt, made.version.id, reason)
        logger.info("training run succeeded", run=run.id, version=name)

    def _promote(self, version_id: str, name: str) -> str:
        try:
            with self.database.transaction() as session:
                moved = staging.stage(session, CHAMPION, version_id, actor=SCHEDULER)
        except Rejected as error:
            return f"registered as {name}, not promoted: {error.detail}"
        return f"registered as {name}, " + ("promoted" if moved else "champion as soon as the workers have its files")

    def _end_strays(self, place: Place) -> None:
        """What runs here and no row wants."""
        going = place.running()
        if not going:
            return
        with self.database.transaction() as session:
            wanted = {run.attempt.token for run in runs.held(session, place.host) if run.attempt is not None}
        for one in going:
            if one.token not in wanted:
                logger.warning("a training attempt that no row wants is ended", run=one.run_id, of=one.submission_id)
                place.end(one)

    # --- starting --------------------------------------------------------------------------------------------------

    def _start(self, place: Place) -> None:
        if self.terms.at_once == 0:
            with self.database.transaction() as session:
                launch.explain(session, nowhere="no run is started here: DUBFARM_TRAIN_AT_ONCE is 0")
            return
        before = self.terms.render_priority if self._room.yielding else None
        while not self._ended.is_set():
            with self.database.transaction() as session:
                found = launch.claim(session, place.host, self.terms.at_once, before or 0)
            if found is None:
                break
            try:
                self._launch(found, place)
            except (Rejected, Transient, OSError) as error:
                self._not_started(found, error)
                break
        with self.database.transaction() as session:
            stopped = launch.make_way(session, place.host, self.terms.at_once, before or 0)
            launch.explain(session, renders_before=before)
        if stopped is not None:
            logger.info("a training run makes way for one of higher priority", run=stopped)

    def _not_started(self, found: Launch, error: Rejected | Transient | OSError) -> None:
        code, detail = ("os_error", str(error)) if isinstance(error, OSError) else (error.code, error.detail)
        logger.warning("a training run does not start", run=found.attempt.run_id, code=code, detail=detail)
        fruitless = found.fruitless + 1
        is_over = isinstance(error, Rejected) or fruitless >= MOST_FRUITLESS
        then = RunStatus.FAILED if is_over else RunStatus.QUEUED
        over = Over(Outcome.FAILED, then, f"{code}: {detail}", RunError(code, detail), fruitless)
        with self.database.transaction() as session:
            reconcile.fail(session, found.attempt, over)

    def _launch(self, found: Launch, place: Place) -> None:
        run_id = found.attempt.run_id
        arguments = self._arguments(run_id, found.spec, is_local=isinstance(place, LocalPlace))
        # Who holds this token may write here, and nobody else (trainer.status). An old stop is not this attempt's.
        self.store.put_bytes(found.attempt.token.encode(), keys.of_run(run_id, "attempt"))
        self.store.delete(keys.of_run(run_id, "stop"))
        scaling = found.spec.scaling
        place.start(Order(found.attempt, arguments, computes=scaling.workers == 0, needs_gpu=scaling.use_gpu))
        logger.info("training attempt started", run=run_id, attempt=found.attempt.number, arguments=arguments)

    def _arguments(self, run_id: str, spec: RunSpec, *, is_local: bool) -> list[str]:
        """The trainer's command line (`python -m trainer run --help`)."""
        arguments = ["--recipe", spec.recipe, "--out", _path_or_uri(self.store.uri(keys.run(run_id)))]
        if spec.dataset.uri is not None:
            version = f"#{spec.dataset.manifest_sha256}" if spec.dataset.manifest_sha256 else ""
            arguments += ["--data", _path_or_uri(spec.dataset.uri) + version]
        elif self.terms.corpus is not None:
            arguments += ["--data", str(self.terms.corpus)]
        for name, value in sorted(spec.overrides.items()):
            arguments += ["--set", f"{name}={_text(value)}"]
        if is_local:
            arguments += ["--threads", str(self.terms.threads)]
        if spec.scaling.workers > 0:
            arguments += ["--workers", str(spec.scaling.workers), "--ray", "local" if is_local else "auto"]
            arguments += ["--gpu"] if spec.scaling.use_gpu and not is_local else []
        if spec.resume_from is not None:
            arguments += ["--resume-from", self._checkpoint(spec.resume_from)]
        return arguments

    def _checkpoint(self, text: str) -> str:
        """Where the checkpoint lies that a resume_from names. Rejected("checkpoint_missing")."""
        point = resume_point(text)
        assert point is not None
        run_id, name = point
        root = f"{keys.run(run_id)}/checkpoints"
        if name is None:
            with self.database.transaction() as session:
                view = runs.get(session, run_id)
            order = [stage.name for stage in recipes.declared()[view.spec.recipe].stages] if view is not None else []
            found = [
                parts[0].rpartition("-")
                for stat in self.store.list(f"{root}/")
                if (parts := stat.key.removeprefix(f"{root}/").split("/"))[1:] == ["manifest.json"]
            ]
            found.sort(key=lambda part: (order.index(part[0]) if part[0] in order else -1, int(part[2])))
            if not found:
                raise Rejected("checkpoint_missing", f"{run_id} has no checkpoint")
            name = "-".join((found[-1][0], found[-1][2]))
        try:
            self.store.stat(f"{root}/{name}/manifest.json")
        except Missing:
            raise Rejected("checkpoint_missing", f"{run_id} has no checkpoint {name}") from None
        return _path_or_uri(self.store.uri(f"{root}/{name}"))


def _path_or_uri(uri: str) -> str:
    parts = urlsplit(uri)
    return unquote(parts.path) if parts.scheme == "file" else uri


def _text(value: Value) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def environment_of(pairs: Mapping[str, str]) -> dict[str, str]:
    """What a cluster's trainer is told of ours: where the store is. No keys: whoever may list a cluster's jobs reads
    what they were started with, so that its machines have keys of their own."""
    return {
        name: value
        for name, value in told_of_the_store(pairs).items()
        if name in ("STORAGE_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "DUBFARM_INPUT_S3_BUCKETS")
        or name.startswith("AWS_ENDPOINT_URL")
    }
