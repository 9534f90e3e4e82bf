"""Counters and histograms as plain values: added up, kept as documents, written as Prometheus text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

SECONDS: tuple[float, ...] = (
    *(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
    *(1800, 3600, 7200, 14_400, 43_200, 86_400),
)
"""Upper bounds of the buckets of everything that takes a worker or a queue its time."""


@dataclass(frozen=True)
class Histogram:
    """counts: one a bound, and one for what is above them all (not cumulative)."""

    counts: tuple[int, ...] = (0,) * (len(SECONDS) + 1)
    total: float = 0.0

    def plus(self, other: Histogram) -> Histogram:
        added = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return Histogram(added, self.total + other.total)


@dataclass(frozen=True)
class Totals:
    """What attempts and jobs that have ended add up to. Keys are labels: attempts (work, outcome, reason), seconds of
    attempts and of stages (work), (work, stage); readers (code): how processes that read media ended before their
    answer."""

    attempts: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    attempt_seconds: Mapping[str, Histogram] = field(default_factory=dict)
    wait_seconds: Mapping[str, Histogram] = field(default_factory=dict)
    stage_seconds: Mapping[tuple[str, str], float] = field(default_factory=dict)
    frames: int = 0
    jobs: Mapping[str, int] = field(default_factory=dict)
    job_seconds: Histogram = field(default_factory=Histogram)
    readers: Mapping[str, int] = field(default_factory=dict)

    def plus(self, other: Totals) -> Totals:
        return Totals(
            {k: self.attempts.get(k, 0) + other.attempts.get(k, 0) for k in {**self.attempts, **other.attempts}},
            _histograms(self.attempt_seconds, other.attempt_seconds),
            _histograms(self.wait_seconds, other.wait_seconds),
            {
                k: self.stage_seconds.get(k, 0.0) + other.stage_seconds.get(k, 0.0)
                for k in {**self.stage_seconds, **other.stage_seconds}
            },
            self.frames + other.frames,
            {k: self.jobs.get(k, 0) + other.jobs.get(k, 0) for k in {**self.jobs, **other.jobs}},
            self.job_seconds.plus(other.job_seconds),
            {k: self.readers.get(k, 0) + other.readers.get(k, 0) for k in {**self.readers, **other.readers}},
        )


def _histograms(one: Mapping[str, Histogram], other: Mapping[str, Histogram]) -> dict[str, Histogram]:
    return {k: one.get(k, Histogram()).plus(other.get(k, Histogram())) for k in {**one, **other}}


# --- documents ---------------------------------------------------------------------------------------------------


def to_document(totals: Totals) -> dict[str, object]:
    def histogram(value: Histogram) -> dict[str, object]:
        return {"counts": list(value.counts), "total": value.total}

    return {
        "attempts": [[*key, count] for key, count in totals.attempts.items()],
        "attempt_seconds": {work: histogram(value) for work, value in totals.attempt_seconds.items()},
        "wait_seconds": {work: histogram(value) for work, value in totals.wait_seconds.items()},
        "stage_seconds": [[*key, seconds] for key, seconds in totals.stage_seconds.items()],
        "frames": totals.frames,
        "jobs": dict(totals.jobs),
        "job_seconds": histogram(totals.job_seconds),
        "readers": dict(totals.readers),
    }


def from_document(document: Mapping[str, object]) -> Totals:
    """Of `to_document`; an empty one is nothing counted yet."""
    read: dict[str, object] = dict(document)
    if not read:
        return Totals()

    def histogram(value: Mapping[str, object]) -> Histogram:
        counts, total = value["counts"], value["total"]
        assert isinstance(counts, list)
        assert isinstance(total, int | float)
        return Histogram(tuple(counts), float(total))

    def histograms(value: object) -> dict[str, Histogram]:
        assert isinstance(value, dict)
        return {work: histogram(each) for work, each in value.items()}

    attempts, stages, frames, jobs = read["attempts"], read["stage_seconds"], read["frames"], read["jobs"]
    job_seconds, readers = read["job_seconds"], read.get("readers", {})  # a farm before may have written it
    assert isinstance(attempts, list)
    assert isinstance(stages, list)
    assert isinstance(frames, int)
    assert isinstance(jobs, dict)
    assert isinstance(job_seconds, dict)
    assert isinstance(readers, dict)
    return Totals(
        {(work, outcome, reason): count for work, outcome, reason, count in attempts},
        histograms(read["attempt_seconds"]),
        histograms(read["wait_seconds"]),
        {(work, stage): float(seconds) for work, stage, seconds in stages},
        frames,
        jobs,
        histogram(job_seconds),
        readers,
    )


# --- Prometheus text 0.0.4 ---------------------------------------------------------------------------------------

Labels = Mapping[str, str]


class Page:
    """The text of a scrape. Every name begins with `dubfarm_`."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def gauge(self, name: str, text: str, rows: Iterable[tuple[Labels, float]]) -> None:
        self._plain(name, text, "gauge", rows)

    def counter(self, name: str, text: str, rows: Iterable[tuple[Labels, float]]) -> None:
        self._plain(name, text, "counter", rows)

    def histogram(
        self, name: str, text: str, rows: Iterable[tuple[Labels, Histogram]], bounds: Sequence[float] = SECONDS
    ) -> None:
        self._head(name, text, "histogram")
        for labels, value in rows:
            below = 0
            for bound, count in zip((*bounds, float("inf")), value.counts, strict=True):
                below += count
                edge = "+Inf" if bound == float("inf") else f"{bound:g}"
                self._line(f"{name}_bucket", {**labels, "le": edge}, below)
            self._line(f"{name}_sum", labels, value.total)
            self._line(f"{name}_count", labels, below)

    def text(self) -> str:
        return "\n".join(self._lines) + "\n"

    def _plain(self, name: str, text: str, kind: str, rows: Iterable[tuple[Labels, float]]) -> None:
        self._head(name, text, kind)
        for labels, value in rows:
            self._line(name, labels, value)

    def _head(self, name: str, text: str, kind: str) -> None:
        self._lines += (f"# HELP dubfarm_{name} {text}", f"# TYPE dubfarm_{name} {kind}")

    def _line(self, name: str, labels: Labels, value: float) -> None:
        inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        shown = str(value) if isinstance(value, int) else repr(float(value))
        self._lines.append(f"dubfarm_{name}{'{' + inside + '}' if inside else ''} {shown}")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
