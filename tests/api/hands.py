"""A worker by hand: takes leases and settles them with real rows and real blobs, but renders nothing."""

from __future__ import annotations

from fractions import Fraction

import pytest

from farm.db.session import Database
from farm.domain.chunk import Failure, Reason, Work
from farm.domain.ids import new_id
from farm.domain.job import Phase
from farm.domain.media import AudioFacts, MediaFacts, VideoFacts
from farm.domain.order import Blob, Order, Output, PlanRecord, Progress, Segment
from farm.domain.span import Span, cut
from farm.errors import LeaseLost
from farm.flow import claim, plan, settle, workers
from farm.flow.workers import WorkerFacts
from farm.storage import keys
from farm.storage.blobs import BlobStore

OUTPUT = bytes(range(256)) * 512
PREVIEW = b"\xff\xd8\xff\xe0 a picture \xff\xd9"

VIDEO = MediaFacts(
    container="mp4",
    size_bytes=1000,
    video=VideoFacts(
        codec="h264",
        width=360,
        height=288,
        rotation=0,
        sample_aspect=Fraction(1),
        frame_rate=Fraction(24000, 1001),
        time_base=Fraction(1, 24000),
        frames=20,
        duration_s=Fraction(20 * 1001, 24000),
        is_vfr=False,
        pixel_format="yuv420p",
        bit_depth=8,
        full_range=False,
        color_space="bt709",
        color_primaries="bt709",
        color_transfer="bt709",
    ),
)
VOICE = MediaFacts("wav", 500, audio=AudioFacts("pcm_s16le", 16000, 1, "mono", Fraction(1)))


class Hands:
    def __init__(self, database: Database, store: BlobStore) -> None:
        self.database = database
        self.store = store
        self.worker_id = new_id("wrk")
        with database.transaction() as session:
            workers.register(session, WorkerFacts(self.worker_id, "host", "cpu", ("render",), {"cores": 2}))

    def take(self, job_id: str) -> Order:
        """The next lease of this job. Chunks of others that come first are handed back."""
        others: list[Order] = []
        try:
            while True:
                with self.database.transaction() as session:
                    order = claim.claim(session, self.worker_id, ("render",), 60.0)
                assert order is not None, f"nothing to do for {job_id}"
                if order.lease.job_id == job_id:
                    return order
                others.append(order)
        finally:
            for other in others:
                with self.database.transaction() as session:
                    settle.give_back(session, other.lease)

    def plan(self, job_id: str, frames: int = 20, chunk_frames: int = 10, source: Blob | None = None) -> None:
        order = self.take(job_id)
        assert order.lease.work is Work.PLAN
        blob = self.store.put_bytes(b"plan", keys.plan(order.lease))
        record = PlanRecord(source or blob, blob, (), blob, blob, VIDEO, VOICE, frames, frames - 1)
        with self.database.transaction() as session:
            plan.record(session, order.lease, record, cut(frames, chunk_frames))

    def render_one(self, job_id: str, *, settle_it: bool = True) -> Order:
        order = self.take(job_id)
        assert order.lease.work is Work.RENDER
        span = order.lease.span
        key = keys.preview(order.lease, span.start)
        self.store.put_bytes(PREVIEW, key)
        progress = Progress(Phase.RENDERING, len(span) // 2, len(span), 12.5, key)
        with self.database.transaction() as session:
            lease = claim.heartbeat(session, order.lease, progress)
        if settle_it:
            blob = self.store.put_bytes(b"segment", keys.segment(lease))
            segment = Segment(blob, Span(span.start, span.stop), len(span), {"generate": 0.5}, {"sync": 0.75})
            with self.database.transaction() as session:
                settle.succeed(session, lease, segment)
        return order

    def notice_the_end(self, order: Order) -> None:
        """A heartbeat that learns of a cancel."""
        with pytest.raises(LeaseLost), self.database.transaction() as session:
            claim.heartbeat(session, order.lease, Progress(Phase.RENDERING))

    def finish(self, job_id: str) -> None:
        order = self.take(job_id)
        assert order.lease.work is Work.FINALIZE
        blob = self.store.put_bytes(OUTPUT, keys.output(order.lease))
        output = Output(blob, self.store.uri(blob.key), 20, 20 * 1001 / 24000)
        with self.database.transaction() as session:
            settle.succeed(session, order.lease, output)

    def make(self, job_id: str, source: Blob | None = None) -> None:
        """The whole job. source: the video as it was fetched."""
        self.plan(job_id, source=source)
        self.render_one(job_id)
        self.render_one(job_id)
        self.finish(job_id)

    def refuse(self, job_id: str, code: str = "no_face") -> None:
        """The job fails for good at its next chunk."""
        order = self.take(job_id)
        with self.database.transaction() as session:
            settle.fail(session, order.lease, Failure(Reason.BAD_INPUT, code, "nobody is there"), 0.5)
