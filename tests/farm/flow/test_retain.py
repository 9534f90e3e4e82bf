"""Media past their time are erased; what a running job or its assets need never is."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from farm.db import jobs as job_rows
from farm.db import media
from farm.domain.asset import Asset
from farm.domain.batch import BatchSpec, Rights
from farm.domain.chunk import Lease, Reason, Work
from farm.domain.factor import Media
from farm.domain.job import Phase
from farm.domain.order import Blob, Order, Output, Progress, Segment
from farm.domain.retention import Retention
from farm.domain.span import cut
from farm.errors import LeaseLost, Rejected, Transient
from farm.flow import assets, claim, control, plan, retain, settle, submit
from farm.flow.sweep import sweep as sweep_leases
from farm.storage import keys
from farm.storage.blobs import BlobStore, Missing
from farm.storage.s3 import S3Store
from farm.storage.s3 import connect as connect_s3
from tests.small_farm import LIMITS, Fleet, items, plan_record

NOW = Retention(chunks=0, previews=0, outputs=0, assets=0, inputs=0, uploads=0, events=0)
NEVER = Retention(None, None, None, None, None, None, None)
DATA = b"a face that is somebody's"


@pytest.fixture(autouse=True)
def _empty(store: BlobStore) -> None:
    for found in list(store.list("jobs/")) + list(store.list("inputs/")) + list(store.list("uploads/")):
        store.delete(found.key)


def sweep(fleet: Fleet, store: BlobStore, kept: Retention = NOW, rounds: int = 3) -> None:
    for _ in range(rounds):
        list(retain.round_of(fleet.database.transaction, store, kept))


def stored(store: BlobStore, key: str) -> bool:
    try:
        store.stat(key)
    except Missing:
        return False
    return True


def upload(fleet: Fleet, store: BlobStore, data: bytes = DATA) -> Asset:
    def reserve(key: str) -> None:
        with fleet.database.transaction() as session:
            media.reserve(session, key)

    with fleet.database.transaction() as session:
        asset = assets.create(session, fleet.tenant)
    store.put_bytes(data, keys.upload(asset.id))
    blob = assets.take_in(store, asset.id, 1000, reserve)
    with fleet.database.transaction() as session:
        return assets.complete(session, fleet.tenant, asset.id, blob)


def submit_with(fleet: Fleet, sources: Sequence[Media], rights: Rights | None = None) -> str:
    spec = tuple(replace(item, source=source) for item, source in zip(items(len(sources)), sources, strict=True))
    with fleet.database.transaction() as session:
        return submit.submit(session, fleet.tenant, BatchSpec(spec, rights=(rights,) * len(spec)), LIMITS).id


def put_input(store: BlobStore, data: bytes) -> Blob:
    """As the plan's taker: stored where it is not there yet."""
    return store.put_bytes(data, f"inputs/{data.hex()[:2]}/{data.hex()[:40]}")


def do(fleet: Fleet, store: BlobStore, order: Order, source: Blob | None = None) -> None:
    """Do a lease's work with real objects."""
    lease = order.lease
    with fleet.database.transaction() as session:
        if lease.work is Work.PLAN:
            found = source or next(iter(order.assets.values()), None) or put_input(store, b"fetched")
            record = plan_record(20)
            own = store.put_bytes(b"plan", keys.plan(lease))
            record = replace(record, source=found, voice=found, plan=own, speech=own)
            plan.record(session, lease, record, cut(20, 10))
        elif lease.work is Work.RENDER:
            preview = keys.preview(lease, lease.span.start)
            store.put_bytes(b"jpeg", preview)
            blob = store.put_bytes(b"segment", keys.segment(lease))
            settle.succeed(session, lease, Segment(blob, lease.span, len(lease.span), preview_key=preview))
        else:
            blob = store.put_bytes(b"output", keys.output(lease))
            settle.succeed(session, lease, Output(blob, store.uri(blob.key), 20, 1.0))


