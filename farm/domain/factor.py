"""Factors: what drives the lips, the pose, the eyes and the expression of a job (API.md, `factors`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Factor(StrEnum):
    """The factors of PD-FGC; gaze and blink are the two halves of its eye code and can be driven apart."""

    LIP = "lip"
    POSE = "pose"
    GAZE = "gaze"
    BLINK = "blink"
    EXPRESSION = "expression"


class Drive(StrEnum):
    """Where a factor's code comes from."""

    AUDIO = "audio"  # the job's voice track (lip only)
    SOURCE = "source"  # the source video or image itself
    CANONICAL = "canonical"  # code = 0
    VIDEO = "video"  # another video
    BLEND = "blend"  # a weighted sum over several videos (expression only)


@dataclass(frozen=True)
class Media:
    """A reference to bytes: a uri, or an uploaded asset. Exactly one is set."""

    uri: str | None = None
    asset_id: str | None = None


@dataclass(frozen=True)
class Driver:
    """One driving video and its weight in a blend (1.0 alone)."""

    media: Media
    weight: float = 1.0


@dataclass(frozen=True)
class FactorSetting:
    """How one factor is driven. `gain` None means the bundle's own gain for that factor."""

    drive: Drive
    drivers: tuple[Driver, ...] = ()
    gain: float | None = None


@dataclass(frozen=True)
class Factors:
    """All five settings of a job."""

    lip: FactorSetting = field(default_factory=lambda: FactorSetting(Drive.AUDIO))
    pose: FactorSetting = field(default_factory=lambda: FactorSetting(Drive.SOURCE))
    gaze: FactorSetting = field(default_factory=lambda: FactorSetting(Drive.SOURCE))
    blink: FactorSetting = field(default_factory=lambda: FactorSetting(Drive.SOURCE))
    expression: FactorSetting = field(default_factory=lambda: FactorSetting(Drive.SOURCE))

    def items(self) -> tuple[tuple[Factor, FactorSetting], ...]:
        return (
            (Factor.LIP, self.lip),
            (Factor.POSE, self.pose),
            (Factor.GAZE, self.gaze),
            (Factor.BLINK, self.blink),
            (Factor.EXPRESSION, self.expression),
        )


@dataclass(frozen=True)
class FactorSegment:
    """Settings that hold from start_s to stop_s of the output instead of the job's own (all five, as they stand there).

    ease_s: how long the change takes at each end, centred on it; the codes of both settings are interpolated meanwhile.
    """

    start_s: float
    stop_s: float
    factors: Factors
    ease_s: float = 0.2
