"""One render worker: claims a chunk, does it under its lease, settles it, passes on what became available."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

from farm import log, trace
from farm.db.session import Database
from farm.domain.alias import WantedBundle
from farm.domain.chunk import Failure, Lease, Reason, Work
from farm.domain.job import Phase
from farm.domain.order import Foreseen, Order, Output, PlanRecord, Progress, Segment
from farm.domain.span import Span
from farm.domain.speed import size_class
from farm.errors import LeaseLost, Transient
from farm.flow import plan as flow_plan
from farm.flow import staging
from farm.flow import workers as flow_workers
from farm.flow.claim import claim, foresee, heartbeat, is_wanted
from farm.flow.release import release
from farm.flow.settle import fail, give_back, is_settled, succeed_alone
from farm.flow.workers import WorkerFacts
from workers.ahead import Ahead
from workers.finalize import finalize
from workers.heartbeat import Heartbeat, clock
from workers.plan import plan
from workers.prefetch import Prefetch
from workers.reasons import DAMAGED, DISK_FULL, failure_of
from workers.record import keep_log, traced
from workers.render import render
from workers.trial import fault_of
from workers.work import Aborted
from workers.workshop import Workshop

logger = log.get(__name__)

Result: TypeAlias = tuple[PlanRecord, tuple[Span, ...]] | Segment | Output
Send: TypeAlias = Callable[[str, int], object]
"""Top up a queue to so many wake-ups."""

FIRST_PHASE: Final = {Work.PLAN: Phase.PROBING, Work.RENDER: Phase.RENDERING, Work.FINALIZE: Phase.STITCHING}
GUESSED_SPEED: Final = {"cuda": 40.0, "cpu": 4.0}
"""Frames a second that are assumed of a version which no worker has rendered yet."""
SETTLE_PAUSE_S: Final = 0.5
KEPT_OUT_REST_S: Final = 2.0
"""A worker that is draining or in quarantine holds on to a message for so long (farm.flow.release sends one for it)."""
FULL_DISK_REST_S: Final = 10.0
"""A worker whose disk was full takes nothing for so long: the chunk goes elsewhere, and others may make room."""


@dataclass(frozen=True)
class Terms:
    """How leases are taken: their length, how often they are renewed, and on which queues work is looked for."""

    queues: Sequence[str]
    lease_s: float = 60.0
    heartbeat_s: float = 5.0


class Worker:
    """Safe to call from one task thread at a time; `stop` from anywhere."""

    def __init__(self, facts: WorkerFacts, database: Database, shop: Workshop, terms: Terms, send: Send) -> None:
        self._facts, self._database, self._shop, self._terms, self._send = facts, database, shop, terms, send
        self._stopping = threading.Event()
        self._beat: Heartbeat | None = None
        self.is_busy = False
        self._speeds: dict[str, dict[str, float]] = {}
        self._last_speed: float | None = None
        self._loaded: str | None = None
        self._ahead = Ahead(shop.inputs, self._foresee)
        self._news = threading.Event()
        self._prefetch = Prefetch(shop.inputs, self._news.set, fault_of)
        self._presence = threading.Thread(target=self._be_present, name="presence", daemon=True)

    def start(self) -> None:
        """Register, and show signs of life from now on."""
        with self._database.transaction() as session:
            flow_workers.register(session, self._facts)
        self._presence.start()

    def stop(self) -> None:
        """Soft shutdown: no further chunk; the current one is given back at once, with no attempt spent."""
        self._stopping.set()
        self._news.set()
        self._prefetch.stop()
        self._ahead.stop()
        beat = self._beat
        if beat is not None:
            beat.abort.set()

    def kill(self) -> None:
        """End the engine at once, whatever it does; its lease is swept when it runs out."""
        self._stopping.set()
        self._shop.engine.kill()

    def leave(self) -> None:
        """The last words, after `stop` and the end of the current work."""
        self.stop()
        with suppress(Exception), self._database.transaction() as session:
            flow_workers.leave(session, self._facts.id)
        self._shop.engine.close()

    def work(self) -> bool:
        """Claim one chunk and see it through; False when there was none to claim."""
        self.is_busy = True
        try:
            return not self._stopping.is_set() and self._work()
        finally:
            self.is_busy = False

    def _work(self) -> bool:
        asked_at, asked_ns = clock(), time.time_ns()
        with self._database.transaction() as session:
            order = claim(session, self._facts.id, self._terms.queues, self._terms.lease_s, self._loaded)
            is_kept_out = order is None and flow_workers.is_kept_out(session, self._facts.id)
        if order is None:
            if is_kept_out:
                self._stopping.wait(KEPT_OUT_REST_S)
            return False
        with traced(order, asked_ns), log.kept() as lines:
            failure = self._see_through(order, asked_at)
        keep_log(lines, order.lease, self._shop.store)
        self._wake_others()
        if failure is not None and failure.code == DISK_FULL:
            self._shop.inputs.make_room()
            self._stopping.wait(FULL_DISK_REST_S)
        return True

    def _see_through(self, order: Order, asked_at: float) -> Failure | None:
        """Do the work and settle it; the failure that was reported, if any. asked_at: `clock()` before the claim."""
        started = time.monotonic()
        logger.info("chunk claimed", work=order.lease.work, span=(order.lease.span.start, order.lease.span.stop))
        beat = Heartbeat(
            order.lease,
            self._renew,
            self._terms.heartbeat_s,
            Progress(FIRST_PHASE[order.lease.work]),
            asked_at=asked_at,
            is_wanted=self._is_wanted,
        )
        self._beat = beat
        if self._stopping.is_set():  # it came between the claim and the line above
            beat.abort.set()
        result: Result | None = None
        failure: Failure | None = None
        try:
            with beat:
                result = self._do_in_scratch(order, beat)
        except (Aborted, LeaseLost):
            pass
        except Exception as error:
            failure = failure_of(error)
            if failure.reason is Reason.OOM and failure.batch_frames is None:
                failure = replace(failure, batch_frames=order.batch_frames or self._shop.batch_frames)
            self._heed(order, failure)
            if failure.reason is Reason.BUG:
                logger.error("chunk failed", exc_info=error)
        finally:
            self._beat = None
        if beat.is_lost:
            logger.info("chunk dropped: the lease is gone")
            return None
        try:
            with trace.span("settle"):
                self._settle(order.lease, result, failure, beat)
        except LeaseLost:
            logger.info("chunk dropped: the lease ended before it was settled")
            return None
        logger.info(
            "chunk settled",
            outcome="succeeded" if result is not None else failure.reason if failure else "given back",
            code=failure.code if failure else None,
            seconds=round(time.monotonic() - started, 2),
        )
        return failure

    def _heed(self, order: Order, failure: Failure) -> None:
        """Where a bundle was the reason: bring a damaged one again, and tell of one that is of no use."""
        bundle = WantedBundle(order.version_id, order.bundle_key, order.bundle_sha256)
        why = f"{failure.code}: {failure.detail}"
        if failure.reason is Reason.BAD_BUNDLE:
            self._prefetch.useless(bundle, why)
        elif failure.code in DAMAGED:
            self._prefetch.damaged(bundle, why)

    def _do_in_scratch(self, order: Order, beat: Heartbeat) -> Result:
        scratch = self._shop.inputs.scratch()
        try:
            return self._do(order, beat, scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _do(self, order: Order, beat: Heartbeat, scratch: Path) -> Result:
        if order.lease.work is Work.PLAN:
            return plan(order, self._shop, beat, scratch, self._guessed_speed)
        if order.lease.work is Work.FINALIZE:
            return finalize(order, self._shop, beat, scratch)
        started = time.monotonic()
        segment = render(order, self._shop, beat, scratch, lambda: self._ahead.begin(order.lease))
        self._loaded = order.version_id
        self._last_speed = segment.frames / max(time.monotonic() - started, 1e-6)
        if order.plan is not None:
            measured = self._speeds.setdefault(order.version_id, {})
            size = size_class(order.plan.source_facts)
            # Half of it new: one slow chunk, or a first one that loads and warms up, does not decide for all.
            measured[size] = (measured.get(size, self._last_speed) + self._last_speed) / 2
        return segment

    def _settle(self, lease: Lease, result: Result | None, failure: Failure | None, beat: Heartbeat) -> None:
        """Write the outcome; a database that is away is asked again for as long as the lease lasts.

        An answer may be lost after the commit: the same success found settled is this one's.
        """

        is_repeated = False
        while True:
            try:
                if not (is_repeated and result is not None and self._is_settled(lease)):
                    self._write(lease, result, failure)
                return
            except Transient as error:
                if beat.left_s < SETTLE_PAUSE_S:
                    logger.warning("settling failed for as long as the lease lasted", error=str(error))
                    raise LeaseLost from error
                logger.warning("settling failed, trying again", error=str(error))
                time.sleep(SETTLE_PAUSE_S)
                is_repeated = True

    def _is_settled(self, lease: Lease) -> bool:
        with self._database.transaction() as session:
            return is_settled(session, lease)

    def _write(self, lease: Lease, result: Result | None, failure: Failure | None) -> None:
        if result is not None and not isinstance(result, tuple):
            succeed_alone(self._database, lease, result)
            return
        with self._database.transaction() as session:
            if result is not None:
                flow_plan.record(session, lease, *result)
            elif failure is not None:
                fail(session, lease, failure, random.random())
            else:
                give_back(session, lease)

    def _renew(self, lease: Lease, progress: Progress) -> Lease:
        with self._database.transaction() as session:
            return heartbeat(session, lease, progress)

    def _foresee(self, lease: Lease) -> Foreseen | None:
        with self._database.transaction() as session:
            return foresee(session, lease)

    def _is_wanted(self, lease: Lease) -> bool:
        with self._database.transaction() as session:
            return is_wanted(session, lease)

    def _wake_others(self) -> None:
        # What fails here is made good by the next tick.
        try:
            with self._database.transaction() as session:
                wakeups = release(session)
            for wakeup in wakeups:
                self._send(wakeup.queue, wakeup.count)
        except Exception as error:
            logger.warning("release failed", error=str(error))

    @property
    def _guessed_speed(self) -> float:
        return GUESSED_SPEED["cuda" if self._facts.device.startswith("cuda") else "cpu"]

    def _be_present(self) -> None:
        while True:
            self._news.wait(self._terms.heartbeat_s)
            self._news.clear()
            if self._stopping.is_set():
                return
            try:
                with self._database.transaction() as session:
                    flow_workers.beat(session, self._facts.id, self._loaded, self._last_speed, self._speeds)
                with self._database.transaction() as session:
                    wanted = staging.report(session, self._facts.id, self._terms.queues, self._prefetch.notes)
                self._prefetch.want(wanted)
            except Exception as error:
                logger.warning("sign of life failed", error=str(error))
