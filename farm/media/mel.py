"""Mel spectrogram of the voice as the audio network was trained on it (PDFGC.md, section 3).

16 kHz, loudness brought to an RMS of 0.1; mel frame k sees samples [160 k - 1120, 160 k + 160), zeros outside the
voice. N samples, K mel frames, W windows.

Chunks must not show: a mel frame's bits may not depend on which stretch of the voice is at hand, so frames are computed
in blocks of one fixed shape whose place is absolute. Nor on the machine: the filters are summed in one order, where a
matrix product's order goes by its shape and the number of cores (and its threads cost more than they compute).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import cache

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
HOP = 160
FFT = 1280
LEAD = FFT - HOP
BINS = 80
WINDOW_FRAMES = 20
LOUDNESS = 0.1

_LOWEST_HZ, _HIGHEST_HZ = 125.0, 7600.0
_FLOOR = 1e-5
_REFERENCE_DB, _RANGE_DB = 20.0, 100.0
_BLOCK = 32

Samples = NDArray[np.float32]


def rms(wave: Samples | Iterable[Samples]) -> float:
    """Root mean square of the whole voice, given at once or in pieces; 0.0 for an empty one."""
    pieces = (wave,) if isinstance(wave, np.ndarray) else wave
    energy, count = 0.0, 0
    for piece in pieces:
        energy += float(np.sum(np.square(piece, dtype=np.float64)))
        count += piece.size
    return math.sqrt(energy / count) if count else 0.0


def frame_count(samples: int) -> int:
    """Mel frames of a voice of so many samples: those that hold any of it."""
    return -(-samples // HOP) + LEAD // HOP


def mel(wave_N: Samples, rms_of_voice: float | None = None) -> NDArray[np.float32]:
    """mel_80K in [0, 1] of a whole voice at 16 kHz."""
    loudness = rms(wave_N) if rms_of_voice is None else rms_of_voice
    return _frames(wave_N, 0, 0, frame_count(wave_N.size), loudness).T.copy()


def window_start(time_s: Fraction) -> int:
    """First mel frame of the window that is centred at this time; negative near the start of the voice."""
    return math.floor(100 * time_s + Fraction(1, 2)) - 8


def stretch(starts: Sequence[int]) -> tuple[int, int]:
    """[start, stop) of the samples that the windows starting at these mel frames see; may pass the voice's ends."""
    return HOP * min(starts) - LEAD, HOP * (max(starts) + WINDOW_FRAMES)


def windows(samples: Samples, first_sample: int, starts: Sequence[int], rms_of_voice: float) -> NDArray[np.float32]:
    """mel_W_1_80_20: the windows starting at these mel frames, for the audio network.

    samples: a stretch of the voice from first_sample on, holding at least `stretch(starts)`, zeros where that passes
    the voice's ends. The result is bit-identical whichever stretch is given. Raises ValueError if it is too short.
    """
    if not starts:
        return np.zeros((0, 1, BINS, WINDOW_FRAMES), np.float32)
    start, stop = stretch(starts)
    if first_sample > start or first_sample + samples.size < stop:
        have = f"[{first_sample}, {first_sample + samples.size})"
        raise ValueError(f"mel windows need samples [{start}, {stop}), but the stretch holds {have}")
    first, last = min(starts), max(starts) + WINDOW_FRAMES
    mel_KF = _frames(samples, first_sample, first, last, rms_of_voice)
    return np.stack([mel_KF[s - first : s - first + WINDOW_FRAMES].T for s in starts])[:, None]


def _frames(samples: Samples, first_sample: int, first: int, last: int, loudness: float) -> NDArray[np.float32]:
    """Mel frames [first, last), (K, 80), zeros for the samples outside the stretch."""
    gain = np.float32(LOUDNESS / loudness if loudness > 0 else 1.0)
    mel_KF = np.empty((last - first, BINS), np.float32)
    for block in range(first // _BLOCK, -(-last // _BLOCK)):
        begin = max(first, block * _BLOCK)
        end = min(last, (block + 1) * _BLOCK)
        values = _block(samples, first_sample, block * _BLOCK, gain)
        mel_KF[begin - first : end - first] = values[begin - block * _BLOCK : end - block * _BLOCK]
    return mel_KF


def _block(samples: Samples, first_sample: int, frame: int, gain: np.float32) -> NDArray[np.float32]:
    """The _BLOCK mel frames from `frame` on, (_BLOCK, 80)."""
    start = HOP * frame - LEAD
    padded = np.zeros(HOP * (_BLOCK - 1) + FFT, np.float32)
    begin, end = max(start, first_sample), min(start + padded.size, first_sample + samples.size)
    if begin < end:
        padded[begin - start : end - start] = samples[begin - first_sample : end - first_sample] * gain
    seen_KN = np.lib.stride_tricks.sliding_window_view(padded, FFT)[::HOP].astype(np.float64)
    magnitude_KF = np.abs(np.fft.rfft(seen_KN * _taper(), axis=1))
    band, weight, first = _bands()
    passed_KB = np.add.reduceat(magnitude_KF[:, band] * weight, first, axis=1)
    level_db = 20 * np.log10(np.maximum(_FLOOR, passed_KB)) - _REFERENCE_DB
    return np.clip((level_db + _RANGE_DB) / _RANGE_DB, 0, 1).astype(np.float32)


@cache
def _taper() -> NDArray[np.float64]:
    """Half the square root of a Hann window that is symmetric about its half samples."""
    return 0.5 * np.sin(np.pi * (np.arange(FFT) + 0.5) / FFT)


@cache
def _filters() -> NDArray[np.float64]:
    """Triangles of equal area on Slaney's mel scale (linear below 1 kHz, logarithmic above), (80, 641)."""
    edges_hz = _hz(np.linspace(_mel(_LOWEST_HZ), _mel(_HIGHEST_HZ), BINS + 2))
    bins_hz = np.arange(FFT // 2 + 1) * (SAMPLE_RATE / FFT)
    low, centre, high = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    triangles = np.minimum((bins_hz - low) / (centre - low), (high - bins_hz) / (high - centre))
    return np.maximum(0, triangles) * (2 / (high - low))


@cache
def _bands() -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.intp]]:
    """The filters without zeros, one after the other: Fourier bins, their weights, and where each filter starts."""
    filters = _filters()
    of, band = np.nonzero(filters)
    return band, filters[of, band], np.searchsorted(of, np.arange(BINS))


_MEL_HZ = 200 / 3
_BREAK_HZ = 1000.0
_LOG_STEP = math.log(6.4) / 27


def _mel(hz: float) -> float:
    if hz < _BREAK_HZ:
        return hz / _MEL_HZ
    return _BREAK_HZ / _MEL_HZ + math.log(hz / _BREAK_HZ) / _LOG_STEP


def _hz(mels: NDArray[np.float64]) -> NDArray[np.float64]:
    above = _BREAK_HZ * np.exp(_LOG_STEP * (mels - _BREAK_HZ / _MEL_HZ))
    return np.where(mels < _BREAK_HZ / _MEL_HZ, _MEL_HZ * mels, above)
