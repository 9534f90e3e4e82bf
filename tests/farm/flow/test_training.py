"""Training runs and schedules against real rows: claims, fences, the clock moved, and edits while a run goes on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from farm.db import outbox, runs, schedules, webhooks
from farm.db.session import Database
from farm.domain.cron import Cron
from farm.domain.limits import InputLimits
from farm.domain.reconcile import LOST_AFTER, Life, Report, Seen
from farm.domain.run import Dataset, Outcome, RunError, RunEventKind, RunSpec, RunStatus, RunView, Standing
from farm.domain.schedule import CatchUp, FiringOutcome, Overlap, Schedule
from farm.errors import Rejected
from farm.flow import keys, launch, reconcile
from farm.flow import runs as verbs
from farm.flow import schedules as clock
from farm.flow.launch import Launch
from farm.flow.schedules import Counted

SMOKE = RunSpec("smoke")
LIMITS = InputLimits(schemes=("file", "s3"), file_roots=(Path("/data"),))


class Desk:
    """Verbs in transactions of their own."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def run(self, spec: RunSpec = SMOKE) -> RunView:
        with self.database.transaction() as session:
            return verbs.create(session, spec, LIMITS)

    def do(self, verb: Callable[..., object], *arguments: object, **named: object) -> object:
        with self.database.transaction() as session:
            return verb(session, *arguments, **named)

    def claim(self, host: str | None = "here", at_once: int = 1) -> Launch | None:
        with self.database.transaction() as session:
            return launch.claim(session, host, at_once)

    def start(self, host: str | None = "here") -> Launch:
        found = self.claim(host, 100)
        assert found is not None
        return found

    def see(self, found: Launch, seen: Seen, **named: bool) -> reconcile.Todo:
        with self.database.transaction() as session:
            return reconcile.settle(session, found.attempt, seen, **named)

    def view(self, run_id: str) -> RunView:
        with self.database.transaction() as session:
            return verbs.view(session, run_id)

    def sql(self, text: str, **values: object) -> None:
        with self.database.transaction() as session:
            session.execute(sa.text(text), values)

    def put(self, schedule: Schedule) -> None:
        with self.database.transaction() as session:
            clock.put(session, schedule, LIMITS)

    def tick(self, now: datetime, counted: Counted = clock.UNCOUNTED) -> list[str]:
        """As the launcher does at `now`."""
        with self.database.transaction() as session:
            due = clock.waiting(session, now)
        started: list[str] = []
        for kept in due:
            with self.database.transaction() as session:
                started += clock.fire(session, kept, counted, now)
        return started

    def schedule(self, name: str = "s") -> object:
        with self.database.transaction() as session:
            return clock.view(session, name)


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(database)


def report(state: str = "running", step: int = 5, error: RunError | None = None, **values: object) -> Report:
    return Report(state, Standing("lip", 2, 6, step, 12, **values), error, "")  # pyright: ignore


def alive(step: int = 5, **values: object) -> Seen:
    return Seen(Life.ALIVE, report(step=step, **values))


def test_a_claim_opens_one_attempt_and_the_oldest_first(desk: Desk) -> None:
    first, second = desk.run(), desk.run()
    one = desk.start()
    assert one.attempt.run_id == first.id
    assert one.attempt.submission_id == f"{first.id}-1"
    assert desk.claim() is None, "one at once here"
    assert desk.claim(host="another", at_once=1) is not None
    assert desk.view(second.id).status is RunStatus.STARTING


def test_an_attempt_goes_its_way(desk: Desk) -> None:
    run = desk.run()
    found = desk.start()
    desk.see(found, alive(losses={"lip/sync": 0.5}, gpu_hours=0.25))
    view = desk.view(run.id)
    assert (view.status, view.standing.step, view.gpu_hours) == (RunStatus.RUNNING, 5, 0.25)
    assert desk.see(found, Seen(Life.GONE, report("succeeded", 12, gpu_hours=0.5), 0)).finished
    assert desk.view(run.id).status is RunStatus.RUNNING, "until its bundle is registered"
    assert desk.do(reconcile.succeed, found.attempt, None, "done")
    assert not desk.do(reconcile.succeed, found.attempt, None, "done"), "once"
    view = desk.view(run.id)
    assert (view.status, view.gpu_hours) == (RunStatus.SUCCEEDED, 0.5)
    with desk.database.transaction() as session:
        kinds = [event.kind for event in runs.events_after(session, run.id)]
    assert kinds == [RunEventKind.CREATED, *[RunEventKind.STATUS] * 1, RunEventKind.STAGE, *[RunEventKind.STATUS] * 2]
    with pytest.raises(Rejected, match="run_ended"):
        desk.do(verbs.cancel, run.id)


