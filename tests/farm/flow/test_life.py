"""A batch from submission to its end, and the ways in which it ends otherwise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from farm.db import chunks, events, jobs
from farm.domain.chunk import ChunkStatus, Lease, Reason, Work
from farm.domain.event import EventKind
from farm.domain.job import BatchStatus, JobStatus, Phase
from farm.domain.order import Progress
from farm.domain.retry import GiveUp, RetryAfter
from farm.domain.span import Span
from farm.errors import LeaseLost, Rejected
from farm.flow import claim, control, plan, settle, sweep
from tests.small_farm import FRAMES, Fleet, output, plan_record, segment

WORKING = Progress(Phase.RENDERING, 4, 10, 12.5)


def test_job_walks_from_plan_to_output(fleet: Fleet) -> None:
    batch = fleet.submit()
    (job,) = fleet.jobs(batch.id)
    assert (job.status, batch.status, batch.counts.queued) == (JobStatus.VALIDATING, BatchStatus.RUNNING, 1)
    order = fleet.claim()
    assert order is not None
    assert order.lease.work is Work.PLAN
    assert order.version_id == fleet.version
    assert order.plan is None
    assert fleet.settle(order.lease) is JobStatus.QUEUED
    assert fleet.job(job.id).frames_total == FRAMES
    spans = []
    for k in range(3):
        order = fleet.claim()
        assert order is not None
        assert order.plan == plan_record()
        spans.append(order.lease.span)
        assert fleet.job(job.id).status is JobStatus.RUNNING
        status = fleet.settle(order.lease)
        assert status is (JobStatus.FINALIZING if k == 2 else JobStatus.RUNNING)
    assert spans == [Span(0, 10), Span(10, 20), Span(20, 30)]
    order = fleet.claim()
    assert order is not None
    assert order.lease.work is Work.FINALIZE
    assert [s.span for s in order.segments] == spans
    assert fleet.settle(order.lease) is JobStatus.SUCCEEDED
    assert fleet.claim() is None
    job, batch = fleet.job(job.id), fleet.batch(batch.id)
    assert job.output == output()
    assert job.scores == {"sync": 0.25}
    assert (batch.status, batch.progress, batch.counts.succeeded) == (BatchStatus.COMPLETED, 1.0, 1)
    fleet.audit()


def test_events_tell_the_story_in_order(fleet: Fleet) -> None:
    batch = fleet.submit()
    fleet.work_off()
    with fleet.database.transaction() as session:
        told = events.after(session, fleet.tenant, batch_id=batch.id)
        assert events.after(session, fleet.tenant, batch_id=batch.id, last_id=told[1].id) == told[2:]
        assert events.after(session, "ten_other", batch_id=batch.id) == ()
        of_job = events.after(session, fleet.tenant, job_id=fleet.jobs(batch.id)[0].id)
    assert [event.kind for event in told] == [
        EventKind.BATCH_CREATED,
        *[EventKind.JOB_STATUS] * 4,
        EventKind.BATCH_COMPLETED,
    ]
    assert [event.data["status"] for event in of_job] == ["queued", "running", "finalizing", "succeeded"]


def test_repeated_and_late_settles_are_ignored(fleet: Fleet) -> None:
    fleet.submit()
    fleet.plan()
    first = fleet.lease(Work.RENDER)
    fleet.settle(first)
    with pytest.raises(LeaseLost):
        fleet.settle(first)
    late = fleet.lease(Work.RENDER, lease_s=-1)
    with fleet.database.transaction() as session:
        assert sweep.sweep(session).leases_lost == 1
    again = fleet.lease(Work.RENDER)
    assert again.chunk_id == late.chunk_id
    assert again.token != late.token
    for verb in (fleet.settle, lambda lease: fleet.fail(lease, Reason.BUG)):
        with pytest.raises(LeaseLost):
            verb(late)
    with pytest.raises(LeaseLost), fleet.database.transaction() as session:
        claim.heartbeat(session, late, WORKING)
    fleet.settle(again)
    fleet.audit()


def test_result_of_other_work_is_a_bug(fleet: Fleet) -> None:
    fleet.submit()
    lease = fleet.lease(Work.PLAN)
    for result in (segment(lease), output()):
        with pytest.raises(ValueError, match="settle"), fleet.database.transaction() as session:
            settle.succeed(session, lease, result)
    for spans in ([], [Span(0, 10), Span(11, 30)], [Span(0, 29)], [Span(0, 30), Span(30, 30)]):
        with pytest.raises(ValueError, match="tile"), fleet.database.transaction() as session:
            plan.record(session, lease, plan_record(), spans)
    fleet.settle(lease)


def test_bad_input_fails_at_once_and_cancels_the_rest(fleet: Fleet) -> None:
    batch = fleet.submit(2)
    fleet.plan()
    one, two = fleet.lease(Work.RENDER), fleet.lease(Work.RENDER)
    assert fleet.fail(one, Reason.BAD_INPUT, "no_face") == GiveUp("no_face", "as the test wants")
    job = fleet.job(one.job_id)
    assert (job.status, job.error_code, job.error_detail) == (JobStatus.FAILED, "no_face", "as the test wants")
    with pytest.raises(LeaseLost), fleet.database.transaction() as session:
        claim.heartbeat(session, two, WORKING)
    with pytest.raises(LeaseLost):
        fleet.settle(two)
    fleet.audit()
    fleet.work_off()
    batch = fleet.batch(batch.id)
    assert (batch.status, batch.counts.failed, batch.counts.succeeded) == (BatchStatus.COMPLETED, 1, 1)


def test_transient_failures_wait_and_are_spent(fleet: Fleet) -> None:
    batch = fleet.submit()
    fleet.run("insert into workers (id, host, device, queues, info) values ('w1', 'h', 'cpu', '{render}', '{}')")
    for spent in range(3):
        assert isinstance(fleet.fail(fleet.lease(Work.PLAN), Reason.TRANSIENT, "storage"), RetryAfter), spent
        assert fleet.claim() is None, "backing off"
        (job,) = fleet.jobs(batch.id)
        assert job.waiting_reason is not None
        assert "transient (storage)" in job.waiting_reason
        fleet.run("update chunks set available_at = now()")
    assert isinstance(fleet.fail(fleet.lease(Work.PLAN), Reason.TRANSIENT), GiveUp)
    fleet.audit()


def test_oom_halves_the_batch_and_lost_workers_cost_nothing(fleet: Fleet) -> None:
    fleet.submit()
    fleet.plan()
    fleet.fail(fleet.lease(Work.RENDER), Reason.OOM, batch_frames=12)
    order = fleet.claim()
    assert order is not None
    assert order.batch_frames == 6
    lease = order.lease
    for _ in range(6):
        assert isinstance(fleet.fail(lease, Reason.WORKER_LOST), RetryAfter)
        lease = fleet.lease(Work.RENDER)
    with fleet.database.transaction() as session:
        settle.give_back(session, lease)
        page = chunks.page(session, fleet.tenant, lease.job_id)
    chunk = page.items[1]
    assert (chunk.status, len(chunk.attempts)) == (ChunkStatus.WAITING, 8)
    assert (chunk.attempts[-1].outcome, chunk.attempts[-1].reason) == ("returned", Reason.PREEMPTED)
    fleet.audit()


def test_heartbeat_extends_and_shows_progress(fleet: Fleet) -> None:
    batch = fleet.submit()
    fleet.run("insert into workers (id, host, device, queues, info) values ('w1', 'h', 'cpu', '{render}', '{}')")
    fleet.plan()
    lease = fleet.lease(Work.RENDER)
    progress = Progress(Phase.RENDERING, 4, 10, 12.5, "preview-4")
    with fleet.database.transaction() as session:
        longer = claim.heartbeat(session, lease, progress)
    assert longer.expires_at > lease.expires_at
    job = fleet.job(lease.job_id)
    assert (job.frames_done, job.frames_per_s, job.preview_key) == (4, 12.5, "preview-4")
    assert (job.phase, job.waiting_reason) == (Phase.RENDERING, None)
    assert job.eta is not None
    assert job.eta > job.updated_at
    batch = fleet.batch(batch.id)
    assert (batch.frames_done, batch.progress) == (4, pytest.approx(4 / 30))
    fleet.settle(longer)
    assert fleet.job(lease.job_id).preview_key == "preview-4"
    following = fleet.lease(Work.RENDER)
    with fleet.database.transaction() as session:
        settle.succeed(session, following, replace(segment(following), preview_key="preview-9"))
    assert fleet.job(lease.job_id).preview_key == "preview-9"


def test_a_job_in_hand_is_found_while_it_is_planned_and_planning_is_no_measure_of_speed(fleet: Fleet) -> None:
    batch = fleet.submit(2)
    fleet.run("insert into workers (id, host, device, queues, info) values ('w1', 'h', 'cpu', '{render}', '{}')")
    lease = fleet.lease(Work.PLAN)
    with fleet.database.transaction() as session:
        claim.heartbeat(session, lease, Progress(Phase.TRACKING, 80, 100, 80.0))
    with fleet.database.transaction() as session:
        (job,) = jobs.page(session, fleet.tenant, batch.id, in_hand=True).items
        assert (job.id, job.phase) == (lease.job_id, Phase.TRACKING)
    assert fleet.sql("select frames_per_s from workers") == [(0.0,)]


def test_priority_then_age_then_ordinal(fleet: Fleet) -> None:
    low, high, same = fleet.submit(priority=10), fleet.submit(priority=60), fleet.submit(2, priority=60)
    seen = []
    while order := fleet.claim():
        if order.lease.batch_id not in seen:
            seen.append(order.lease.batch_id)
        fleet.settle(order.lease)
    assert seen == [high.id, same.id, low.id]
    one, two = fleet.submit(), fleet.submit()
    with fleet.database.transaction() as session:
        control.set_batch_priority(session, fleet.tenant, two.id, 51)
    assert fleet.lease().batch_id == two.id
    with fleet.database.transaction() as session:
        (job,) = jobs.page(session, fleet.tenant, one.id).items
        control.set_job_priority(session, fleet.tenant, job.id, 52)
    assert fleet.lease().batch_id == one.id
    with pytest.raises(Rejected, match="priority_out_of_range"), fleet.database.transaction() as session:
        control.set_batch_priority(session, fleet.tenant, two.id, 101)


def test_cancel_stops_waiting_chunks_at_once_and_leased_ones_at_their_heartbeat(fleet: Fleet) -> None:
    batch = fleet.submit(2)
    fleet.plan()
    lease = fleet.lease(Work.RENDER)
    with fleet.database.transaction() as session:
        view = control.cancel_batch(session, fleet.tenant, batch.id)
    assert (view.status, view.counts.canceled, view.counts.running) == (BatchStatus.CANCELING, 1, 1)
    assert fleet.claim() is None
    with pytest.raises(LeaseLost), fleet.database.transaction() as session:
        claim.heartbeat(session, lease, WORKING)
    assert fleet.batch(batch.id).status is BatchStatus.CANCELED
    with fleet.database.transaction() as session:
        assert control.cancel_batch(session, fleet.tenant, batch.id).status is BatchStatus.CANCELED
    fleet.audit()


def test_cancel_is_noticed_by_a_settle_too(fleet: Fleet) -> None:
    fleet.submit()
    lease = fleet.lease(Work.PLAN)
    with fleet.database.transaction() as session:
        control.cancel_job(session, fleet.tenant, lease.job_id)
    assert fleet.job(lease.job_id).status is JobStatus.CANCELING
    with pytest.raises(LeaseLost):
        fleet.settle(lease)
    assert fleet.job(lease.job_id).status is JobStatus.CANCELED
    fleet.audit()


def test_a_worker_lost_while_canceling_still_ends_the_job(fleet: Fleet) -> None:
    fleet.submit()
    lease = fleet.lease(Work.PLAN, lease_s=-1)
    with fleet.database.transaction() as session:
        control.cancel_job(session, fleet.tenant, lease.job_id)
    with fleet.database.transaction() as session:
        assert sweep.sweep(session).leases_lost == 1
    assert fleet.job(lease.job_id).status is JobStatus.CANCELED
    fleet.audit()


def test_pause_holds_and_resume_goes_on(fleet: Fleet) -> None:
    batch = fleet.submit(2)
    fleet.plan()
    kept, returned = fleet.lease(Work.RENDER), fleet.lease(Work.RENDER)
    with fleet.database.transaction() as session:
        assert control.pause_batch(session, fleet.tenant, batch.id).status is BatchStatus.PAUSED
    assert fleet.claim() is None
    assert fleet.settle(kept) is JobStatus.PAUSED, "what is finished is kept"
    with pytest.raises(LeaseLost), fleet.database.transaction() as session:
        claim.heartbeat(session, returned, WORKING)
    fleet.audit()
    assert fleet.job(kept.job_id).waiting_reason == "the batch is paused"
    with fleet.database.transaction() as session:
        assert control.resume_batch(session, fleet.tenant, batch.id).status is BatchStatus.RUNNING
    assert [job.status for job in fleet.jobs(batch.id)] == [JobStatus.RUNNING, JobStatus.VALIDATING]
    fleet.work_off()
    assert fleet.batch(batch.id).counts.succeeded == 2
    with fleet.database.transaction() as session:
        page = chunks.page(session, fleet.tenant, kept.job_id)
    assert [len(chunk.attempts) for chunk in page.items] == [1, 1, 2, 1, 1]
    with pytest.raises(Rejected, match="batch_ended"), fleet.database.transaction() as session:
        control.pause_batch(session, fleet.tenant, batch.id)
    fleet.audit()


def test_last_segment_of_a_paused_job_waits_with_the_finalize(fleet: Fleet) -> None:
    batch = fleet.submit()
    fleet.plan()
    leases = [fleet.lease(Work.RENDER) for _ in range(3)]
    with fleet.database.transaction() as session:
        control.pause_batch(session, fleet.tenant, batch.id)
    for lease in leases:
        assert fleet.settle(lease) is JobStatus.PAUSED
    assert fleet.claim() is None
    fleet.audit()
    with fleet.database.transaction() as session:
        control.resume_batch(session, fleet.tenant, batch.id)
    assert fleet.job(leases[0].job_id).status is JobStatus.FINALIZING
    assert fleet.work_off() == 1


def _break(fleet: Fleet, lease: Lease) -> None:
    fleet.fail(lease, Reason.BAD_INPUT, "broken")


def test_retry_keeps_finished_segments(fleet: Fleet) -> None:
    batch = fleet.submit(2)
    fleet.plan()
    fleet.settle(fleet.lease(Work.RENDER))
    _break(fleet, fleet.lease(Work.RENDER))
    _break(fleet, fleet.lease(Work.PLAN))
    failed = fleet.batch(batch.id)
    assert (failed.status, failed.counts.failed) == (BatchStatus.COMPLETED, 2)
    assert failed.finished_at is not None
    with fleet.database.transaction() as session:
        view = control.retry_failed(session, fleet.tenant, batch.id)
    assert (view.status, view.counts.failed, view.finished_at) == (BatchStatus.RUNNING, 0, None)
    assert [job.status for job in fleet.jobs(batch.id)] == [JobStatus.RUNNING, JobStatus.VALIDATING]
    assert [job.error_code for job in fleet.jobs(batch.id)] == [None, None]
    fleet.audit()
    assert fleet.work_off() == (2 + 1) + (1 + 3 + 1)
    assert fleet.batch(batch.id).counts.succeeded == 2
    with pytest.raises(Rejected, match="nothing_to_retry"), fleet.database.transaction() as session:
        control.retry_failed(session, fleet.tenant, batch.id)
    job = fleet.jobs(batch.id)[0]
    with pytest.raises(Rejected, match="job_not_retryable"), fleet.database.transaction() as session:
        control.retry_job(session, fleet.tenant, job.id)
    fleet.audit()


def test_retry_of_a_finalize_and_of_a_canceled_job(fleet: Fleet) -> None:
    batch = fleet.submit()
    fleet.plan()
    for _ in range(3):
        fleet.settle(fleet.lease(Work.RENDER))
    lease = fleet.lease(Work.FINALIZE)
    _break(fleet, lease)
    with fleet.database.transaction() as session:
        assert control.retry_job(session, fleet.tenant, lease.job_id).status is JobStatus.FINALIZING
    with fleet.database.transaction() as session:
        control.cancel_job(session, fleet.tenant, lease.job_id)
    assert fleet.batch(batch.id).status is BatchStatus.COMPLETED, "the batch itself was not canceled"
    with fleet.database.transaction() as session:
        control.retry_job(session, fleet.tenant, lease.job_id)
    assert fleet.work_off() == 1
    fleet.audit()


def test_retries_are_fresh_after_a_retry_by_hand(fleet: Fleet) -> None:
    fleet.submit()
    for _ in range(2):
        for _ in range(4):
            lease = fleet.lease(Work.PLAN)
            fleet.fail(lease, Reason.STALLED)
            fleet.run("update chunks set available_at = now()")
        assert fleet.job(lease.job_id).status is JobStatus.FAILED
        with fleet.database.transaction() as session:
            control.retry_job(session, fleet.tenant, lease.job_id)
    fleet.audit()


def test_deadline_expires_jobs(fleet: Fleet) -> None:
    batch = fleet.submit(2)
    fleet.plan()
    lease = fleet.lease(Work.RENDER)
    fleet.run("update jobs set deadline = now() - interval '1 second'")
    with fleet.database.transaction() as session:
        assert sweep.sweep(session) == sweep.Swept(0, 2, False)
    assert {job.status for job in fleet.jobs(batch.id)} == {JobStatus.EXPIRED}
    assert fleet.batch(batch.id).counts.failed == 2
    with pytest.raises(LeaseLost):
        fleet.settle(lease)
    with fleet.database.transaction() as session:
        assert sweep.sweep(session) == sweep.Swept(0, 0, False)
    fleet.audit()


def test_other_tenants_rows_are_not_there(fleet: Fleet) -> None:
    batch = fleet.submit()
    (job,) = fleet.jobs(batch.id)
    with fleet.database.transaction() as session:
        assert jobs.get(session, "ten_other", job.id) is None
        assert jobs.page(session, "ten_other", batch.id).items == ()
        assert chunks.page(session, "ten_other", job.id).items == ()
        assert list(jobs.results(session, "ten_other", batch.id)) == []
    for verb in (control.cancel_batch, control.pause_batch, control.resume_batch, control.retry_failed):
        with pytest.raises(Rejected, match="not_found"), fleet.database.transaction() as session:
            verb(session, "ten_other", batch.id)
    for verb in (control.cancel_job, control.retry_job):
        with pytest.raises(Rejected, match="not_found"), fleet.database.transaction() as session:
            verb(session, "ten_other", job.id)