def finish(fleet: Fleet, store: BlobStore) -> None:
    while order := fleet.claim():
        do(fleet, store, order)


def of_job(store: BlobStore, job_id: str) -> set[str]:
    return {found.key.rpartition("/")[2] for found in store.list(keys.job(job_id))}


def test_each_class_goes_by_its_own_time(fleet: Fleet, store: BlobStore) -> None:
    asset = upload(fleet, store)
    assert asset.blob is not None
    batch_id = submit_with(fleet, [Media(asset_id=asset.id)], Rights("consent", "signed"))
    finish(fleet, store)
    (job,) = fleet.jobs(batch_id)
    sweep(fleet, store, NEVER)
    sweep(fleet, store, Retention())
    assert of_job(store, job.id) == {
        "plan.npz",
        "segment.mp4",
        "preview-00000000.jpg",
        "preview-00000010.jpg",
        "output.mp4",
    }
    sweep(fleet, store, replace(NEVER, chunks=0, assets=0, inputs=0))
    assert of_job(store, job.id) == {"preview-00000010.jpg", "output.mp4"}, (
        "only the newest picture and the output stay"
    )
    assert not stored(store, asset.blob.key), "nobody needs the asset's bytes any more"
    sweep(fleet, store, replace(NEVER, previews=0))
    assert of_job(store, job.id) == {"output.mp4"}
    before = fleet.batch(batch_id)
    sweep(fleet, store, replace(NEVER, outputs=0))
    assert of_job(store, job.id) == set()
    job = fleet.job(job.id)
    assert job.output_erased_at is not None
    assert job.output is not None, "what came of it stays"
    assert (job.status, fleet.batch(batch_id).counts, job.rights) == (
        "succeeded",
        before.counts,
        Rights("consent", "signed"),
    )
    with fleet.database.transaction() as session:
        (line,) = job_rows.results(session, fleet.tenant, batch_id)
    assert (line.output_erased_at, line.rights) == (job.output_erased_at, job.rights)
    fleet.audit()


def test_who_wrote_late_is_swept_in_a_second_round(fleet: Fleet, store: BlobStore) -> None:
    batch_id = submit_with(fleet, [Media(uri="https://example.com/a")])
    finish(fleet, store)
    (job,) = fleet.jobs(batch_id)
    sweep(fleet, store)
    store.put_bytes(b"late", f"{keys.job(job.id)}chunks/x/y/segment.mp4")
    sweep(fleet, store)
    assert of_job(store, job.id) == {"segment.mp4"}, "not before its time"
    fleet.run("UPDATE jobs SET sweep_at = now(), chunks_erased_at = now() - interval '2 h'")
    sweep(fleet, store)
    assert of_job(store, job.id) == set()
    assert fleet.sql("SELECT sweep_at FROM jobs WHERE output_erased_at < now() - interval '1 h'") == []


