"""A real partition: a worker on a machine of its own, whose cable is cut while it renders, and mended later."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from tests.faults import cable
from tests.faults.field import Field

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_worker_that_is_cut_off_loses_its_lease_and_discards(hurt: Field) -> None:
    if not cable.can_be_laid():
        pytest.skip("a partition needs iproute2 and the right to make network namespaces")
    urls = {
        "DATABASE_URL": hurt.address.database_url,
        "BROKER_URL": hurt.address.broker_url,
        "STORAGE_ENDPOINT_URL": hurt.storm.url,
    }
    ports = [port for url in urls.values() if (port := urlsplit(url).port) is not None]
    with cable.laid(ports) as line:
        there = {name: url.replace("127.0.0.1", line.near) for name, url in urls.items()}
        with hurt.worker("far", prefix=line.prefix, **there):
            log = hurt.farm.logs / "far.log"
            with hurt.alone("far"):
                batch = hurt.submit("dub")
                chunk, _ = hurt.rendering(batch)
                line.cut()
            hurt.finished(batch)
            assert set(hurt.reasons(batch)) == {"worker_lost"}
            hurt.until(lambda: "no beat got through" in log.read_text())
            line.mend()
            hurt.until(lambda: any("dropped" in text and chunk in text for text in log.read_text().splitlines()))
            hurt.until(lambda: bool(hurt.sql(ALIVE)))
            with hurt.alone("far"):
                again = hurt.submit("still")
                hurt.finished(again)
            assert hurt.sql(WHO, batch=again) == [("far",)]
            hurt.finished(batch)


ALIVE = "select 1 from workers where id = 'far' and heartbeat_at > now() - interval '5 s'"
WHO = "select distinct a.worker_id from attempts a join chunks c on c.id = a.chunk_id join jobs j on j.id = c.job_id \
       where j.batch_id = :batch"
