"""What every benchmark prints: tables for people, then one JSON object as the very last line of standard output.

    timings = interleaved({"this": this, "that": that}, rounds=7)
    show([Table("Title", ("what", "s a frame"), [("this", timings["this"]), ...])], {"this_vs_that": ...})

Progress goes to standard error (`note`), so that the last line stays the JSON object.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

Cell: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True)
class Table:
    """rows hold one cell a column; floats are shown with four significant digits, None as a dash."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def __str__(self) -> str:
        cells = [list(map(_shown, row)) for row in self.rows]
        if any(len(row) != len(self.columns) for row in cells):
            raise ValueError(f"{self.title}: every row needs {len(self.columns)} cells")
        widths = [max(map(len, column)) for column in zip(self.columns, *cells, strict=True)]
        # A column of words reads from the left, a column of figures from the right.
        is_words = [any(isinstance(row[at], str) for row in self.rows) for at in range(len(widths))]
        lines = [
            "  ".join(
                cell.ljust(width) if words else cell.rjust(width)
                for cell, width, words in zip(row, widths, is_words, strict=True)
            ).rstrip()
            for row in [self.columns, ["-" * width for width in widths], *cells]
        ]
        return "\n".join([self.title, *lines])


def show(tables: Sequence[Table], result: Mapping[str, object]) -> None:
    """Print the tables, then `result` on one line. Nothing may be printed after this."""
    for table in tables:
        print(table, end="\n\n")
    print(json.dumps(result, allow_nan=False), flush=True)


def note(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def interleaved(cases: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Seconds of each call of each case, the cases taking turns: what disturbs a shared machine disturbs all alike."""
    for case in cases.values():
        for _ in range(warm_up):
            case()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(1, rounds + 1):
        for name, case in cases.items():
            started = time.perf_counter()
            case()
            seconds[name].append(time.perf_counter() - started)
        note(f"round {number} of {rounds}")
    return seconds


def medians(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: statistics.median(times) for name, times in seconds.items()}


def machine() -> str:
    """The processor, its cores for us, and how busy it is with others: a line above every table."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return f"{model}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}"


def _shown(cell: Cell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
