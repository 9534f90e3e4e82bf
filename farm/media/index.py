"""The index of a video: when each frame that really decodes is shown, and where decoding can start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

NO_PTS: Final = np.iinfo(np.int64).min
STEADY_RATES: Final = tuple(
    sorted(
        {Fraction(n, d) for n in (24000, 30000, 48000, 60000, 120000) for d in (1000, 1001)}
        | {Fraction(n, 1001) for n in (12000, 15000)}
        | {Fraction(n) for n in (5, 6, 8, 10, 12, 15, 20, 25, 50, 72, 75, 90, 100, 144, 240)}
        | {Fraction(25, 2), Fraction(15, 2)}
    )
)
COARSE_S: Final = Fraction(1, 240)  # clocks coarser than this are not second-guessed
FINE_S: Final = Fraction(101, 100_000)  # a millisecond clock, whatever the ticks it was rewritten in


@dataclass(frozen=True, eq=False)
class FrameIndex:
    """Frames 0..T-1 in the order shown. Made by a full decode, so that a frame in it is a frame that decodes.

    pts_T: int64 ticks of `time_base`, pts[0] = 0, strictly increasing; the picture ends at `end_pts`. Where a steady
    rate was only rounded to a coarse clock (29.97 in milliseconds), pts are the steady ones again.
    raw_T: int64 timestamps in the stream's own clock (`NO_PTS` where it has none), to recognise decoded frames by; they
    are decoding timestamps where `raw_is_dts`.
    key_T: bool, decoding can start here. check_T: uint32, CRC-32 of a part of the luma as decoded, so that decoding
    from a key frame is known to give the very frame that the scan saw.
    frame_rate: frames a second, exact: the steady rate, or the average when `is_vfr`.
    """

    pts: NDArray[np.int64]
    end_pts: int
    time_base: Fraction
    frame_rate: Fraction
    is_vfr: bool
    raw: NDArray[np.int64]
    raw_is_dts: bool
    key: NDArray[np.bool_]
    check: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def duration_s(self) -> Fraction:
        return self.end_pts * self.time_base

    def arrays(self, prefix: str = "") -> dict[str, NDArray]:
        """All of it as arrays for a npz file, names starting with `prefix`."""
        base, rate = self.time_base, self.frame_rate
        # Fractions as text: an average rate has more digits than int64.
        words = (self.end_pts, base.numerator, base.denominator, rate.numerator, rate.denominator)
        flags = np.array([self.is_vfr, self.raw_is_dts])
        arrays = {"pts": self.pts, "raw": self.raw, "key": self.key, "check": self.check, "flags": flags}
        arrays["numbers"] = np.array([str(word) for word in words])
        return {prefix + name: array for name, array in arrays.items()}

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray], prefix: str = "") -> FrameIndex:
        """The inverse of `arrays`; other names in the mapping are left alone."""
        pts, raw, key, check, flags, numbers = (
            arrays[prefix + name] for name in ("pts", "raw", "key", "check", "flags", "numbers")
        )
        end, base_n, base_d, rate_n, rate_d = (int(word) for word in numbers)
        return FrameIndex(
            pts,
            end,
            Fraction(base_n, base_d),
            Fraction(rate_n, rate_d),
            bool(flags[0]),
            raw,
            bool(flags[1]),
            key,
            check,
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """What decoding said of one frame, in the stream's clock; None where it said nothing."""

    pts: int | None
    dts: int | None
    duration: int | None
    is_key: bool
    check: int = 0


