"""The assembly line: order kept, memory bounded, the first error wins, nothing is left running."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from workers.stages import Line


def numbers(_: Iterator[object]) -> Iterator[int]:
    yield from range(100)


def doubled(items: Iterator[int]) -> Iterator[int]:
    for item in items:
        yield 2 * item


def test_items_come_out_in_order() -> None:
    line = Line([("numbers", numbers), ("double", doubled), ("again", doubled)])
    assert list(line) == [4 * n for n in range(100)]
    assert set(line.seconds) == set(line.cpu_seconds) == {"numbers", "double", "again"}


def test_busy_time_leaves_out_waiting_and_cpu_time_leaves_out_sleeping() -> None:
    def slow(items: Iterator[int]) -> Iterator[int]:
        for item in items:
            if item < 20:
                time.sleep(0.01)
            yield item

    line = Line([("numbers", numbers), ("slow", slow), ("double", doubled)])
    assert len(list(line)) == 100
    assert line.seconds["slow"] >= 0.2 > line.cpu_seconds["slow"]


def test_an_error_anywhere_stops_all_and_surfaces() -> None:
    closed = threading.Event()

    def endless(_: Iterator[object]) -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    def failing(items: Iterator[int]) -> Iterator[int]:
        for number, item in enumerate(items):
            if number == 5:
                raise ZeroDivisionError
            yield item

    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        list(Line([("endless", endless), ("failing", failing), ("double", doubled)]))
    assert closed.is_set()
    assert threading.active_count() == before


def test_a_consumer_that_goes_away_ends_the_line() -> None:
    made: list[int] = []

    def counting(_: Iterator[object]) -> Iterator[int]:
        for number in range(10_000):
            made.append(number)
            yield number

    before = threading.active_count()
    for item in Line([("counting", counting), ("double", doubled)], depth=2):
        if item == 20:
            break
    assert threading.active_count() == before
    assert len(made) < 30  # short queues: nobody runs ahead
