"""How many frames go through the networks at once: tried out on this device, with this bundle."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import torch

from farm import machine
from farm.nets.ready import Ready

USUAL: Final = 8
SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128)
ROUNDS: Final = 3
"""Tries of a size; the quickest counts, for what else runs can only slow it."""
GAIN: Final = 1.1
"""Another batch than the usual one must be so many times as fast."""
MEMORY_SHARE: Final = 0.6
"""Of the device's memory, in use after a try: a larger batch is not tried. Decoded pictures need room as well."""
SLOW_S: Final = 20.0
"""A batch that is expected to take longer is not tried."""


def chosen(frames_per_s: Mapping[int, float]) -> int:
    """The usual batch unless another is faster by GAIN; then the smallest that is nearly as fast as the fastest."""
    best = max(frames_per_s.values(), default=0.0)
    if not frames_per_s or frames_per_s.get(USUAL, 0.0) * GAIN >= best:
        return USUAL
    return min(size for size, speed in frames_per_s.items() if speed * 1.05 >= best)


def tried(sizes: Iterable[int], seconds_of: Callable[[int], float], is_full: Callable[[], bool]) -> dict[int, float]:
    """Frames a second by size, growing until memory is full or short, a batch takes long, or twice as many frames take
    twice as long beyond the usual batch. Raises OutOfMemoryError where not even the first size fits."""
    speeds: dict[int, float] = {}
    for size in sizes:
        try:
            seconds = seconds_of(size)
        except (torch.OutOfMemoryError, MemoryError):
            if not speeds:
                raise
            break
        speeds[size] = size / seconds
        best_below = max((speed for other, speed in speeds.items() if other < size), default=0.0)
        if is_full() or 2 * seconds > SLOW_S or (size > USUAL and speeds[size] < best_below * 1.05):
            break
    return speeds


def find(ready: Ready) -> tuple[int, dict[int, float]]:
    """The batch to plan with, and frames a second of motion encoder and generator by batch.

    On processors always the usual one, untried: sizes hardly differ there, so that noise alone would choose, and a job
    that is planned again would come out in other bits.
    """
    if ready.device.type == "cpu":
        return USUAL, {}
    speeds = measured(ready, SIZES)
    return chosen(speeds), speeds


def measured(ready: Ready, sizes: Iterable[int]) -> dict[int, float]:
    """Frames a second by size (`tried`) of motion encoder and generator on blank pictures."""
    widths, device = ready.sizes, ready.device
    scene = ready.generator.prepare(
        torch.zeros(1, widths.appearance, device=device),
        torch.zeros(1, widths.map, widths.map_side, widths.map_side, device=device),
    )

    def run(size: int) -> None:
        pictures = torch.zeros(size, 3, widths.image, widths.image, device=device, dtype=ready.dtype)
        ready.motion(pictures)
        ready.generator(torch.zeros(size, widths.style - widths.appearance, device=device), scene)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def seconds_of(size: int) -> float:
        run(size)  # the first call of a size sets things up
        spent = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            run(size)
            spent.append(time.perf_counter() - started)
        return min(spent)

    return tried(sizes, seconds_of, lambda: _used(device) > MEMORY_SHARE)


def _used(device: torch.device) -> float:
    """Share of the memory in use: a GPU's by anybody, the machine's by this process (others' is mostly cache)."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return 1 - free / total
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resident / machine.memory_bytes()
