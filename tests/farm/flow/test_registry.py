"""Gate, aliases, canary shares and staged moves, on rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from farm.db import versions as rows
from farm.domain.alias import BundleNote, BundleState, Cohort, takes_canary
from farm.domain.canary import DEFAULT, Rules, Watched
from farm.domain.chunk import Reason, Work
from farm.domain.gate import Direction, Gate, Rule
from farm.domain.job import JobStatus
from farm.domain.tenant import Actor
from farm.domain.version import Version
from farm.domain.views import BatchView
from farm.errors import Rejected
from farm.flow import canary, settle, staging, versions, workers
from farm.flow.workers import WorkerFacts
from tests.farm.flow.hands import together
from tests.small_farm import Fleet, segment

ADA = Actor("ada")
READY = BundleNote(BundleState.READY)
GATE = Gate((Rule("psnr", Direction.UP, margin=0.5), Rule("leak.largest", Direction.DOWN, margin=0.0)))


@pytest.fixture(autouse=True)
def _gate(fleet: Fleet) -> None:
    with fleet.database.transaction() as session:
        versions.set_gate(session, "pdfgc", GATE, actor=ADA)


def made(
    fleet: Fleet, name: str, *, psnr: float | None = 20.0, measured_on: str = "puppets", **more: object
) -> Version:
    evaluation = None if psnr is None else {"evaluation_set": measured_on, "psnr": psnr, "leak": {"largest": 0.1}}
    with fleet.database.transaction() as session:
        return versions.register(
            session,
            name=name,
            bundle_key=f"bundles/{name}",
            bundle_sha256=name,
            manifest={"trained": True, "licence": "any", **more},
            evaluation=evaluation,
        )


def promote(fleet: Fleet, version: Version, alias: str = "champion", **how: object) -> None:
    with fleet.database.transaction() as session:
        versions.promote(session, alias, version.id, actor=ADA, **how)  # pyright: ignore[reportArgumentType]


def roll_back(fleet: Fleet, alias: str = "champion") -> Version:
    with fleet.database.transaction() as session:
        return versions.rollback(session, alias, actor=ADA)


def alias_of(fleet: Fleet, alias: str) -> tuple[str, float | None] | None:
    with fleet.database.transaction() as session:
        found = rows.alias(session, alias)
    return None if found is None else (found.version_id, found.share)


def audited(fleet: Fleet, action: str) -> list[dict[str, object]]:
    return [row[0] for row in fleet.sql("select detail from audit_log where action = :a order by id", a=action)]  # pyright: ignore


def test_the_gate_refuses_with_its_reasons_and_force_is_audited(fleet: Fleet):
    champion, worse = made(fleet, "good"), made(fleet, "worse", psnr=19.0)
    promote(fleet, champion)
    with pytest.raises(Rejected) as caught:
        promote(fleet, worse)
    assert caught.value.code == "gate_refused"
    assert [p.code for p in caught.value.problems] == ["below_the_gate"]
    assert "psnr: 19; needed at least 19.5" in caught.value.problems[0].detail
    assert alias_of(fleet, "champion") == (champion.id, None)
    with fleet.database.transaction() as session:
        decision = versions.judge(session, worse)
        kept = rows.get(session, worse.id)
    assert kept is not None
    assert kept.gate == decision
    assert (decision.passed, decision.champion) == (False, champion.id)
    assert [(f.metric, f.passed) for f in decision.findings] == [("psnr", False), ("leak.largest", True)]
    promote(fleet, worse, force=True)
    assert alias_of(fleet, "champion") == (worse.id, None)
    assert audited(fleet, "alias.promoted")[-1] == {
        "version": worse.id,
        "previous": champion.id,
        "forced": True,
        "reasons": list(decision.reasons),
    }
    with fleet.database.transaction() as session:
        newest = rows.history(session, "champion")[0]
    assert (newest.forced, newest.reasons) == (True, decision.reasons)
    promote(fleet, made(fleet, "better", psnr=20.1))
    assert "forced" not in audited(fleet, "alias.promoted")[-1], "what passes needs no force"


def test_another_evaluation_set_is_refused_until_both_are_measured_on_one(fleet: Fleet):
    promote(fleet, made(fleet, "old"))
    with pytest.raises(Rejected, match="measured on people, the champion on puppets"):
        promote(fleet, made(fleet, "new", measured_on="people"))
    with pytest.raises(Rejected, match="never evaluated"):
        promote(fleet, made(fleet, "unknown", psnr=None))
    made(fleet, "old", measured_on="people")
    promote(fleet, made(fleet, "new", measured_on="people"))
    assert len(audited(fleet, "version.evaluated")) == 1


def test_other_aliases_have_no_gate_and_no_share(fleet: Fleet):
    promote(fleet, made(fleet, "good"))
    worse = made(fleet, "worse", psnr=1.0)
    promote(fleet, worse, "experiment")
    for name in ("champion", "canary"):
        with pytest.raises(Rejected, match="gate_refused"):
            promote(fleet, worse, name)
    with pytest.raises(Rejected, match="share_refused"):
        promote(fleet, worse, "experiment", share=0.5)


def test_who_comes_too_late_is_told(fleet: Fleet):
    one, other = made(fleet, "one"), made(fleet, "other")
    promote(fleet, one, revision=1)
    with pytest.raises(Rejected, match="alias_moved"):
        promote(fleet, other, revision=1)
    promote(fleet, one, revision=2)
    promote(fleet, other, revision=2)
    with pytest.raises(Rejected, match="alias_moved"), fleet.database.transaction() as session:
        versions.rollback(session, "champion", actor=ADA, revision=2)
    raised = together(*(lambda: promote(fleet, one, revision=3), lambda: promote(fleet, one, revision=3)))
    assert all(isinstance(error, Rejected) and error.code == "alias_moved" for error in raised)
    assert alias_of(fleet, "champion") == (one.id, None)


def cohorts(fleet: Fleet, batch: BatchView) -> dict[str, tuple[str, Cohort | None]]:
    return {job.id: (job.version_id, job.cohort) for job in fleet.jobs(batch.id)}


def test_a_share_of_the_jobs_that_ask_for_champion_gets_the_canary(fleet: Fleet):
    old, new = made(fleet, "old"), made(fleet, "new", queue="large")
    promote(fleet, old)
    before = cohorts(fleet, fleet.submit(20))
    promote(fleet, new, "canary", share=0.3)
    during = cohorts(fleet, fleet.submit(80))
    named = cohorts(fleet, fleet.submit(20, model="old"))
    assert set(before.values()) == set(named.values()) == {(old.id, None)}
    assert {job: its[1] is Cohort.CANARY for job, its in during.items()} == {
        job: takes_canary(job, 0.3) for job in during
    }
    assert set(during.values()) == {(old.id, Cohort.CHAMPION), (new.id, Cohort.CANARY)}
    queues = fleet.sql("select distinct version_id, queue from chunks")
    assert set(queues) == {(old.id, "render"), (new.id, "large")}
    order = fleet.claim(queues=("large",))
    assert order is not None
    assert order.version_id == new.id
    promote(fleet, new, "canary", share=0.0)
    assert set(cohorts(fleet, fleet.submit(20)).values()) == {(old.id, None)}
    assert [row[0] for row in fleet.sql("select kind from alias_moves where alias = 'canary' order by id")] == [
        "promote",
        "share",
    ]
    fleet.audit()


def test_a_canary_that_becomes_champion_has_no_share_any_more(fleet: Fleet):
    old, new = made(fleet, "old"), made(fleet, "new")
    promote(fleet, old)
    promote(fleet, new, "canary", share=0.5)
    promote(fleet, new)
    assert alias_of(fleet, "canary") == (new.id, 0.0)
    assert roll_back(fleet).id == old.id
    assert set(cohorts(fleet, fleet.submit(20)).values()) == {(old.id, None)}


def test_a_rollback_never_changes_what_a_running_job_is_pinned_to(fleet: Fleet):
    old, new = made(fleet, "old"), made(fleet, "new")
    promote(fleet, old)
    first = fleet.submit(2)
    promote(fleet, new)
    second = fleet.submit(2)
    seen: dict[str, set[str]] = {}
    for k in range(100):
        if k == 13:  # in the middle of the second batch
            assert roll_back(fleet).id == old.id
        order = fleet.claim()
        if order is None:
            break
        seen.setdefault(order.lease.job_id, set()).add(order.version_id)
        assert order.bundle_sha256 == {old.id: "old", new.id: "new"}[order.version_id]
        fleet.settle(order.lease)
    assert [seen[job.id] for job in fleet.jobs(first.id)] == [{old.id}] * 2
    assert [seen[job.id] for job in fleet.jobs(second.id)] == [{new.id}] * 2
    assert fleet.submit().version_id == old.id
    fleet.audit()


# --- staged moves --------------------------------------------------------------------------------------------------


def come(fleet: Fleet, *names: str, queue: str = "render") -> None:
    with fleet.database.transaction() as session:
        for name in names:
            workers.register(session, WorkerFacts(name, "host", "cpu", [queue]))


def stage(fleet: Fleet, version: Version, alias: str = "champion", within_s: float = 60.0) -> bool:
    with fleet.database.transaction() as session:
        return staging.stage(session, alias, version.id, actor=ADA, within_s=within_s)


def report(fleet: Fleet, worker: str, **notes: BundleNote) -> list[str]:
    with fleet.database.transaction() as session:
        return [one.version_id for one in staging.report(session, worker, ["render"], notes)]


def test_an_alias_moves_when_every_serving_worker_has_the_files(fleet: Fleet):
    old, new = made(fleet, "old"), made(fleet, "new")
    promote(fleet, old)
    come(fleet, "w1", "w2", "gone", "drained")
    come(fleet, "elsewhere", queue="large")
    fleet.run("update workers set left_at = now() where id = 'gone'")
    fleet.run("update workers set draining = true where id = 'drained'")
    assert not stage(fleet, new)
    assert report(fleet, "w1") == [new.id]
    report(fleet, "w1", **{new.id: READY})
    assert fleet.submit().version_id == old.id
    report(fleet, "w2", **{new.id: BundleNote(BundleState.FAILED, "the store is away")})
    assert alias_of(fleet, "champion") == (old.id, None)
    report(fleet, "w2", **{new.id: READY})
    assert alias_of(fleet, "champion") == (new.id, None)
    assert report(fleet, "w1", **{new.id: READY}) == []
    assert fleet.submit().version_id == new.id
    assert (len(audited(fleet, "alias.staged")), len(audited(fleet, "alias.promoted"))) == (1, 3)


def test_the_time_for_fetching_is_bounded(fleet: Fleet):
    old, new = made(fleet, "old"), made(fleet, "new")
    promote(fleet, old)
    come(fleet, "w1")
    assert not stage(fleet, new, within_s=60)
    with fleet.database.transaction() as session:
        assert staging.complete(session) == 0
    fleet.run("update stagings set until = now()")
    with fleet.database.transaction() as session:
        assert staging.complete(session) == 1
    assert alias_of(fleet, "champion") == (new.id, None)
    assert stage(fleet, old, within_s=0)


def test_what_waits_is_superseded_by_what_moves(fleet: Fleet):
    old, new, newer = made(fleet, "old"), made(fleet, "new"), made(fleet, "newer")
    promote(fleet, old)
    come(fleet, "w1")
    stage(fleet, new)
    stage(fleet, newer)
    with fleet.database.transaction() as session:
        assert [(s.version_id, s.workers, s.ready) for s in rows.stagings(session)] == [(newer.id, 1, 0)]
    roll_back(fleet)
    report(fleet, "w1", **{newer.id: READY})
    assert alias_of(fleet, "champion") == (fleet.version, None)


def test_a_refused_version_is_not_even_fetched(fleet: Fleet):
    promote(fleet, made(fleet, "old"))
    come(fleet, "w1")
    with pytest.raises(Rejected, match="gate_refused"):
        stage(fleet, made(fleet, "worse", psnr=3.0))
    assert report(fleet, "w1") == []


def test_a_version_that_a_worker_finds_unusable_is_reached_by_nothing(fleet: Fleet):
    old, bad = made(fleet, "old"), made(fleet, "bad")
    promote(fleet, old)
    come(fleet, "w1", "w2")
    assert not stage(fleet, bad)
    report(fleet, "w1", **{bad.id: READY})
    assert report(fleet, "w2", **{bad.id: BundleNote(BundleState.UNUSABLE, "weights_not_finite: fc.bias")}) == []
    report(fleet, "w2", **{bad.id: BundleNote(BundleState.UNUSABLE, "weights_not_finite: fc.bias")})
    with fleet.database.transaction() as session:
        assert rows.stagings(session) == ()
        assert staging.complete(session) == 0
    assert alias_of(fleet, "champion") == (old.id, None)
    assert audited(fleet, "version.unusable") == [{"why": "weights_not_finite: fc.bias"}]
    for alias in ("champion", "canary", "experiment"):
        with pytest.raises(Rejected, match=r"version_unusable: .*fc\.bias"):
            promote(fleet, bad, alias, force=True)
    with pytest.raises(Rejected) as refused:
        fleet.submit(model="bad")
    assert [(p.code, p.pointer) for p in refused.value.problems] == [("version_unusable", "/model")]
    assert fleet.submit().version_id == old.id


def test_the_share_of_a_canary_that_turns_out_unusable_ends(fleet: Fleet):
    old, bad = made(fleet, "old"), made(fleet, "bad")
    promote(fleet, old)
    promote(fleet, bad, "canary", share=0.5)
    come(fleet, "w1")
    report(fleet, "w1", **{bad.id: BundleNote(BundleState.UNUSABLE, "weights_key_missing: fc.bias")})
    assert alias_of(fleet, "canary") == (bad.id, 0.0)
    (stopped,) = audited(fleet, "alias.canary_stopped")
    assert "fc.bias" in str(stopped["reasons"])


# --- a canary beside the champion ----------------------------------------------------------------------------------


def render(fleet: Fleet, score: Callable[[str, int], dict[str, float]], fails: Callable[[str], bool] = lambda v: False):
    """Work everything off; scores by version and a running number."""
    failed: set[str] = set()
    for k in range(10_000):
        order = fleet.claim(worker=f"w{k % 5}")
        if order is None:
            left = fleet.sql("select status, count(*) from jobs where status <> 'succeeded' group by 1")
            assert left == [], "nothing to claim, though not everything is done"
            return
        if order.lease.work is not Work.RENDER:
            fleet.settle(order.lease, frames=20)
        elif fails(order.version_id) and order.lease.chunk_id not in failed:
            failed.add(order.lease.chunk_id)
            fleet.fail(order.lease, Reason.OUTPUT_CHECK_FAILED)
            fleet.run("update chunks set available_at = now() where status = 'waiting'")
        else:
            result = replace(segment(order.lease), scores=score(order.version_id, k))
            with fleet.database.transaction() as session:
                settle.succeed(session, order.lease, result)


def running(fleet: Fleet) -> tuple[Version, Version]:
    old, new = made(fleet, "old"), made(fleet, "new")
    promote(fleet, old)
    promote(fleet, new, "canary", share=0.5)
    submit_enough(fleet)
    return old, new


def submit_enough(fleet: Fleet) -> None:
    """Jobs are shared out by their ids, which are drawn: as many jobs as it takes for either side to be judged."""
    enough = DEFAULT.fewest_jobs + 4
    while len(fleet.sql("select cohort from jobs group by cohort having count(*) >= :n", n=enough)) < 2:
        fleet.submit(12)


def watched(fleet: Fleet, every_s: float = 0.0) -> list[tuple[str, ...]]:
    with fleet.database.transaction() as session:
        return [one.reasons for one in canary.watch(session, every_s)]


def test_a_worse_canary_is_stopped_recorded_audited_and_told(fleet: Fleet):
    fleet.run(
        "insert into webhook_endpoints (id, tenant_id, url, topics, secret)"
        " values ('whe_1', :tenant, 'https://example.com', '{}', 'whsec_')",
        tenant=fleet.tenant,
    )
    old, new = running(fleet)
    render(fleet, lambda version, k: {"identity": (0.9 if version == old.id else 0.7) + 0.01 * (k % 3)})
    (reasons,) = watched(fleet)
    assert len(reasons) == 1
    assert reasons[0].startswith("identity: 0.7")
    assert alias_of(fleet, "canary") == (new.id, 0.0)
    with fleet.database.transaction() as session:
        move = rows.history(session, "canary")[0]
    assert (move.kind, move.share, move.reasons, move.actor) == ("stop", 0.0, reasons, "farm")
    assert audited(fleet, "alias.canary_stopped")[0]["reasons"] == list(reasons)
    (body,) = fleet.sql("select body from webhook_events where topic = 'model.canary_stopped'")
    told = json.loads(str(body[0]))["data"]
    assert (told["version_id"], told["reasons"]) == (new.id, list(reasons))
    assert set(cohorts(fleet, fleet.submit(20)).values()) == {(old.id, None)}
    assert watched(fleet) == []


def test_an_equal_canary_goes_on_and_is_shown_beside_the_champion(fleet: Fleet):
    old, new = running(fleet)
    render(fleet, lambda version, k: {"identity": 0.9 + 0.01 * (k % 7), "sync": 0.5})
    fleet.submit(5, model="old")
    render(fleet, lambda version, k: {"identity": 0.0})
    assert watched(fleet) == []
    assert alias_of(fleet, "canary") == (new.id, 0.5)
    with fleet.database.transaction() as session:
        found = canary.compare(session, None, None)
        everything = canary.compare(session, rows.get(session, old.id), rows.get(session, new.id))
    assert (found.champion, found.canary, found.share) == (old.id, new.id, 0.5)
    identity = next(one for one in found.scores if one.score == "identity")
    assert identity.champion is not None
    assert identity.canary is not None
    shared = fleet.sql("select count(*) from jobs where cohort is not null")[0][0]
    assert identity.champion.jobs + identity.canary.jobs == shared, "jobs that named a version are no part of it"
    assert identity.champion.chunks == 2 * identity.champion.jobs
    assert identity.champion.low is not None
    assert identity.champion.low < identity.champion.mean
    theirs = next(one.canary for one in everything.scores if one.score == "identity")
    assert theirs is not None
    assert theirs.jobs == identity.champion.jobs + 5
    assert theirs.mean < 0.9


def test_a_canary_whose_chunks_fail_is_stopped(fleet: Fleet):
    _, new = running(fleet)
    render(fleet, lambda version, k: {"identity": 0.9}, fails=lambda version: version == new.id)
    (reasons,) = watched(fleet)
    assert reasons[0].startswith("failed: 0.5 ")
    assert {job.status for job in fleet.jobs(str(fleet.sql("select id from batches")[0][0]))} == {JobStatus.SUCCEEDED}


def test_a_canary_is_looked_at_once_in_a_while(fleet: Fleet):
    old, _ = running(fleet)
    assert watched(fleet) == []
    render(fleet, lambda version, k: {"identity": 0.9 if version == old.id else 0.1})
    assert watched(fleet, every_s=3600) == [], "just looked at"
    assert len(watched(fleet, every_s=0)) == 1


def test_a_model_has_canary_rules_of_its_own(fleet: Fleet):
    """Others than the default ones, in the comparison, in the watch, and for a new canary's share."""
    rules = Rules((Watched("sync", Direction.UP, 0.1),), share=0.5)
    with fleet.database.transaction() as session:
        with pytest.raises(Rejected, match="invalid"):
            canary.set_rules(session, "pdfgc", rules, actor=ADA)
        rules = replace(rules, watched=(Watched("jitter", Direction.DOWN, 0.1),), stops=False)
        canary.set_rules(session, "pdfgc", rules, actor=ADA)
    (detail,) = audited(fleet, "model.canary_rules_changed")
    assert (detail["share"], detail["stops"]) == (0.5, False)
    old, new = made(fleet, "old"), made(fleet, "new")
    promote(fleet, old)
    promote(fleet, new, "canary")
    assert alias_of(fleet, "canary") == (new.id, 0.5)
    submit_enough(fleet)
    render(
        fleet, lambda version, k: {"identity": 0.9 if version == old.id else 0.1, "jitter": 0.3 * (version == new.id)}
    )
    assert watched(fleet) == [], "it is not to be stopped"
    with fleet.database.transaction() as session:
        assert [one.score for one in canary.compare(session, None, None).scores if one.worse] == ["jitter"]
        canary.set_rules(session, "pdfgc", replace(rules, stops=True), actor=ADA)
    (reasons,) = watched(fleet)
    assert reasons[0].startswith("jitter: 0.3 ")
    with fleet.database.transaction() as session:
        assert canary.set_rules(session, "pdfgc", None, actor=ADA) == canary.rules(session) == DEFAULT
