"""benchmarks.fleet, small: a few dozen workers and ten tenants for a moment, and then the books."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
import pytest

from benchmarks.fleet_books import audited, fair_error, handed_out, most_over_cap, now
from benchmarks.fleet_desk import PACE_COUNTED, RUSH_COUNTED, STOP, Desk
from benchmarks.fleet_rows import Rows
from farm.db.session import Database
from farm.flow.sweep import sweep


@dataclass
class Shared:
    """As multiprocessing's values are read."""

    value: float


@pytest.mark.parametrize("seed", [1])
def test_a_small_fleet_leaves_its_books_in_order(database: Database, database_url: str, seed: int) -> None:
    workers = [f"w{number}" for number in range(30)]
    with psycopg.connect(database_url.replace("postgresql+psycopg://", "postgresql://")) as connection:
        rows = Rows(connection, random.Random(seed))
        rows.found(10, workers)
        rows.fill(1000)
    phase, mean_s = Shared(RUSH_COUNTED), Shared(0.0)
    desk = Desk(database, workers, seed, phase, mean_s)
    tally = desk.tallies[RUSH_COUNTED]
    since = now(database)
    hand = threading.Thread(target=desk.run, args=(4,))
    hand.start()
    _until(lambda: len(tally.claims) >= 250, hand)
    with database.transaction() as session:
        sweep(session)
    phase.value, mean_s.value = PACE_COUNTED, 0.2
    _until(lambda: len(desk.tallies[PACE_COUNTED].claims) >= 50, hand)
    until = now(database)
    phase.value = STOP
    hand.join(120)
    assert not hand.is_alive()
    assert desk.errors == []
    assert audited(database) == []
    assert most_over_cap(database) <= 0
    # A few chunks more or less, of a dozen that the lightest tenant gets.
    assert fair_error(database, rows.weights, rows.caps, since, until) < 0.5
    assert sum(handed_out(database).values()) >= 300
    # A tenant with nothing of what its weight stands for is seen.
    idle = {**rows.weights, "nobody": 1.0}
    assert fair_error(database, idle, rows.caps, since, until) == 1.0


def _until(condition: Callable[[], bool], hand: threading.Thread) -> None:
    pause = threading.Event()
    for _ in range(12_000):
        if condition() or not hand.is_alive():
            return
        pause.wait(0.01)
    raise AssertionError("the fleet stands still")
