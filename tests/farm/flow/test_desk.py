"""What the front desk does: submissions, assets, keys, versions, workers, queues."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from farm.db import assets as asset_rows
from farm.db import batches, jobs, known, media
from farm.db import versions as version_rows
from farm.db import workers as worker_rows
from farm.domain.asset import AssetStatus
from farm.domain.batch import BatchSpec
from farm.domain.chunk import Work
from farm.domain.factor import Drive, Driver, Factors, FactorSetting, Media
from farm.domain.job import FaceChoice, FaceSetting, Kind, OutputSetting
from farm.domain.media import MediaFacts
from farm.domain.span import cut
from farm.domain.speed import size_class
from farm.domain.tenant import Actor, Scope
from farm.errors import Rejected
from farm.flow import assets, claim, estimate, keys, plan, release, submit, versions, workers
from farm.flow.workers import WorkerFacts
from farm.storage import keys as object_keys
from farm.storage.blobs import BlobStore
from tests.api.hands import VIDEO
from tests.small_farm import LIMITS, Fleet, blob, items, plan_record


def test_every_problem_of_a_submission_is_told_at_once(fleet: Fleet) -> None:
    with fleet.database.transaction() as session:
        pending = assets.create(session, fleet.tenant).id
    video = FactorSetting(Drive.VIDEO, (Driver(Media(uri="ftp://x/y")),))
    blend = FactorSetting(Drive.BLEND, (Driver(Media(uri="https://10.0.0.1/x")), Driver(Media(asset_id="ast_none"))))
    one, two, three = items(3)
    spec = BatchSpec(
        items=(
            replace(one, source=Media(uri="http://example.com/x"), voice=Media(asset_id=pending)),
            replace(two, custom_id=one.custom_id, kind=Kind.ANIMATE, source=Media(uri="s3://other/key")),
            replace(
                three,
                factors=Factors(gaze=video, blink=video, expression=blend, pose=FactorSetting(Drive.AUDIO)),
                face=FaceSetting(FaceChoice.REFERENCE, reference=Media(uri="https://user:pw@example.com/")),
                output=OutputSetting(destination="https://example.com/out.mp4"),
            ),
        ),
        model="nobody",
        deadline=datetime.now(UTC) - timedelta(days=1),
    )
    with fleet.database.transaction() as session:
        found = {(p.pointer, p.code) for p in submit.check(session, fleet.tenant, spec, LIMITS)}
        with pytest.raises(Rejected) as refused:
            submit.submit(session, fleet.tenant, spec, LIMITS)
    assert (
        found
        == {(p.pointer, p.code) for p in refused.value.problems}
        == {
            ("/model", "model_not_found"),
            ("/deadline", "deadline_passed"),
            ("/items/0/video/uri", "uri_scheme_refused"),
            ("/items/0/audio/asset_id", "asset_not_ready"),
            ("/items/1/custom_id", "custom_id_repeated"),
            ("/items/1/image/uri", "uri_bucket_refused"),
            ("/items/2/factors/pose", "factor_drive"),
            ("/items/2/factors/eye/video/uri", "uri_scheme_refused"),
            ("/items/2/factors/expression/blend/0/video/uri", "uri_host_refused"),
            ("/items/2/factors/expression/blend/1/video/asset_id", "asset_not_found"),
            ("/items/2/face/reference/uri", "uri_credentials_refused"),
            ("/items/2/output/destination", "destination_refused"),
        }
    )
    assert fleet.sql("select count(*) from batches") == [(0,)]


def test_empty_batch_is_refused(fleet: Fleet) -> None:
    with fleet.database.transaction() as session:
        assert [p.code for p in submit.check(session, fleet.tenant, BatchSpec(()), LIMITS)] == ["item_count"]


def test_submission_keeps_what_was_asked_and_pins_the_version(fleet: Fleet) -> None:
    batch = fleet.submit(2, name="night shift", priority=7, metadata={"reel": "3"})
    assert (batch.name, batch.priority, batch.metadata, batch.model) == ("night shift", 7, {"reel": "3"}, "champion")
    with fleet.database.transaction() as session:
        newer = versions.register(session, name="v2", bundle_key="b", bundle_sha256="ee", manifest={"trained": True})
        versions.promote(session, "champion", newer.id, actor=Actor("test"))
    order = fleet.claim()
    assert order is not None
    assert order.version_id == batch.version_id == fleet.version
    assert order.spec == items(1)[0]
    assert fleet.submit().version_id == newer.id


def test_ten_thousand_items(fleet: Fleet) -> None:
    batch = fleet.submit(10_000)
    assert batch.counts.total == batch.counts.queued == 10_000
    order = fleet.claim()
    assert order is not None
    assert order.spec.custom_id == "item-0"
    with fleet.database.transaction() as session:
        last = jobs.page(session, fleet.tenant, batch.id, page_size=2, cursor=None)
        assert [job.custom_id for job in last.items] == ["item-0", "item-1"]
        following = jobs.page(session, fleet.tenant, batch.id, page_size=2, cursor=last.next_cursor)
        assert [job.custom_id for job in following.items] == ["item-2", "item-3"]
        assert last.items[1].waiting_reason == "no live worker listens to queue 'render'"
    # A claim reads the first entries of its index, whatever is behind them. (What the backend has not reported yet of
    # its transactions before is in these numbers too.)
    reads = sa.text("select seq_scan, idx_tup_fetch from pg_stat_xact_user_tables where relname = 'chunks'")
    with fleet.database.transaction() as session:
        before = session.execute(reads).one()
        assert claim.claim(session, "w1", ["render"], 60.0) is not None
        after = session.execute(reads).one()
    assert after.seq_scan == before.seq_scan
    assert after.idx_tup_fetch - before.idx_tup_fetch < 20


def test_pages_by_cursor_filter_and_time(fleet: Fleet) -> None:
    made = [fleet.submit().id for _ in range(5)]
    with fleet.database.transaction() as session:
        first = batches.page(session, fleet.tenant, page_size=2)
        second = batches.page(session, fleet.tenant, page_size=2, cursor=first.next_cursor)
        third = batches.page(session, fleet.tenant, page_size=2, cursor=second.next_cursor)
        assert [b.id for page in (first, second, third) for b in page.items] == made[::-1]
        assert third.next_cursor is None
        later = datetime.now(UTC) + timedelta(hours=1)
        assert batches.page(session, fleet.tenant, updated_since=later).items == ()
        assert batches.page(session, "ten_other").items == ()
        for cursor in ("nonsense", "", first.next_cursor):
            with pytest.raises(Rejected, match="cursor_invalid"):
                jobs.page(session, fleet.tenant, cursor=cursor)
    fleet.work_off()
    with fleet.database.transaction() as session:
        lines = list(jobs.results(session, fleet.tenant, made[0]))
    assert [(line.custom_id, line.status.value, line.scores) for line in lines] == [
        ("item-0", "succeeded", {"sync": 0.25})
    ]


def test_assets_are_taken_in_by_content(fleet: Fleet, store: BlobStore) -> None:
    def _reserve(key: str) -> None:
        with fleet.database.transaction() as session:
            media.reserve(session, key)

    blobs = []
    for _ in range(2):
        with fleet.database.transaction() as session:
            asset = assets.create(session, fleet.tenant, "take 1.mp4", "video/mp4")
        assert asset.status is AssetStatus.PENDING
        with pytest.raises(Rejected, match="asset_bytes_missing"):
            assets.take_in(store, asset.id, 100, _reserve)
        store.put_bytes(b"moving pictures", object_keys.upload(asset.id))
        blob = assets.take_in(store, asset.id, 100, _reserve)
        with fleet.database.transaction() as session:
            done = assets.complete(session, fleet.tenant, asset.id, blob)
            assert assets.complete(session, fleet.tenant, asset.id, blob) == done
            with pytest.raises(Rejected, match="asset_already_complete"):
                assets.complete(session, fleet.tenant, asset.id, replace(blob, sha256="00"))
            assert asset_rows.get(session, "ten_other", asset.id) is None
        blobs.append(done.blob)
    assert blobs[0] == blobs[1]
    with fleet.database.transaction() as session:
        assert asset_rows.blob_of(session, fleet.tenant, blob.sha256) == blob
        assert asset_rows.blob_of(session, "ten_other", blob.sha256) is None
    assert store.get_bytes(blob.key) == b"moving pictures"
    assert list(store.list("uploads/")) == []
    store.put_bytes(b"x" * 101, object_keys.upload("ast_big"))
    with pytest.raises(Rejected, match="asset_too_large"):
        assets.take_in(store, "ast_big", 100, _reserve)
    store.put_bytes(b"", object_keys.upload("ast_empty"))
    with pytest.raises(Rejected, match="asset_empty"):
        assets.take_in(store, "ast_empty", 100, _reserve)
    spec = BatchSpec((replace(items(1)[0], voice=Media(asset_id=done.id)),))
    with fleet.database.transaction() as session:
        submit.submit(session, fleet.tenant, spec, LIMITS)
    order = fleet.claim()
    assert order is not None
    assert order.assets == {done.id: blob}


def test_keys_are_shown_once_and_can_be_revoked(fleet: Fleet) -> None:
    with fleet.database.transaction() as session:
        key = keys.create(session, fleet.tenant, "ci", [Scope.SUBMIT, Scope.READ])
        found = keys.verify(session, key.text)
        assert found is not None
        assert (found.tenant_id, found.key_id) == (fleet.tenant, key.id)
        assert found.may(Scope.READ)
        assert not found.may(Scope.ADMIN)
        prefix = key.text.split("_")[1]
        for wrong in (
            "",
            "dub",
            "dub__",
            key.text + "0",
            f"dub_{prefix}_",
            f"dub_{'0' * 12}_{'0' * 64}",
            "dub_\0_x",
            "düb_a_b",
        ):
            assert keys.verify(session, wrong) is None
        assert key.text.split("_")[2] not in str(fleet.sql("select * from api_keys"))
        with pytest.raises(Rejected, match="not_found"):
            keys.revoke(session, "ten_other", key.id)
        keys.revoke(session, fleet.tenant, prefix)
        assert keys.verify(session, key.text) is None
        assert keys.ensure_tenant(session, "studio") == fleet.tenant


def test_aliases_move_and_roll_back(fleet: Fleet) -> None:
    with fleet.database.transaction() as session:
        made = [
            versions.register(session, name=f"n{k}", bundle_key="b", bundle_sha256=str(k), manifest={"licence": "CC0"})
            for k in range(3)
        ]
        assert versions.register(session, name="n0", bundle_key="b", bundle_sha256="0", manifest={}).id == made[0].id
        with pytest.raises(Rejected, match="version_name_taken"):
            versions.register(session, name="n0", bundle_key="b", bundle_sha256="9", manifest={})
        for version in made:
            versions.promote(session, "champion", version.id, actor=Actor("ada"))
        for text in ("champion", made[2].id, "n2"):
            found = versions.resolve(session, text)
            assert found is not None
            assert found.id == made[2].id
        assert versions.resolve(session, "n9") is None
        assert versions.rollback(session, "champion", actor=Actor("ada")).id == made[1].id
        assert versions.rollback(session, "champion", actor=Actor("ada")).id == made[0].id
        versions.promote(session, "champion", made[2].id, actor=Actor("ada"))
        assert versions.rollback(session, "champion", actor=Actor("ada")).id == made[0].id
        assert versions.rollback(session, "champion", actor=Actor("ada")).id == fleet.version
        with pytest.raises(Rejected, match="nothing_to_roll_back"):
            versions.rollback(session, "champion", actor=Actor("ada"))
        with pytest.raises(Rejected, match="alias_not_found"):
            versions.rollback(session, "canary", actor=Actor("ada"))
        with pytest.raises(Rejected, match="version_not_found"):
            versions.promote(session, "canary", "ver_none", actor=Actor("ada"))
        kinds = [move.kind for move in version_rows.history(session, "champion")]
    assert kinds[::-1] == ["promote"] * 4 + ["rollback"] * 2 + ["promote"] + ["rollback"] * 2


def test_workers_queues_and_wakeups(fleet: Fleet) -> None:
    with fleet.database.transaction() as session:
        workers.register(session, WorkerFacts("w1", "host", "cuda:0", ["render"], {"memory_gb": 80}))
        workers.register(session, WorkerFacts("w2", "host", "cpu", ["render"]))
        assert release.release(session) == []
    fleet.submit(20)
    with fleet.database.transaction() as session:
        assert release.release(session) == [release.Wakeup("render", 4)]
        assert estimate.estimate(session, fleet.tenant, BatchSpec(items(3))).worker_s is None
    lease = fleet.lease(Work.PLAN)
    with fleet.database.transaction() as session:
        assert release.release(session) == [release.Wakeup("render", 3)]
        first, _ = worker_rows.listed(session)
        assert (first.chunk_id, first.alive, first.info) == (lease.chunk_id, True, {"memory_gb": 80})
        (queue,) = worker_rows.queues(session)
        assert (queue.waiting, queue.leased, queue.workers, queue.delayed, queue.held) == (19, 1, 2, 0, 0)
        workers.drain(session, "w2")
        assert workers.is_kept_out(session, "w2")
        assert not workers.is_kept_out(session, "w1")
        assert release.release(session) == [release.Wakeup("render", 2 + 1)], "w2 takes one of them"
        workers.beat(session, "w1", version_id=fleet.version, frames_per_s=15.0)
    assert fleet.claim("w2") is None
    with fleet.database.transaction() as session:
        workers.resume(session, "w2")
        with pytest.raises(Rejected, match="not_found"):
            workers.drain(session, "w9")
    assert fleet.claim("w2") is not None
    fleet.run("update workers set quarantined_until = now() + interval '1 minute' where id = 'w2'")
    assert fleet.claim("w2") is None
    with fleet.database.transaction() as session:
        workers.leave(session, "w2")
        assert [view.id for view in worker_rows.listed(session)] == ["w1"]


def test_estimate_goes_by_what_was_seen(fleet: Fleet) -> None:
    with fleet.database.transaction() as session:
        workers.register(session, WorkerFacts("w1", "host", "cpu", ["render"]))
        workers.beat(session, "w1", frames_per_s=10.0)
    fleet.submit()
    fleet.work_off()
    with fleet.database.transaction() as session:
        guess = estimate.estimate(session, fleet.tenant, BatchSpec(items(4)))
    assert (guess.jobs, guess.frames, guess.worker_s, guess.wait_s, guess.finish_s) == (4, 120, 12.0, 0.0, 12.0)
    assert "30 frames a job" in guess.basis


def test_estimate_goes_by_earlier_jobs_of_the_same_assets(fleet: Fleet) -> None:
    """A dub by its video's frames and the speed measured at its size, an animated picture by its voice, the rest by
    the mean; another tenant's jobs say nothing."""
    (item,) = items(1)
    with fleet.database.transaction() as session:
        source, voice = (assets.create(session, fleet.tenant).id for _ in range(2))
        for asset_id, name in ((source, "source"), (voice, "voice")):
            assets.complete(session, fleet.tenant, asset_id, blob(name))
        item = replace(item, source=Media(asset_id=source), voice=Media(asset_id=voice))
        animated = replace(item, custom_id="animated", kind=Kind.ANIMATE)
        workers.register(session, WorkerFacts("w1", "host", "cpu", ["render"]))
        workers.beat(session, "w1", frames_per_s=10.0)
        submit.submit(session, fleet.tenant, BatchSpec((item, animated)), LIMITS)
    record = replace(plan_record(40), source_facts=MediaFacts("mp4", 10, video=VIDEO.video))
    for lease in [fleet.lease(Work.PLAN), fleet.lease(Work.PLAN)]:
        with fleet.database.transaction() as session:
            plan.record(session, lease, record, cut(40, 10))
    fleet.work_off()
    size = size_class(record.source_facts)
    measured = json.dumps({fleet.version: {size: 5}})
    fleet.run("UPDATE workers SET speeds = cast(:measured AS jsonb)", measured=measured)
    other = replace(items(1)[0], custom_id="other")
    with fleet.database.transaction() as session:
        guess = estimate.estimate(session, fleet.tenant, BatchSpec((item, animated, other)))
        assert (guess.frames, guess.worker_s) == (20 + 40 + 40, 20 / 5 + 40 / 10 + 40 / 10)
        assert "2 of 3 jobs are known from earlier ones" in guess.basis
        assert "40 frames a job, the mean" in guess.basis
        assert "1 jobs by the speed measured" in guess.basis
        sure = estimate.estimate(session, fleet.tenant, BatchSpec((item,)))
        assert (sure.frames, sure.worker_s) == (20, 4.0)
        assert known.leading(session, "ten_other", Kind.DUB, "source", [source]) == {}
        assert known.leading(session, fleet.tenant, Kind.DUB, "source", [voice]) == {}


def test_a_worker_foresees_the_next_job_once_nothing_waits_of_its_own(fleet: Fleet) -> None:
    fleet.submit(2)
    both = [fleet.lease(Work.PLAN, "w1"), fleet.lease(Work.PLAN, "w2")]
    for planned in both:
        fleet.settle(planned)
    first = [fleet.lease(Work.RENDER) for _ in range(3)]
    assert len({lease.job_id for lease in first}) == 1
    with fleet.database.transaction() as session:
        found = claim.foresee(session, first[0])
    assert found is not None
    assert found.job_id != first[0].job_id
    assert [blob.key.rsplit("/", 1)[1] for blob in found.blobs] == ["plan", "source", "speech"]
    assert found.bundle_sha256
    before = fleet.audit()
    second = fleet.lease(Work.RENDER)  # nothing was taken by looking
    assert second.job_id == found.job_id
    with fleet.database.transaction() as session:
        assert claim.foresee(session, second) is None  # its own job's chunks come next, whose files it has
    assert fleet.audit() == before