def test_a_lost_attempt_is_followed_by_the_next_and_is_nobodys_from_then_on(desk: Desk) -> None:
    run = desk.run()
    first = desk.start()
    desk.see(first, alive(5, gpu_hours=1.0))
    assert desk.see(first, Seen(Life.GONE, report(step=5, gpu_hours=1.0))).over
    assert desk.view(run.id).status is RunStatus.QUEUED
    second = desk.start()
    assert second.attempt.number == 2
    desk.see(second, alive(6, gpu_hours=1.5))
    # The first one turns up again (its machine had been cut off) and even says that it is done.
    for seen in (alive(11), Seen(Life.GONE, report("succeeded"), 0), Seen(Life.GONE)):
        assert desk.see(first, seen) == reconcile.FOREIGN
    assert not desk.do(reconcile.succeed, first.attempt, None, "done")
    view = desk.view(run.id)
    assert (view.status, view.standing.step, view.attempts_total) == (RunStatus.RUNNING, 6, 2)
    assert desk.see(second, Seen(Life.GONE, report("stopped", 7, gpu_hours=2.0), 3)).over
    assert [(a.outcome, a.gpu_hours) for a in desk.view(run.id).attempts] == [
        (Outcome.LOST, 1.0),
        (Outcome.STOPPED, 1.0),
    ]


def test_attempts_that_get_nowhere_end_the_run_and_resume_takes_it_up(desk: Desk) -> None:
    run = desk.run()
    for _ in range(3):
        desk.see(desk.start(), Seen(Life.GONE, None, -9))
    view = desk.view(run.id)
    assert (view.status, view.error and view.error.code) == (RunStatus.FAILED, "lost")
    assert desk.claim() is None
    desk.do(verbs.resume, run.id)
    assert desk.view(run.id).error is None
    assert desk.start().attempt.number == 4


def test_cancel_ends_softly_then_hard(desk: Desk) -> None:
    run = desk.run()
    found = desk.start()
    desk.see(found, alive())
    desk.do(verbs.cancel, run.id)
    assert desk.view(run.id).status is RunStatus.CANCELING
    assert desk.see(found, alive()).end == "soft"
    assert desk.see(found, alive()).end is None
    desk.sql("UPDATE training_runs SET stop_asked_at = now() - interval '2 minutes'")
    assert desk.see(found, alive()).end == "hard"
    assert desk.see(found, Seen(Life.GONE, None, -9)).over
    assert desk.view(run.id).status is RunStatus.CANCELED


def test_a_machine_that_is_not_heard_of_loses_its_attempts(desk: Desk) -> None:
    run = desk.run()
    found = desk.start("a machine that burned down")
    assert desk.do(reconcile.give_up_silent) == ()
    desk.sql("UPDATE training_runs SET heard_at = now() - :gone", gone=LOST_AFTER + timedelta(seconds=1))
    assert desk.do(reconcile.give_up_silent) == (run.id,)
    assert desk.view(run.id).status is RunStatus.QUEUED
    assert desk.see(found, alive()) == reconcile.FOREIGN


def test_a_cluster_makes_room_by_stopping(desk: Desk) -> None:
    run = desk.run()
    found = desk.start(None)
    desk.see(found, alive())
    assert desk.see(found, alive(), room=True).end == "soft"
    assert desk.see(found, Seen(Life.GONE, report("stopped"), 3)).over
    view = desk.view(run.id)
    assert (view.status, view.status_reason) == (RunStatus.QUEUED, "made room")
    assert desk.start(None).attempt.number == 2


