"""What is measured of a model, one function a metric.

`@metric` enters a function in METRICS with its source, whether more is better, and what it needs; `measure` asks those
whose needs are met. A metric returns a number, or numbers by name: the report's JSON is just these, by metric.

N pictures, F factors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import Tensor

from trainer.trial import Trial

Better = Literal["higher", "lower", "neither"]
Value = Any
"""A number, or a mapping of names to values."""


@dataclass(frozen=True)
class Metric:
    """needs: of the trial: phonemes and voices of its footage; syncnet, landmarks, features, stage1."""

    name: str
    source: str
    better: Better
    needs: frozenset[str]
    measure: Callable[[Trial], Value]

    @property
    def says(self) -> str:
        return " ".join((self.measure.__doc__ or "").split())


METRICS: Final[dict[str, Metric]] = {}


def metric(
    name: str, source: str, better: Better, needs: Collection[str] = ()
) -> Callable[[Callable[[Trial], Value]], Callable[[Trial], Value]]:
    """Enter a function in METRICS under a name, which is its key in the report."""

    def enter(measure: Callable[[Trial], Value]) -> Callable[[Trial], Value]:
        if name in METRICS:
            raise ValueError(f"two metrics are called {name}")
        METRICS[name] = Metric(name, source, better, frozenset(needs), measure)
        return measure

    return enter


def measure(
    trial: Trial, names: Collection[str] | None = None, told: Callable[[str], None] = lambda _: None
) -> tuple[dict[str, Value], dict[str, str]]:
    """Values by metric, and, of the metrics that could not be asked, what they lack. told: called with each name."""
    values: dict[str, Value] = {}
    lacking: dict[str, str] = {}
    for name, entry in METRICS.items():
        if names is not None and name not in names:
            continue
        missing = entry.needs - trial.gives
        if missing:
            lacking[name] = f"needs {', '.join(sorted(missing))}"
            continue
        told(name)
        values[name] = rounded(entry.measure(trial))
    return values, lacking


def by_group(groups: Mapping[str, tuple[str, ...]], values_F: Tensor) -> dict[str, float]:
    """Each group's mean over its factors that are numbers."""
    result, start = {}, 0
    for group, names in groups.items():
        result[group] = float(values_F[start : start + len(names)].nanmean())
        start += len(names)
    return result


def by_factor(groups: Mapping[str, tuple[str, ...]], values_F: Tensor) -> dict[str, float]:
    names = [name for several in groups.values() for name in several]
    return {name: float(value) for name, value in zip(names, values_F, strict=True)}


def correlation_where(x_NF: Tensor, y_NF: Tensor, shown_NF: Tensor) -> Tensor:
    """(F,) Pearson's over the rows that show the factor; NaN where fewer than four do or one does not move."""
    count = shown_NF.sum(0)
    x = (x_NF - (x_NF * shown_NF).sum(0) / count) * shown_NF
    y = (y_NF - (y_NF * shown_NF).sum(0) / count) * shown_NF
    power = (x.square().sum(0) * y.square().sum(0)).sqrt()
    return torch.where((count >= 4) & (power > 1e-8), (x * y).sum(0) / power, float("nan"))


def rounded(value: Value) -> Value:
    """For JSON: plain numbers of four places; what is no number is None."""
    if isinstance(value, Mapping):
        return {str(key): rounded(part) for key, part in value.items()}
    if isinstance(value, Tensor):
        value = value.item()
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value
