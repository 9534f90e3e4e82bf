from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.field import Field, field


@pytest.fixture(scope="package")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    """One farm for all faults: each is repaired, and the next one meets the same farm."""
    with field(tmp_path_factory.mktemp("faults")) as hurt:
        yield hurt


@pytest.fixture
def hurt(shared: Field) -> Iterator[Field]:
    """The farm, whole and idle; what the auditor saw meanwhile counts against the test."""
    shared.storm.weather.share, shared.storm.weather.down = 0.0, False
    shared.workers_ready()
    looks = shared.auditor.looks
    yield shared
    assert shared.auditor.violations == [], shared.logs()
    assert shared.auditor.looks > looks