def test_alerts_are_told_once_to_the_operators_only(desk: Desk) -> None:
    with desk.database.transaction() as session:
        tenants = [keys.ensure_tenant(session, "runs the farm", operator=True), keys.ensure_tenant(session, "guest")]
        for number, tenant in enumerate(tenants):
            webhooks.add(
                session, id=f"whe_{number}", tenant_id=tenant, url="https://example.com", topics=[], secret="whsec_"
            )
    run = desk.run()
    found = desk.start()
    desk.see(found, alive(losses={"a": 1.0}))
    desk.see(found, alive(losses={"a": None}))
    desk.see(found, alive(losses={"a": None}))
    desk.sql("UPDATE training_runs SET progress_at = now() - interval '1 hour'")
    desk.see(found, alive(losses={"a": None}), yielding=True)
    assert desk.view(run.id).alerts == ("nan",), "a halted run does not stall"
    desk.sql("UPDATE training_runs SET progress_at = now() - interval '1 hour', yielding = false")
    desk.see(found, alive(losses={"a": None}))
    assert desk.view(run.id).alerts == ("nan", "stall")
    nan = RunError("nan", "lip/sync is no number")
    desk.see(found, Seen(Life.GONE, report("failed", error=nan), 1))
    with desk.database.transaction() as session:
        messages = outbox.take(session, 10, 60.0, "t")
    assert {message.endpoint_id for message in messages} == {"whe_0"}
    assert sorted(message.body.split('"')[3] for message in messages) == [
        "training_run.alert",
        "training_run.alert",
        "training_run.completed",
    ]


# --- schedules -----------------------------------------------------------------------------------------------------


def nightly(**values: object) -> Schedule:
    return Schedule("s", Cron("0 3 * * *", "Europe/Berlin"), SMOKE, **values)  # pyright: ignore


def three_oclock(desk: Desk, days: int = 0) -> datetime:
    with desk.database.transaction() as session:
        kept = schedules.get(session, "s")
    assert kept is not None
    return kept.schedule.cron.next(datetime.now(UTC), days + 1)[-1]


def outcomes(desk: Desk) -> list[FiringOutcome]:
    return [firing.outcome for firing in desk.schedule().firings]  # pyright: ignore


def test_a_schedule_fires_once_at_its_time(desk: Desk) -> None:
    desk.put(nightly())
    at = three_oclock(desk)
    assert desk.tick(at - timedelta(seconds=1)) == []
    (run_id,) = desk.tick(at + timedelta(seconds=1))
    assert desk.tick(at + timedelta(seconds=2)) == []
    view = desk.view(run_id)
    assert (view.schedule, view.fired_for, view.status) == ("s", at, RunStatus.QUEUED)
    assert outcomes(desk) == [FiringOutcome.STARTED]


def test_overlap_forbid_skips_with_its_reason(desk: Desk) -> None:
    desk.put(nightly())
    (run_id,) = desk.tick(three_oclock(desk))
    assert desk.tick(three_oclock(desk, 1)) == []
    newest = desk.schedule().firings[0]  # pyright: ignore
    assert newest.outcome is FiringOutcome.SKIPPED
    assert run_id in newest.reason


def test_overlap_queue_runs_one_after_the_other(desk: Desk) -> None:
    desk.put(nightly(overlap=Overlap.QUEUE))
    (first,) = desk.tick(three_oclock(desk))
    going = desk.start()
    (second,) = desk.tick(three_oclock(desk, 1))
    assert desk.tick(three_oclock(desk, 2)) == []
    assert outcomes(desk) == [FiringOutcome.SKIPPED, FiringOutcome.QUEUED, FiringOutcome.STARTED]
    assert desk.claim(at_once=10) is None, "runs of one schedule follow each other"
    desk.see(going, Seen(Life.GONE, report("failed", error=RunError("nan", "")), 1))
    assert desk.start().attempt.run_id == second != first


