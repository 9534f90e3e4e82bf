"""What dashboards and documents name, a scrape has; and the other way round."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farm.client import Client
from farm.flow.metrics import collect
from tests.api.conftest import Api
from tests.api.hands import Hands
from tests.api.test_batches import items

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def scrape(api: Api) -> str:
    with Client(api.url, api.key("scraped")) as client:
        batch = client.submit(items(1))
        (job,) = client.jobs(batch.id)
        hands = Hands(api.database, api.store)
        hands.make(job.id)
    deadline = time.monotonic() + 60
    with api.http(None) as http:
        while "dubfarm_attempts_total{" not in (text := http.get("/metrics").text):
            assert time.monotonic() < deadline
            time.sleep(0.2)  # the collector keeps a distance from the present
            with api.database.transaction() as session:
                collect(session)
        return text


def families(scrape: str) -> dict[str, str]:
    """Name to type."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", scrape, re.M))


def series(scrape: str) -> set[str]:
    found = families(scrape)
    parts = ("_bucket", "_sum", "_count")
    return set(found) | {n + part for n, kind in found.items() if kind == "histogram" for part in parts}


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "expr" in node:
            yield node["expr"]
        for child in node.values():
            yield from _texts(child)
    elif isinstance(node, list):
        for child in node:
            yield from _texts(child)


def test_every_name_in_the_dashboard_exists(scrape: str):
    expressions = list(_texts(json.loads((ROOT / "infra" / "dashboards" / "dubfarm.json").read_text())))
    assert len(expressions) >= 17
    named = {name for expression in expressions for name in re.findall(r"dubfarm_\w+", expression)}
    assert named <= series(scrape)
    unseen = {name for name in families(scrape) if not any(each.startswith(name) for each in named)}
    assert unseen == set()


def test_the_labels_that_the_dashboard_names_exist(scrape: str):
    labels = set(re.findall(r'[{,](\w+)="', scrape))
    for expression in _texts(json.loads((ROOT / "infra" / "dashboards" / "dubfarm.json").read_text())):
        for listed in re.findall(r"by \(([\w, ]+)\)", expression):
            assert set(listed.replace(" ", "").split(",")) <= labels, expression


def test_the_document_lists_what_there_is(scrape: str):
    table = (ROOT / "docs" / "observability.md").read_text()
    rows = [line for line in table.splitlines() if line.startswith("| `dubfarm_")]
    assert {name for row in rows for name in re.findall(r"`(dubfarm_\w+)`", row)} == families(scrape).keys()


def test_histograms_are_cumulative_and_end_with_their_count(scrape: str):
    buckets = [
        int(n) for n in re.findall(r'^dubfarm_attempt_seconds_bucket\{work="render",le="[^"]+"\} (\d+)$', scrape, re.M)
    ]
    (count,) = re.findall(r'^dubfarm_attempt_seconds_count\{work="render"\} (\d+)$', scrape, re.M)
    assert buckets == sorted(buckets)
    assert buckets[-1] == int(count) > 0