@pytest.mark.parametrize("kind", ["the run's store", "S3"])
def test_what_lost_attempts_stored_goes_and_nothing_else(
    fleet: Fleet, store: BlobStore, own_s3_url: str, kind: str
) -> None:
    if kind == "S3":
        client = connect_s3(own_s3_url)
        client.create_bucket(Bucket="strays")
        store = S3Store(client, "strays", "farm")
    fleet.submit(1)

    def begin() -> tuple[Lease, str]:
        """A lease whose worker has stored all that it makes, without a word to the farm; its folder."""
        order = fleet.claim()
        assert order is not None
        lease = order.lease
        made = [keys.log(lease.job_id, lease.chunk_id, lease.token), keys.preview(lease, 3), keys.preview(lease, 7)]
        for key in [*made, keys.plan(lease), keys.segment(lease), keys.output(lease)]:
            store.put_bytes(b"bytes", key)
        return lease, keys.attempt(lease)

    def left(folder: str) -> set[str]:
        return {found.key.rpartition("/")[2] for found in store.list(f"{folder}/")}

    def strays(late_s: float = 0.0) -> int:
        return sum(retain.round_of(fleet.database.transaction, store, NEVER, 1, late_s))

    whole = {"log.txt", "preview-00000003.jpg", "preview-00000007.jpg", "plan.npz", "segment.mp4", "output.mp4"}
    failed, failed_in = begin()
    fleet.fail(failed, Reason.TRANSIENT)
    fleet.run("UPDATE chunks SET available_at = now()")
    live, live_in = begin()
    assert strays(retain.LATE_S) == 0, "its worker may be writing still"
    assert strays() == 5
    assert (left(failed_in), left(live_in)) == ({"log.txt"}, whole)
    fleet.settle(live)

    shown, shown_in = begin()
    with fleet.database.transaction() as session:
        claim.heartbeat(session, shown, Progress(Phase.RENDERING, preview_key=keys.preview(shown, 7)))
    given, given_in = begin()
    fleet.run("UPDATE chunks SET lease_expires_at = now() - interval '1 s' WHERE id = :id", id=shown.chunk_id)
    with fleet.database.transaction() as session:
        assert sweep_leases(session).leases_lost == 1
        settle.give_back(session, given)
    fleet.run("UPDATE chunks SET available_at = now()")
    heirs = [begin(), begin()]
    assert (strays(), strays()) == (4, 5), "a bounded number a round"
    assert left(shown_in) == {"log.txt", "preview-00000007.jpg"}, "still the newest picture"
    assert left(given_in) == {"log.txt"}
    for heir, _ in heirs:
        fleet.settle(heir)
    fleet.settle(fleet.lease(Work.RENDER))
    last, last_in = begin()
    assert strays() == 0
    fleet.settle(last)
    assert strays() == 0
    assert [left(folder) for folder in (live_in, last_in, *(folder for _, folder in heirs))] == [whole] * 4
    fleet.audit()


def test_a_failed_job_can_be_retried_until_its_chunks_are_erased(fleet: Fleet, store: BlobStore) -> None:
    asset = upload(fleet, store)
    batch_id = submit_with(fleet, [Media(asset_id=asset.id)] * 2)
    for _ in range(2):
        fleet.fail(fleet.lease(Work.PLAN), Reason.BAD_INPUT)
    one, two = fleet.jobs(batch_id)
    sweep(fleet, store, replace(NOW, chunks=1))
    assert asset.blob is not None
    assert stored(store, asset.blob.key), "a retry would need it"
    with fleet.database.transaction() as session:
        control.retry_job(session, fleet.tenant, one.id)
    sweep(fleet, store)
    assert stored(store, asset.blob.key), "a running job needs it"
    with fleet.database.transaction() as session:
        with pytest.raises(Rejected, match="job_not_retryable"):
            control.retry_job(session, fleet.tenant, two.id)
        with pytest.raises(Rejected, match="nothing_to_retry"):
            control.retry_failed(session, fleet.tenant, batch_id)
    finish(fleet, store)
    sweep(fleet, store)
    assert not stored(store, asset.blob.key)
    with pytest.raises(Rejected) as refused:
        submit_with(fleet, [Media(asset_id=asset.id)])
    assert [problem.code for problem in refused.value.problems] == ["asset_expired"]