def test_overlap_replace_cancels_what_goes_on(desk: Desk) -> None:
    desk.put(nightly(overlap=Overlap.REPLACE))
    (first,) = desk.tick(three_oclock(desk))
    going = desk.start()
    (second,) = desk.tick(three_oclock(desk, 1))
    assert desk.view(first).status is RunStatus.CANCELING
    assert desk.claim(at_once=10) is None
    desk.see(going, Seen(Life.GONE, report("stopped"), 3))
    assert desk.view(first).status is RunStatus.CANCELED
    assert desk.start().attempt.run_id == second


@pytest.mark.parametrize(
    ("catch_up", "started", "missed"), [(CatchUp.NONE, 0, 3), (CatchUp.LATEST, 1, 2), (CatchUp.ALL, 2, 1)]
)
def test_missed_windows(desk: Desk, catch_up: CatchUp, started: int, missed: int) -> None:
    desk.put(nightly(catch_up=catch_up, catch_up_most=2, overlap=Overlap.QUEUE))
    back = three_oclock(desk, 2) + timedelta(hours=1)
    assert len(desk.tick(back)) == started
    assert desk.tick(back + timedelta(minutes=1)) == []
    firings = desk.schedule().firings  # pyright: ignore
    assert sum(f.count for f in firings if f.outcome is FiringOutcome.MISSED) == missed


def test_an_edit_while_a_run_goes_on_is_for_the_next_one(desk: Desk) -> None:
    desk.put(nightly(overlap=Overlap.QUEUE))
    (first,) = desk.tick(three_oclock(desk))
    desk.start()
    later = Schedule("s", Cron("0 5 * * *", "Europe/Berlin"), RunSpec("smoke", overrides={"seed": 9}))
    desk.put(later)
    assert desk.view(first).spec.overrides == {}
    desk.do(verbs.cancel, first)
    desk.sql("UPDATE training_runs SET status = 'canceled', token = NULL, finished_at = now()")
    desk.sql("UPDATE training_attempts SET outcome = 'canceled', finished_at = now()")
    assert desk.tick(three_oclock(desk) - timedelta(hours=1)) == [], "three o'clock is no time of it any more"
    (second,) = desk.tick(three_oclock(desk))
    assert desk.view(second).spec.overrides == {"seed": 9}
    assert desk.view(second).fired_for != desk.view(first).fired_for


def test_a_firing_that_meets_an_edit_does_nothing(desk: Desk) -> None:
    desk.put(nightly())
    at = three_oclock(desk)
    with desk.database.transaction() as session:
        (seen,) = clock.waiting(session, at)
    desk.put(nightly(paused=True))
    with desk.database.transaction() as session:
        assert clock.fire(session, seen, now=at) == ()
    desk.do(clock.delete, "s")
    desk.put(nightly())
    with desk.database.transaction() as session:
        assert clock.fire(session, seen, now=at) == (), "another schedule of this name"
    assert outcomes(desk) == []


def test_a_deleted_schedule_leaves_its_run_alone(desk: Desk) -> None:
    desk.put(nightly())
    (run_id,) = desk.tick(three_oclock(desk))
    going = desk.start()
    desk.do(clock.delete, "s")
    desk.see(going, alive())
    assert desk.view(run_id).status is RunStatus.RUNNING
    assert desk.view(run_id).schedule == "s"
    desk.put(nightly())
    assert outcomes(desk) == [], "the firings of the one before are not its own"


def test_pause_and_run_now(desk: Desk) -> None:
    desk.put(nightly(paused=True, catch_up=CatchUp.ALL))
    at = datetime.now(UTC) + timedelta(days=3)
    assert desk.tick(at) == []
    run = desk.do(clock.run_now, "s")
    assert run.fired_for is None  # pyright: ignore
    with pytest.raises(Rejected, match="run_open"):
        desk.do(clock.run_now, "s")
    desk.put(nightly(catch_up=CatchUp.ALL))
    assert desk.tick(datetime.now(UTC)) == [], "times of the pause were not missed"


