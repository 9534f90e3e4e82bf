"""A small farm of rows: a tenant, a champion, and workers that settle without rendering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import sqlalchemy as sa

from farm.db import batches, jobs
from farm.db.census import audit
from farm.db.session import Database
from farm.domain.batch import BatchSpec
from farm.domain.chunk import Failure, Lease, Reason, Work
from farm.domain.factor import Media
from farm.domain.job import JobSpec, JobStatus, Kind
from farm.domain.limits import InputLimits
from farm.domain.media import AudioFacts, MediaFacts
from farm.domain.order import Blob, Order, Output, PlanRecord, Segment
from farm.domain.span import cut
from farm.domain.views import BatchView, JobView
from farm.flow import claim, plan, settle, submit

LIMITS = InputLimits()
FRAMES = 30


def blob(name: str) -> Blob:
    return Blob(f"inputs/aa/{name}", 10, "aa")


def plan_record(frames: int = FRAMES) -> PlanRecord:
    audio = AudioFacts("pcm_s16le", 16000, 1, "mono", Fraction(6, 5))
    facts = MediaFacts("wav", 10, audio=audio)
    return PlanRecord(
        source=blob("source"),
        voice=blob("voice"),
        drivers=(),
        plan=blob("plan"),
        speech=blob("speech"),
        source_facts=facts,
        voice_facts=facts,
        frames_total=frames,
        faces_found=1,
        seconds={"track": 1.5},
    )


def segment(lease: Lease) -> Segment:
    return Segment(Blob(f"s/{lease.token}", 5, "bb"), lease.span, len(lease.span), {"generate": 0.5}, {"sync": 0.25})


def output(frames: int = FRAMES) -> Output:
    return Output(Blob("o", 7, "cc"), "file:///o", frames, 1.2)


def items(count: int) -> tuple[JobSpec, ...]:
    return tuple(
        JobSpec(f"item-{k}", Kind.DUB, Media(uri="https://example.com/v.mp4"), Media(uri="https://example.com/a.wav"))
        for k in range(count)
    )


@dataclass
class Fleet:
    """Verbs in transactions of their own, for one tenant."""

    database: Database
    tenant: str
    version: str

    def submit(self, count: int = 1, **settings: object) -> BatchView:
        with self.database.transaction() as session:
            spec = BatchSpec(items(count), **settings)  # pyright: ignore[reportArgumentType]
            return submit.submit(session, self.tenant, spec, LIMITS)

    def claim(self, worker: str = "w1", lease_s: float = 60.0, queues: Sequence[str] = ("render",)) -> Order | None:
        with self.database.transaction() as session:
            return claim.claim(session, worker, queues, lease_s)

    def lease(self, work: Work | None = None, worker: str = "w1", lease_s: float = 60.0) -> Lease:
        order = self.claim(worker, lease_s)
        assert order is not None
        assert work is None or order.lease.work is work
        return order.lease

    def settle(self, lease: Lease, *, frames: int = FRAMES, chunk_frames: int = 10) -> JobStatus:
        """Finish whatever the lease is for."""
        with self.database.transaction() as session:
            if lease.work is Work.PLAN:
                return plan.record(session, lease, plan_record(frames), cut(frames, chunk_frames))
            result = segment(lease) if lease.work is Work.RENDER else output(frames)
            return settle.succeed(session, lease, result)

    def fail(self, lease: Lease, reason: Reason, code: str = "broken", batch_frames: int | None = None) -> object:
        with self.database.transaction() as session:
            return settle.fail(session, lease, Failure(reason, code, "as the test wants", batch_frames), 0.0)

    def plan(self) -> None:
        """Plan the next job."""
        self.settle(self.lease(Work.PLAN))

    def work_off(self, limit: int = 1000) -> int:
        """Claim and settle until nothing is left; how many chunks that were."""
        for done in range(limit):
            order = self.claim()
            if order is None:
                return done
            self.settle(order.lease)
        raise AssertionError("more work than expected")

    def job(self, job_id: str) -> JobView:
        with self.database.transaction() as session:
            view = jobs.get(session, self.tenant, job_id)
        assert view is not None
        return view

    def jobs(self, batch_id: str) -> tuple[JobView, ...]:
        with self.database.transaction() as session:
            return jobs.page(session, self.tenant, batch_id).items

    def batch(self, batch_id: str) -> BatchView:
        with self.database.transaction() as session:
            view = batches.get(session, self.tenant, batch_id)
        assert view is not None
        return view

    def sql(self, statement: str, **values: object) -> list[tuple[object, ...]]:
        with self.database.transaction() as session:
            return [tuple(row) for row in session.execute(sa.text(statement), values)]

    def run(self, statement: str, **values: object) -> None:
        with self.database.transaction() as session:
            session.execute(sa.text(statement), values)

    def audit(self) -> None:
        """Counters equal row sums, and statuses are those of the rows below."""
        with self.database.transaction() as session:
            assert audit(session) == []
