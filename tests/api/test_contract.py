"""A live API process keeps its own OpenAPI document, whatever is sent. Longer: `make contract`, `make fuzz-api`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks import live
from benchmarks.live import Live
from tests.api import contract, fuzz


@pytest.fixture(scope="module")
def farm() -> Iterator[Live]:
    with live.api(durable=False) as farm:
        yield farm


@pytest.mark.parametrize("phases", ["examples,coverage", "stateful"])
def test_schemathesis_finds_nothing(farm: Live, phases: str):
    """All checks; every operation's parameters one by one, then the links between operations."""
    if phases == contract.LINKED:
        contract.furnish(farm)
    code, printed = contract.run(farm.url, farm.key, examples=3, seed=1, max_time_s=30, phases=phases)
    assert code == 0, printed


def test_mutated_requests_break_nothing(farm: Live):
    found = fuzz.run(farm.url, farm.key, seed=1, count=600, say_every=0)
    assert found.wrong == []
    assert farm.process.poll() is None
    assert found.statuses[200] > 20
    assert found.statuses[422] > 20, "the mutations get past the door"
    assert "Traceback" not in farm.log.read_text()
