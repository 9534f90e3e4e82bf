"""Counters: what has ended is counted once, whatever runs beside, and a scrape does not count chunks."""

from __future__ import annotations

import threading

import sqlalchemy as sa

from farm.db import metrics
from farm.domain.chunk import Reason, Work
from farm.domain.measure import Page, Totals
from farm.domain.span import cut
from farm.flow import plan
from farm.flow.metrics import collect
from tests.small_farm import Fleet, plan_record


def totals(fleet: Fleet) -> Totals:
    """Collected until now."""
    # The collector keeps a second's distance from the present: let what happened be older.
    for table in ("attempts", "jobs"):
        fleet.run(
            f"update {table} set finished_at = finished_at - interval '5 s'"
            " where finished_at > now() - interval '5 s' and finished_at <= now()"
        )
    with fleet.database.transaction() as session:
        collect(session)
        return metrics.totals(session)[0]


def test_what_ended_is_counted_once(fleet: Fleet) -> None:
    fleet.submit(2)
    fleet.work_off()
    failing = fleet.submit(1)
    fleet.fail(fleet.lease(), Reason.BAD_INPUT, "no_face")
    assert fleet.batch(failing.id).counts.failed == 1
    first = totals(fleet)
    assert first.attempts == {
        ("plan", "succeeded", ""): 2,
        ("render", "succeeded", ""): 6,
        ("finalize", "succeeded", ""): 2,
        ("plan", "failed", "bad_input"): 1,
    }
    assert first.frames == 60
    assert first.jobs == {"succeeded": 2, "failed": 1}
    assert sum(first.job_seconds.counts) == 3
    assert first.stage_seconds == {("plan", "track"): 3.0, ("render", "generate"): 3.0}
    assert {work: sum(h.counts) for work, h in first.attempt_seconds.items()} == {"plan": 3, "render": 6, "finalize": 2}
    with fleet.database.transaction() as session:
        collect(session)
        assert metrics.totals(session)[0] == first
    fleet.submit(1)
    fleet.plan()
    fleet.run("update metrics set data = jsonb_set(data, '{until}', to_jsonb(now() - interval '4 s'))")
    with fleet.database.transaction() as session:
        assert metrics.open_jobs(session) == {"queued": 1, "running": 0}


def test_a_settle_that_commits_late_is_not_missed(fleet: Fleet) -> None:
    fleet.submit(1)
    lease = fleet.lease()
    began, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        with fleet.database.transaction() as session:
            plan.record(session, lease, plan_record(), cut(30, 10))
            began.set()
            go_on.wait(60)

    thread = threading.Thread(target=slow, daemon=True)
    thread.start()
    assert began.wait(60)
    fleet.run("select pg_sleep(1.5)")  # the transaction is now older than the collector's distance
    with fleet.database.transaction() as session:
        collect(session)
        assert metrics.totals(session)[0].attempts == {}
    go_on.set()
    thread.join()
    fleet.run("select pg_sleep(1.1)")
    with fleet.database.transaction() as session:
        collect(session)
        assert metrics.totals(session)[0].attempts == {("plan", "succeeded", ""): 1}


def test_lost_readers_are_counted_by_code_over_totals_of_the_release_before(fleet: Fleet) -> None:
    totals(fleet)
    older = "jsonb_set(data - 'readers', '{until}', to_jsonb(now() - interval '1 min'))"
    fleet.run(f"update metrics set data = {older} where name = 'totals'")
    for code, reason in (("media_reader_crashed", Reason.BAD_INPUT), ("no_face", Reason.BAD_INPUT)):
        fleet.submit(1)
        fleet.fail(fleet.lease(Work.PLAN), reason, code)
    assert totals(fleet).readers == {"media_reader_crashed": 1}
    assert totals(fleet).readers == {"media_reader_crashed": 1}


def test_two_collectors_do_not_wait_for_each_other(fleet: Fleet) -> None:
    totals(fleet)
    with fleet.database.transaction() as one, fleet.database.transaction() as other:
        assert metrics.collect(one)
        other.execute(sa.text("set local lock_timeout = '1s'"))
        assert not metrics.collect(other)
    fleet.run("delete from metrics where name = 'storage'")
    with fleet.database.transaction() as session:
        assert metrics.sample_storage(session)
        assert not metrics.sample_storage(session)
        assert metrics.storage(session) == {"assets": 0, "outputs": 0}


def test_prometheus_text() -> None:
    page = Page()
    page.gauge("depth", "Of a queue.", [({"queue": 'a"b\\c'}, 3), ({}, 0.5)])
    assert page.text().splitlines() == [
        "# HELP dubfarm_depth Of a queue.",
        "# TYPE dubfarm_depth gauge",
        'dubfarm_depth{queue="a\\"b\\\\c"} 3',
        "dubfarm_depth 0.5",
    ]