def test_deleting_by_request(fleet: Fleet, store: BlobStore) -> None:
    batch_id = submit_with(fleet, [Media(uri="https://example.com/a"), Media(uri="https://example.com/b")])
    one, two = fleet.jobs(batch_id)
    with fleet.database.transaction() as session:
        with pytest.raises(Rejected, match="job_not_ended"):
            control.delete_job(session, fleet.tenant, one.id)
        with pytest.raises(Rejected, match="batch_not_ended"):
            control.delete_batch(session, fleet.tenant, batch_id)
        with pytest.raises(Rejected, match="not_found"):
            control.delete_job(session, "ten_other", one.id)
    shared, own = put_input(store, b"shared"), put_input(store, b"own")
    while order := fleet.claim():
        do(fleet, store, order, own if order.lease.job_id == one.id else shared)
    track = f"{keys.made_of_input(own.key.rpartition('/')[2])}how/face.npz"
    store.put_bytes(b"where the face is", track)
    for blob in (own, shared):
        with fleet.database.transaction() as session:
            media.reserve(session, blob.key)
    with fleet.database.transaction() as session:
        view = control.delete_job(session, fleet.tenant, one.id)
        assert view.deleted_at is not None
        assert control.delete_job(session, fleet.tenant, one.id).deleted_at == view.deleted_at
    sweep(fleet, store, NEVER)
    assert of_job(store, one.id) == set()
    assert "output.mp4" in of_job(store, two.id)
    assert (stored(store, own.key), stored(store, track), stored(store, shared.key)) == (False, False, True)
    with fleet.database.transaction() as session:
        control.delete_batch(session, fleet.tenant, batch_id)
    sweep(fleet, store, NEVER)
    assert (of_job(store, two.id), stored(store, shared.key)) == (set(), False)
    assert [row[0] for row in fleet.sql("SELECT action FROM audit_log ORDER BY id")][-3:] == [
        "job.deleted", "job.deleted", "batch.deleted"]  # fmt: skip
    fleet.audit()


def test_a_tenant_may_have_its_own_times(fleet: Fleet, store: BlobStore) -> None:
    batch_id = submit_with(fleet, [Media(uri="https://example.com/a")])
    finish(fleet, store)
    (job,) = fleet.jobs(batch_id)
    fleet.run('UPDATE tenants SET retention = \'{"outputs": null, "previews": 3}\'')
    sweep(fleet, store)
    assert of_job(store, job.id) == {"output.mp4", "preview-00000010.jpg"}
    fleet.run("UPDATE tenants SET retention = '{\"outputs\": 0}'")
    sweep(fleet, store, NEVER)
    assert of_job(store, job.id) == {"preview-00000010.jpg"}


def test_uploads_that_were_never_completed_and_strays(fleet: Fleet, store: BlobStore) -> None:
    with fleet.database.transaction() as session:
        asset = assets.create(session, fleet.tenant)
    store.put_bytes(b"half", keys.upload(asset.id))
    stray = put_input(store, b"stray")
    sweep(fleet, store, Retention())
    assert stored(store, keys.upload(asset.id))
    sweep(fleet, store)
    assert not stored(store, keys.upload(asset.id))
    with fleet.database.transaction() as session, pytest.raises(Rejected, match="asset_expired"):
        assets.complete(session, fleet.tenant, asset.id, stray)
    assert stored(store, stray.key), "no row knows it yet"
    shard = int(stray.key.split("/")[1], 16)
    assert retain.adopt(fleet.database.transaction, store, shard) == 1
    sweep(fleet, store, Retention())
    assert stored(store, stray.key)
    sweep(fleet, store)
    assert not stored(store, stray.key)


def test_a_plan_that_relied_on_what_was_swept_is_made_again(fleet: Fleet, store: BlobStore) -> None:
    found = put_input(store, b"old")
    with fleet.database.transaction() as session:
        media.reserve(session, found.key)
    submit_with(fleet, [Media(uri="https://example.com/a")])
    order = fleet.claim()
    assert order is not None
    sweep(fleet, store)  # after the worker looked, before it records
    with pytest.raises(Transient, match="input_swept"):
        do(fleet, store, order, found)
    found = put_input(store, b"old")
    fleet.fail(order.lease, Reason.TRANSIENT)
    fleet.run("UPDATE chunks SET available_at = now()")
    again = fleet.claim()
    assert again is not None
    do(fleet, store, again, found)
    sweep(fleet, store)
    assert stored(store, found.key)