def build(seen: Sequence[Seen], time_base: Fraction, guessed_rate: Fraction | None) -> FrameIndex:
    """The index of the frames seen, in the order shown.

    Missing timestamps are one usual step after the frame before; a timestamp that does not increase is put a tick
    after it, or, where the clock jumps back by a second or more, the clock goes on from there.
    """
    pts_faults, dts_faults = _faults([s.pts for s in seen]), _faults([s.dts for s in seen])
    raw_is_dts = pts_faults > dts_faults
    clock = [s.dts if raw_is_dts else s.pts for s in seen]
    usual = _usual_step(clock, time_base, guessed_rate)
    pts = _increasing(clock, usual, time_base)
    pts -= pts[0]
    steps = np.diff(pts)
    if len(steps):
        usual = max(1, int(np.median(steps)))
    durations = [s.duration or 0 for s in seen]
    told = durations[-1] > 0 and abs(float(np.median(durations)) - usual) <= 1
    last = durations[-1] if told else usual
    rate = _steady_rate(pts, time_base, guessed_rate, last)
    if rate is not None and _needs_grid(pts, time_base, rate):
        grid = Fraction(1, rate.numerator)
        is_plain = abs(last * time_base - 1 / rate) <= max(time_base, FINE_S)
        last = rate.denominator if is_plain else max(1, round(last * time_base / grid))
        pts = np.arange(len(pts), dtype=np.int64) * rate.denominator
        time_base = grid
    end = int(pts[-1]) + last
    raw = np.array([NO_PTS if c is None else c for c in clock], np.int64)
    return FrameIndex(
        pts=pts,
        end_pts=end,
        time_base=time_base,
        frame_rate=rate or len(pts) / (end * time_base),
        is_vfr=rate is None,
        raw=raw,
        raw_is_dts=raw_is_dts,
        key=np.array([s.is_key for s in seen], np.bool_),
        check=np.array([s.check for s in seen], np.uint32),
    )


def _faults(clock: Sequence[int | None]) -> int:
    """Timestamps that are missing or do not increase. The last few may be missing: decoders lose them in flushing."""
    last, faults, missing = None, 0, 0
    for at in clock:
        if at is None:
            missing += 1
            continue
        faults += missing + (last is not None and at <= last)
        missing = 0
        last = at if last is None else max(last, at)
    return faults + (len(clock) if last is None else 0)


def _usual_step(clock: Sequence[int | None], time_base: Fraction, guessed_rate: Fraction | None) -> int:
    steps = [b - a for a, b in pairwise(clock) if a is not None and b is not None and b > a]
    if steps:
        return max(1, int(np.median(steps)))
    return max(1, round(1 / (guessed_rate or Fraction(25)) / time_base))


def _increasing(clock: Sequence[int | None], usual: int, time_base: Fraction) -> NDArray[np.int64]:
    second = max(1, round(1 / time_base))
    out = np.empty(len(clock), np.int64)
    first = next((k for k, at in enumerate(clock) if at is not None), None)
    before = 0 if first is None else (clock[first] or 0) - (first + 1) * usual
    shift = 0
    for k, at in enumerate(clock):
        now = before + usual if at is None else at + shift
        if now <= before and k:
            if before - now >= second:
                shift += before + usual - now
                now = before + usual
            else:
                now = before + 1
        out[k] = before = now
    return out


def _steady_rate(
    pts: NDArray[np.int64], time_base: Fraction, guessed_rate: Fraction | None, last: int
) -> Fraction | None:
    """The rate whose frame times, rounded to the clock, are these; None if there is none."""
    if len(pts) == 1:
        guess = 1 / (last * time_base)
        return guessed_rate if guessed_rate and abs(guessed_rate / guess - 1) < Fraction(1, 10) else guess
    measured = (len(pts) - 1) / (int(pts[-1]) * time_base)
    grain = int(np.gcd.reduce(pts[1:]))
    clock = grain * time_base if grain * time_base <= FINE_S else time_base
    near = sorted(STEADY_RATES, key=lambda rate: abs(rate - measured))[:2]
    if clock <= COARSE_S:
        for rate in near:
            # Rounding to a clock moves frames by less than a tick in all, whatever the phase.
            if _spread(pts, time_base, rate) <= Fraction(101, 100) * clock:
                return rate
    steps = np.diff(pts)
    return 1 / (int(steps[0]) * time_base) if (steps == steps[0]).all() else None


def _spread(pts: NDArray[np.int64], time_base: Fraction, rate: Fraction) -> float:
    """How far frames are from the grid of `rate`, latest less earliest, in seconds."""
    off = pts * float(time_base) - np.arange(len(pts)) / float(rate)
    return float(off.max() - off.min())


def _needs_grid(pts: NDArray[np.int64], time_base: Fraction, rate: Fraction) -> bool:
    step = 1 / rate / time_base
    return step.denominator != 1 or bool((np.diff(pts) != step.numerator).any())
