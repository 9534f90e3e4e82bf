"""Real partitions: workers on machines of their own, whose cables are cut while they render, and mended later."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from farm.domain.chunk import Lease, Work
from farm.domain.order import Blob, Segment
from farm.domain.span import Span
from farm.errors import LeaseLost
from farm.flow.settle import succeed_alone
from tests.faults import cable
from tests.faults.cable import Cable
from tests.faults.field import Field

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@contextmanager
def far_away(hurt: Field, name: str) -> Iterator[Cable]:
    """A worker on a machine of its own, and its cable."""
    if not cable.can_be_laid():
        pytest.skip("a partition needs iproute2 and the right to make network namespaces")
    urls = {
        "DATABASE_URL": hurt.address.database_url,
        "BROKER_URL": hurt.address.broker_url,
        "STORAGE_ENDPOINT_URL": hurt.storm.url,
    }
    ports = [port for url in urls.values() if (port := urlsplit(url).port) is not None]
    with cable.laid(ports) as line:
        there = {variable: url.replace("127.0.0.1", line.near) for variable, url in urls.items()}
        with hurt.worker(name, prefix=line.prefix, **there):
            yield line


def log(hurt: Field, name: str) -> str:
    return (hurt.farm.logs / f"{name}.log").read_text()


def test_a_worker_that_is_cut_off_loses_its_lease_and_discards(hurt: Field) -> None:
    with far_away(hurt, "far") as line:
        with hurt.alone("far"):
            batch = hurt.submit("dub")
            chunk, _ = hurt.rendering(batch)
            line.cut()
        hurt.finished(batch)
        assert set(hurt.reasons(batch)) == {"worker_lost"}
        hurt.until(lambda: "no beat got through" in log(hurt, "far"))
        line.mend()
        hurt.until(lambda: any("dropped" in text and chunk in text for text in log(hurt, "far").splitlines()))
        hurt.until(lambda: bool(hurt.sql(ALIVE, id="far")))
        with hurt.alone("far"):
            again = hurt.submit("still")
            hurt.finished(again)
        assert hurt.sql(WHO, batch=again) == [("far",)]
        hurt.finished(batch)


def test_of_two_machines_one_is_cut_off_and_the_other_does_its_work(hurt: Field) -> None:
    """All is rendered by machines of their own. What the lost one says later, under its old lease, is refused."""
    with far_away(hurt, "east") as line, far_away(hurt, "west"), hurt.alone("east", "west"):
        batch = hurt.submit("dub-1", "dub-2", "dub-3")
        hurt.until(lambda: bool(hurt.sql(HELD, id="east")))
        line.cut()
        ((chunk, job, tenant, token, attempt, start, stop),) = hurt.sql(HELD, id="east")
        hurt.finished(batch)
        assert hurt.sql(LOST, batch=batch) == [("east", "worker_lost", chunk)]
        line.mend()
        hurt.until(lambda: any("dropped" in text and chunk in text for text in log(hurt, "east").splitlines()))
        before = hurt.sql(OUTCOME, chunk=chunk)
        lease = Lease(chunk, job, batch, tenant, Work.RENDER, Span(start, stop), attempt, token, 0.0, 10.0)
        late = Segment(Blob("late", 1, "00"), lease.span, stop - start, {}, {})
        with pytest.raises(LeaseLost):
            succeed_alone(hurt.database, lease, late)
        assert hurt.sql(OUTCOME, chunk=chunk) == before
        hurt.until(lambda: bool(hurt.sql(ALIVE, id="east")))
        again = hurt.submit("dub-4", "dub-5", "dub-6")
        hurt.finished(again)
        assert ("east",) in hurt.sql(WHO, batch=again)
        hurt.finished(batch)


ALIVE = "select 1 from workers where id = :id and heartbeat_at > now() - interval '5 s'"
WHO = "select distinct a.worker_id from attempts a join chunks c on c.id = a.chunk_id join jobs j on j.id = c.job_id \
       where j.batch_id = :batch"
HELD = "select c.id, c.job_id, c.tenant_id, c.token, c.attempts, c.start, c.stop from chunks c \
        where c.worker_id = :id and c.work = 'render' and c.status = 'leased'"
LOST = "select a.worker_id, a.reason, a.chunk_id from attempts a join chunks c on c.id = a.chunk_id \
        join jobs j on j.id = c.job_id where j.batch_id = :batch and a.outcome = 'failed'"
OUTCOME = "select status, segment, finished_at from chunks where id = :chunk"
