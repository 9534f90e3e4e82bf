"""What FARM.md promises, each promise under the fault that would break it, in real processes.

After each: every job succeeded, one committed output a chunk, counters equal to row sums at every look, and frames and
file bit for bit those of the undisturbed run (`Field.finished`).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from farm.domain.chunk import Failure, Lease, Reason, Work
from farm.domain.span import Span
from farm.errors import LeaseLost
from farm.flow import claim, settle
from farm.nets.bundle import seeded
from farm.nets.sizes import Sizes
from tests.faults.field import LEASE_S, Field, child_of
from tests.faults.odd_workers import MOVED_CLOCK, ROTTEN, mount_small_disk
from tests.small_farm import output, segment

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]


def test_1_what_was_acknowledged_is_done_though_the_api_is_killed(hurt: Field) -> None:
    acknowledged: dict[int, str] = {}

    def submit() -> None:
        for number in range(8):
            acknowledged[number] = hurt.submit("still", idempotency_key=f"promise-1-{number}")

    thread = threading.Thread(target=submit, daemon=True)
    thread.start()
    for so_many in (1, 3, 5):
        hurt.until(lambda least=so_many: len(acknowledged) >= least)
        os.kill(hurt.pid("api"), signal.SIGKILL)
    thread.join()
    for batch in acknowledged.values():
        hurt.finished(batch)
    # Asked again, none is made twice.
    assert hurt.submit("still", idempotency_key="promise-1-0") == acknowledged[0]
    assert hurt.sql("select count(*) from idempotency_keys where key like 'promise-1-%'")[0][0] == 8


def test_1_the_broker_is_killed_and_comes_back_empty(hurt: Field) -> None:
    batch = hurt.submit("dub", "still")
    hurt.rendering(batch)
    hurt.kill("valkey")
    later = hurt.submit("still")
    hurt.finished(batch)
    hurt.finished(later)
    assert hurt.reasons(batch) == []  # the broker holds nothing that matters


def test_a_restart_of_postgres_costs_nothing(hurt: Field) -> None:
    batch = hurt.submit("dub", "still")
    hurt.rendering(batch)
    hurt.kill("postgres", signal.SIGINT)  # its fast shutdown: all sessions are cut
    hurt.finished(batch)
    assert hurt.reasons(batch) == []


def test_postgres_is_killed(hurt: Field) -> None:
    batch = hurt.submit("dub", "still")
    hurt.rendering(batch)
    hurt.kill("postgres")
    hurt.finished(batch)
    assert set(hurt.reasons(batch)) <= {"worker_lost"}


def test_workers_engines_and_the_beat_are_killed(hurt: Field) -> None:
    batch = hurt.submit("dub", "still")
    _, pid = hurt.rendering(batch)
    os.kill(child_of(pid), signal.SIGKILL)
    hurt.until(lambda: "worker_lost" in hurt.reasons(batch))
    _, pid = hurt.rendering(batch)
    (name,) = (name for name, running in hurt.farm.processes().items() if running == pid)
    hurt.kill("control")  # beat and sweep
    hurt.kill(name)
    hurt.finished(batch)
    assert set(hurt.reasons(batch)) == {"worker_lost"}


def test_2_a_worker_that_slept_past_its_lease_discards(hurt: Field) -> None:
    batch = hurt.submit("dub")
    chunk, pid = hurt.rendering(batch)
    os.kill(pid, signal.SIGSTOP)
    try:
        hurt.finished(batch)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert hurt.reasons(batch) == ["worker_lost"]
    (name,) = (name for name, running in hurt.farm.processes().items() if running == pid)
    log = hurt.farm.logs / f"{name}.log"
    hurt.until(lambda: any("chunk dropped" in line and chunk in line for line in log.read_text().splitlines()))
    hurt.finished(batch)


def test_3_late_and_repeated_completions_are_ignored(hurt: Field) -> None:
    batch = hurt.submit("dub")
    hurt.finished(batch)
    rows = "select c.id, c.job_id, c.tenant_id, c.work, c.start, c.stop, a.number, a.token from attempts a \
            join chunks c on c.id = a.chunk_id join jobs j on j.id = c.job_id where j.batch_id = :batch"
    state = "select (select json_agg(c order by id) from chunks c)::text, \
             (select json_agg(j order by id) from jobs j)::text"
    before = hurt.sql(state)
    for chunk, job, tenant, work, start, stop, number, token in hurt.sql(rows, batch=batch):
        for fake in (token, "f" * 32):
            span = Span(start, stop)
            lease = Lease(chunk, job, batch, tenant, Work(work), span, number, fake, 0.0, LEASE_S)
            with pytest.raises(LeaseLost), hurt.database.transaction() as session:
                settle.fail(session, lease, Failure(Reason.BUG, "late", "late"), 0.5)
            with pytest.raises(LeaseLost), hurt.database.transaction() as session:
                settle.give_back(session, lease)
            assert_not_wanted(hurt, lease)
            if lease.work is not Work.PLAN:
                result = segment(lease) if lease.work is Work.RENDER else output()
                with pytest.raises(LeaseLost), hurt.database.transaction() as session:
                    settle.succeed(session, lease, result)
                with pytest.raises(LeaseLost):
                    settle.succeed_alone(hurt.database, lease, result)
    assert hurt.sql(state) == before


def assert_not_wanted(hurt: Field, lease: Lease) -> None:
    with hurt.database.transaction() as session:
        assert not claim.is_wanted(session, lease)


def test_the_store_fails_one_call_in_five_and_stalls(hurt: Field) -> None:
    hurt.storm.weather.failed.clear()
    hurt.storm.weather.share = 0.2
    batch = hurt.submit("dub", "still", "dub-2")
    hurt.client.wait(batch, 400, poll_s=0.3)
    hurt.storm.weather.share = 0.0
    hurt.finished(batch)
    assert set(hurt.reasons(batch)) <= {"transient"}
    assert sum(hurt.storm.weather.failed.values()) > 0


def test_a_store_that_is_away_costs_no_retries(hurt: Field) -> None:
    batch = hurt.submit("dub")
    hurt.rendering(batch)
    hurt.storm.weather.down = True
    refused = dict(hurt.storm.weather.failed)
    hurt.until(lambda: hurt.storm.weather.failed.get("reset", 0) > refused.get("reset", 0) + 10)
    hurt.storm.weather.down = False
    hurt.finished(batch)
    assert hurt.reasons(batch) == []


def test_the_disk_is_full_while_encoding(hurt: Field) -> None:
    cache = hurt.folder / "cache" / "cramped"
    with ExitStack() as stack:
        if not mount_small_disk(stack, cache, 12 << 20):
            pytest.skip("a small disk needs the right to mount a tmpfs")
        stack.enter_context(hurt.worker("cramped"))
        stack.enter_context(hurt.alone("cramped"))
        batch = hurt.submit("dub")
        hurt.until(lambda: bool(hurt.sql(PLANNED, batch=batch)))
        filler = cache / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
        hurt.until(lambda: any(code == "disk_full" for *_, code in hurt.attempts(batch)))
        filler.unlink()
        left = [path for path in cache.rglob("*.mp4") if path.is_file()]
        for other in list(hurt.client.workers()):
            if other.id != "cramped":
                hurt.client.resume_worker(other.id)
        hurt.finished(batch)
    assert left == []
    assert set(hurt.reasons(batch)) == {"transient"}


PLANNED = "select 1 from jobs where batch_id = :batch and plan is not null"


def test_a_worker_whose_clock_is_moved(hurt: Field) -> None:
    with hurt.worker("adrift", program=("-c", MOVED_CLOCK)), hurt.alone("adrift"):
        batch = hurt.submit("dub", "still")
        hurt.finished(batch)
    assert hurt.reasons(batch) == []
    assert {worker for (worker,) in hurt.sql(WHO, batch=batch)} == {"adrift"}


WHO = "select distinct a.worker_id from attempts a join chunks c on c.id = a.chunk_id join jobs j on j.id = c.job_id \
       where j.batch_id = :batch"


def test_a_soft_shutdown_gives_the_chunk_back_at_once(hurt: Field) -> None:
    batch = hurt.submit("dub", "dub-2")
    _, pid = hurt.rendering(batch)
    (name,) = (name for name, running in hurt.farm.processes().items() if running == pid)
    hurt.kill(name, signal.SIGTERM)
    hurt.finished(batch)
    assert set(hurt.reasons(batch)) <= {"preempted"}  # none, where the chunk was done just then


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_pause_and_cancel_reach_running_work(hurt: Field, verb: str) -> None:
    """Long before the lease would end; the figure is printed, not asserted."""
    batch = hurt.submit("dub", "dub-2")
    chunk, _ = hurt.rendering(batch)
    asked = time.monotonic()
    (hurt.client.pause_batch if verb == "pause" else hurt.client.cancel_batch)(batch)
    hurt.until(lambda: hurt.sql("select status from chunks where id = :id", id=chunk)[0][0] != "leased", 0.01)
    print(f"{verb}: the lease ended {time.monotonic() - asked:.2f} s after it was asked")
    if verb == "pause":
        hurt.client.resume_batch(batch)
        hurt.finished(batch)
        assert hurt.reasons(batch) == []
    else:
        assert hurt.client.wait(batch, 120).status == "canceled"


def test_5_a_bad_worker_cannot_fail_a_job_and_is_put_away(hurt: Field) -> None:
    """It fails whatever it gets, and at once: nobody is as quick to take the next chunk."""
    with hurt.worker("rotten", program=("-c", ROTTEN)):
        hurt.until(lambda: bool(hurt.sql("select 1 from workers where id = 'rotten' and left_at is null")))
        batch = hurt.submit("dub", *(f"still-{number}" for number in range(5)))
        hurt.finished(batch)
        (worker,) = (worker for worker in hurt.client.workers() if worker.id == "rotten")
    failed = [chunk for chunk, _, _, reason, _ in hurt.attempts(batch) if reason == "bug"]
    assert len(failed) == len(set(failed)) >= 3
    assert worker.quarantine_reason is not None
    assert set(hurt.reasons(batch)) == {"bug"}


def test_a_second_sigterm_ends_a_worker_at_once(hurt: Field) -> None:
    with hurt.worker("stubborn") as pid, hurt.alone("stubborn"):
        batch = hurt.submit("dub")
        hurt.rendering(batch)
        os.kill(child_of(pid), signal.SIGSTOP)  # an engine that does not obey
        os.kill(pid, signal.SIGTERM)
        hurt.until(lambda: "Warm shutdown" in (hurt.farm.logs / "stubborn.log").read_text())
        os.kill(pid, signal.SIGTERM)
        hurt.until(lambda: is_gone(pid))
    hurt.finished(batch)
    assert set(hurt.reasons(batch)) <= {"worker_lost", "preempted"}


def is_gone(pid: int) -> bool:
    """Ended, if not yet waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_8_moving_an_alias_never_changes_a_running_jobs_model(hurt: Field, tmp_path: Path) -> None:
    seeded(tmp_path / "other", Sizes.tiny(), 1, "other")
    other = hurt.client.register_version(tmp_path / "other", name="other")
    before = hurt.submit("dub")
    hurt.rendering(before)
    hurt.client.set_alias("champion", "other", force=True)
    between = hurt.submit("still")
    hurt.rendering(between)
    hurt.client.rollback("champion")
    after = hurt.submit("still")
    hurt.finished(before)
    hurt.finished(after)
    hurt.sound(hurt.client.wait(between, 400))
    models = {batch: {job.model_version for job in hurt.client.jobs(batch)} for batch in (before, between, after)}
    assert models[between] == {other.id}
    assert models[before] == models[after] != models[between]
