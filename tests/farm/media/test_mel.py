"""Mel as the authors computed it, and windows that no chunk border shows in."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from farm.media.mel import frame_count, mel, rms, stretch, window_start, windows

FIXTURE = Path(__file__).parents[2] / "fixtures" / "pdfgc" / "mel.npz"


@pytest.fixture(scope="module")
def wave() -> np.ndarray:
    return np.load(FIXTURE)["wave"]


def padded(wave: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Samples [start, stop) of the voice, zeros outside it."""
    samples = np.zeros(stop - start, np.float32)
    begin, end = max(0, start), min(wave.size, stop)
    if begin < end:
        samples[begin - start : end - start] = wave[begin:end]
    return samples


def test_mel_is_the_authors(wave: np.ndarray) -> None:
    expected = np.load(FIXTURE)["mel"]
    found = mel(wave)
    assert found.shape == (80, 210)
    assert found.dtype == np.float32
    assert np.abs(found.T - expected).max() <= 1e-4


def test_loudness_is_the_authors(wave: np.ndarray) -> None:
    np.testing.assert_allclose(wave * (0.1 / rms(wave)), np.load(FIXTURE)["wave_norm"], rtol=1e-5, atol=1e-6)


def test_loudness_does_not_change_the_mel(wave: np.ndarray) -> None:
    np.testing.assert_allclose(mel(wave * np.float32(0.25)), mel(wave), atol=1e-5)


def test_rms_in_pieces(wave: np.ndarray) -> None:
    assert rms(iter([wave[:1000], wave[1000:1001], wave[1001:]])) == pytest.approx(rms(wave), rel=1e-12)
    assert rms(np.zeros(0, np.float32)) == 0.0


def test_silence_is_nothing() -> None:
    assert not mel(np.zeros(5000, np.float32)).any()


@pytest.mark.parametrize(("samples", "frames"), [(1, 8), (160, 8), (161, 9), (32479, 210)])
def test_frame_count(samples: int, frames: int) -> None:
    assert frame_count(samples) == frames


@pytest.mark.parametrize("frame", [0, 1, 2, 3, 100, 12345])
def test_window_at_25_fps_is_the_authors(frame: int) -> None:
    assert window_start(Fraction(frame, 25)) == 4 * (frame - 2)


def test_window_is_nearest_at_other_rates() -> None:
    for rate in (Fraction(24000, 1001), Fraction(24), Fraction(30000, 1001), Fraction(50), Fraction(60)):
        for frame in (0, 1, 7, 1000, 86399):
            centre_s = Fraction(window_start(frame / rate) + 8, 100)
            assert abs(centre_s - frame / rate) <= Fraction(1, 200)


def test_windows_are_pieces_of_the_mel(wave: np.ndarray) -> None:
    """Bit for bit; silence before the voice and after it."""
    whole = np.concatenate([np.zeros((80, 30), np.float32), mel(wave), np.zeros((80, 60), np.float32)], axis=1)
    starts = [-30, -8, -1, 0, 1, 31, 32, 100, 191, 205, 210, 250]
    found = windows(padded(wave, *stretch(starts)), stretch(starts)[0], starts, rms(wave))
    assert found.shape == (12, 1, 80, 20)
    for window, start in zip(found, starts, strict=True):
        assert np.array_equal(window[0], whole[:, start + 30 : start + 50])


def test_windows_do_not_show_the_stretch(wave: np.ndarray) -> None:
    loudness = rms(wave)
    starts = [window_start(Fraction(1001 * frame, 30000)) for frame in range(70)]
    whole = windows(padded(wave, -5000, 60000), -5000, starts, loudness)
    dice = np.random.default_rng(0)
    for _ in range(40):
        first = int(dice.integers(0, 69))
        last = int(dice.integers(first + 1, 71))
        start, stop = stretch(starts[first:last])
        start, stop = start - int(dice.integers(0, 700)), stop + int(dice.integers(0, 700))
        part = windows(padded(wave, start, stop), start, starts[first:last], loudness)
        assert np.array_equal(part, whole[first:last])


def test_a_short_stretch_is_an_error(wave: np.ndarray) -> None:
    start, stop = stretch([10, 11])
    with pytest.raises(ValueError, match="need samples"):
        windows(padded(wave, start + 1, stop), start + 1, [10, 11], 1.0)
    with pytest.raises(ValueError, match="need samples"):
        windows(padded(wave, start, stop - 1), start, [10, 11], 1.0)


def test_no_windows() -> None:
    assert windows(np.zeros(0, np.float32), 0, [], 1.0).shape == (0, 1, 80, 20)