def test_a_growing_bucket_starts_when_it_has_grown(desk: Desk) -> None:
    data = RunSpec("paper", Dataset("file:///data/clips"))
    desk.put(Schedule("s", Cron("0 3 * * *"), data, min_new_clips=10))
    assert desk.tick(three_oclock(desk), Counted(9, "lists/a")) == []
    assert "9 new clips" in desk.schedule().firings[0].reason  # pyright: ignore
    (run_id,) = desk.tick(three_oclock(desk, 1), Counted(19, "lists/b"))
    with desk.database.transaction() as session:
        kept = schedules.get(session, "s")
    assert kept is not None
    assert kept.clips == "lists/b"
    desk.do(verbs.cancel, run_id)
    assert desk.schedule().firings[0].reason == "on time, 19 new clips"  # pyright: ignore
    assert desk.tick(three_oclock(desk, 2), Counted(None, None, "no set there")) == []
    assert desk.schedule().firings[0].reason == "its clips could not be counted: no set there"  # pyright: ignore
    pinned = RunSpec("paper", Dataset("file:///data/clips", "0" * 64))
    with pytest.raises(Rejected) as caught:
        desk.put(Schedule("t", Cron("0 3 * * *"), pinned, min_new_clips=10))
    assert [p.code for p in caught.value.problems] == ["min_new_clips_refused"]


# --- priorities ------------------------------------------------------------------------------------------------------


def test_the_higher_priority_starts_first(desk: Desk) -> None:
    low, first, second = (desk.run(RunSpec("smoke", priority=priority)) for priority in (10, 80, 80))
    assert [desk.start().attempt.run_id for _ in range(3)] == [first.id, second.id, low.id]


def test_a_run_makes_way_for_a_higher_one_and_goes_on_later(desk: Desk) -> None:
    """Asked once, stopped at a checkpoint, behind the higher one, and then on."""
    low = desk.run(RunSpec("smoke", priority=10))
    going = desk.start()
    desk.see(going, alive())
    high = desk.run(RunSpec("smoke", priority=80))
    assert desk.do(launch.make_way, "here", 1) is None, "it may not preempt"
    desk.do(launch.explain)
    assert "of lower priority, but it may not preempt" in str(desk.view(high.id).waiting_reason)
    desk.do(verbs.cancel, high.id)
    high = desk.run(RunSpec("smoke", priority=80, preempt=True))
    assert desk.do(launch.make_way, "elsewhere", 1) is None, "there is room, or nobody of its own"
    assert desk.do(launch.make_way, "here", 2) is None, "there is room"
    assert desk.do(launch.make_way, "here", 1) == low.id
    assert desk.do(launch.make_way, "here", 1) is None, "asked once"
    desk.do(launch.explain)
    assert desk.view(high.id).waiting_reason == f"next in line: {low.id} makes room"
    assert desk.see(going, alive(6)).end == "soft"
    assert desk.see(going, Seen(Life.GONE, report("stopped", 7), 3)).over
    view = desk.view(low.id)
    assert (view.status, view.status_reason, view.attempts[0].outcome) == (
        RunStatus.QUEUED,
        "made room",
        Outcome.STOPPED,
    )
    next_one = desk.start()
    assert next_one.attempt.run_id == high.id
    assert desk.do(launch.make_way, "here", 1) is None, "the lower one does not come back for it"
    desk.do(launch.explain)
    assert desk.view(low.id).waiting_reason == f"waits for a place: {high.id} (priority 80) is training"
    assert desk.see(next_one, Seen(Life.GONE, report("succeeded", 12), 0)).finished
    desk.do(reconcile.succeed, next_one.attempt, None, "done")
    again = desk.start()
    assert (again.attempt.run_id, again.attempt.number) == (low.id, 2)


def test_rendering_lets_only_the_highest_start(desk: Desk) -> None:
    low, high = desk.run(), desk.run(RunSpec("smoke", priority=100))
    with desk.database.transaction() as session:
        found = launch.claim(session, "here", 5, least=100)
        assert found is not None
        assert found.attempt.run_id == high.id
        assert launch.claim(session, "here", 5, least=100) is None
        launch.explain(session, renders_before=100)
    assert desk.view(low.id).waiting_reason == "makes room for rendering"
    later = desk.run()
    desk.do(launch.explain, nowhere="no place here")
    assert desk.view(low.id).waiting_reason == "makes room for rendering", "by a launcher that has a place"
    assert desk.view(later.id).waiting_reason == "no place here"