def test_events_of_ended_batches_go(fleet: Fleet, store: BlobStore) -> None:
    ended, running = fleet.submit(1).id, ""
    finish(fleet, store)
    running = fleet.submit(1).id
    sweep(fleet, store)
    assert fleet.sql("SELECT DISTINCT batch_id FROM events") == [(running,)]
    assert fleet.batch(ended).status == "completed"


def test_nothing_that_a_running_job_needs_is_swept(fleet: Fleet, store: BlobStore) -> None:
    """Workers, tenants that upload, submit, delete and retry, and two sweeps with no patience at all, at once: whoever
    holds a lease finds everything that it needs."""
    until = time.monotonic() + 90
    wrong: list[str] = []
    done: Counter[str] = Counter()
    sure = threading.Lock()

    def note(what: str, number: int = 1) -> None:
        with sure:
            done[what] += number

    def go_on() -> bool:
        enough = done["chunks"] > 60 and done["erased"] > 60 and done["batches"] > 10
        return time.monotonic() < until and not enough and not wrong

    def needs(lease: Lease, order: Order) -> list[str]:
        if lease.work is Work.PLAN:
            return [blob.key for blob in order.assets.values()]
        assert order.plan is not None
        return [order.plan.source.key, order.plan.plan.key, *(segment.blob.key for segment in order.segments)]

    def work(name: str, dice: random.Random) -> None:
        while go_on():
            order = fleet.claim(name)
            if order is None:
                continue
            missing = [key for key in needs(order.lease, order) if not stored(store, key)]
            fetched = None
            if order.lease.work is Work.PLAN and not order.assets:
                data = f"fetched {dice.randrange(4)}".encode()
                key = f"inputs/{data.hex()[:2]}/{data.hex()[:40]}"
                fetched = Blob(key, len(data), "aa") if stored(store, key) else put_input(store, data)
            try:
                # Still ours, so it was needed while we looked.
                with fleet.database.transaction() as session:
                    claim.heartbeat(session, order.lease, Progress(Phase.RENDERING))
                wrong.extend(f"{order.lease.work} lacks {key}" for key in missing)
                if dice.random() < 0.15:
                    fleet.fail(order.lease, Reason.BAD_INPUT)
                    continue
                do(fleet, store, order, fetched)
                note("chunks")
            except LeaseLost:
                continue
            except Transient as error:
                if error.code == "input_swept":
                    fleet.fail(order.lease, Reason.TRANSIENT)
                    fleet.run("UPDATE chunks SET available_at = now() WHERE id = :id", id=order.lease.chunk_id)

    def ask(dice: random.Random) -> None:
        mine: list[str] = []
        while go_on():
            try:
                asset = upload(fleet, store, f"asset {dice.randrange(3)}".encode())
                source = Media(asset_id=asset.id) if dice.random() < 0.6 else Media(uri="https://example.com/a")
                mine.append(submit_with(fleet, [source]))
                note("batches")
            except (Rejected, Transient):
                pass  # it expired between upload and submission: said, not lost
            for verb, often in ((control.delete_batch, 0.3), (control.retry_failed, 0.3), (control.cancel_batch, 0.1)):
                if mine and dice.random() < often:
                    try:
                        with fleet.database.transaction() as session:
                            verb(session, fleet.tenant, dice.choice(mine))
                    except (Rejected, Transient):
                        pass

    def erase() -> None:
        while go_on():
            try:
                for number in retain.round_of(fleet.database.transaction, store, NOW, 20, late_s=0):
                    note("erased", number)
            except Transient:
                pass

    threads = [
        *(threading.Thread(target=work, args=(f"w{n}", random.Random(n))) for n in range(3)),
        *(threading.Thread(target=ask, args=(random.Random(100 + n),)) for n in range(2)),
        *(threading.Thread(target=erase) for _ in range(2)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert min(done[what] for what in ("chunks", "erased", "batches")) > 10, f"too little was going on: {done}"
    fleet.audit()
