"""Synthesised speech with its phoneme times, and the mouth shapes that go with it (espeak-ng through ctypes).

espeak-ng comes from the wheel `espeakng-loader`; a system library would do as well. The library keeps state that shows
in the samples, and that no call resets: so every text is spoken by a fresh copy of it, and the same text always sounds
the same. (A system library, of which there is no copy, varies from call to call.) A lock serialises calls.
"""

from __future__ import annotations

import _ctypes
import ctypes
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

RATE_HZ: Final = 16000
SHAPE_HZ: Final = 100  # mouth shapes are sampled at this rate before they are smoothed

# Mouth shapes by phoneme (espeak's Kirshenbaum-like mnemonics): jaw, lip width, pucker.
_SHAPES: Final[dict[str, tuple[float, float, float]]] = {
    "a": (0.85, 0.2, 0), "A": (1, 0, 0), "0": (0.8, 0, 0.2), "V": (0.7, 0.1, 0), "E": (0.6, 0.4, 0),
    "e": (0.45, 0.6, 0), "I": (0.3, 0.6, 0), "i": (0.22, 1, 0), "O": (0.65, -0.3, 0.6), "o": (0.5, -0.4, 0.8),
    "u": (0.2, -0.5, 1), "U": (0.3, -0.3, 0.7), "@": (0.4, 0.1, 0), "3": (0.4, -0.1, 0.4), "y": (0.2, -0.4, 1),
    "Y": (0.35, -0.3, 0.8), "m": (0, 0.1, 0), "b": (0, 0.1, 0), "p": (0, 0.1, 0), "f": (0.08, 0.3, 0),
    "v": (0.08, 0.3, 0), "B": (0.1, 0.1, 0), "w": (0.15, -0.5, 1), "r": (0.25, -0.2, 0.5), "*": (0.25, 0.1, 0.1),
    "s": (0.14, 0.5, 0), "z": (0.14, 0.5, 0), "t": (0.18, 0.3, 0), "d": (0.18, 0.3, 0), "n": (0.2, 0.2, 0),
    "l": (0.35, 0.2, 0), "S": (0.18, -0.2, 0.6), "Z": (0.18, -0.2, 0.6), "T": (0.25, 0.3, 0), "D": (0.25, 0.3, 0),
    "k": (0.32, 0.1, 0), "g": (0.32, 0.1, 0), "Q": (0.32, 0.1, 0), "h": (0.4, 0.1, 0), "x": (0.3, 0.1, 0),
    "N": (0.3, 0.2, 0), "j": (0.2, 0.7, 0), "J": (0.2, 0.6, 0), "R": (0.3, 0, 0.1),
}  # fmt: skip
_DIPHTHONGS: Final = {
    "aI": ("a", "I"), "aU": ("a", "o"), "oU": ("O", "u"), "eI": ("e", "i"), "OI": ("O", "I"), "eU": ("e", "u"),
}  # fmt: skip
_REST: Final = (0.03, 0.0, 0.0)
_EVENT_END, _EVENT_PHONEME = 0, 7
_SYNCHRONOUS, _PHONEME_EVENTS = 2, 1
_PARAMETER_RATE, _PARAMETER_PITCH, _PARAMETER_RANGE = 1, 3, 4


class SynthesiserMissing(RuntimeError):
    """No espeak-ng here: pip install espeakng-loader (in the `trainer` extra), or install espeak-ng."""


@dataclass(frozen=True)
class Speech:
    """A spoken text. wave: float32 at 16 kHz. phonemes: (start in seconds, mnemonic), in order. voice: espeak-ng's."""

    wave: NDArray[np.float32]
    phonemes: tuple[tuple[float, str], ...]
    text: str = ""
    voice: str = ""

    @property
    def duration_s(self) -> float:
        return len(self.wave) / RATE_HZ


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int), ("unique_identifier", ctypes.c_uint), ("text_position", ctypes.c_int),
        ("length", ctypes.c_int), ("audio_position_ms", ctypes.c_int), ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p), ("id", _EventId),
    ]  # fmt: skip


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
_lock = threading.Lock()


@contextmanager
def _library() -> Iterator[tuple[ctypes.CDLL, int]]:
    """A library that has never spoken, and its sample rate."""
    with tempfile.TemporaryDirectory(prefix="espeak-") as folder:
        try:
            import espeakng_loader

            path, data = shutil.copy(espeakng_loader.get_library_path(), folder), espeakng_loader.get_data_path()
        except ImportError:
            path, data = "libespeak-ng.so.1", None
        try:
            library = ctypes.CDLL(path)
        except OSError as error:
            raise SynthesiserMissing(str(SynthesiserMissing.__doc__)) from error
        rate_hz = library.espeak_Initialize(_SYNCHRONOUS, 200, data and data.encode(), _PHONEME_EVENTS)
        if rate_hz <= 0:
            raise SynthesiserMissing(f"espeak-ng at {path} does not start (code {rate_hz})")
        try:
            yield library, rate_hz
        finally:
            library.espeak_Terminate()
            _ctypes.dlclose(library._handle)


def say(text: str, voice: str = "en-us+m3", words_per_minute: int = 165, pitch: int = 50, range_: int = 50) -> Speech:
    """Speak `text` with an espeak-ng voice such as "es+f2". Raises ValueError for a voice that is not there."""
    waves: list[NDArray[np.int16]] = []
    phonemes: list[tuple[float, str]] = []

    def receive(wave: Callable[..., object], samples: int, events: Callable[..., object]) -> int:
        if wave and samples > 0:
            waves.append(np.ctypeslib.as_array(wave, (samples,)).copy())  # type: ignore[arg-type]
        i = 0
        while events[i].type != _EVENT_END:  # type: ignore[index]
            if events[i].type == _EVENT_PHONEME:  # type: ignore[index]
                name = bytes(events[i].id.string).split(b"\0")[0].decode("utf8", "ignore")  # type: ignore[index]
                phonemes.append((events[i].audio_position_ms / 1000, name))  # type: ignore[index]
            i += 1
        return 0

    with _lock, _library() as (library, rate_hz):
        callback = _Callback(receive)
        library.espeak_SetSynthCallback(callback)
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice!r}")
        library.espeak_SetParameter(_PARAMETER_RATE, words_per_minute, 0)
        library.espeak_SetParameter(_PARAMETER_PITCH, pitch, 0)
        library.espeak_SetParameter(_PARAMETER_RANGE, range_, 0)
        encoded = text.encode()
        library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, 1, None, None)
        library.espeak_Synchronize()
    wave = np.concatenate(waves).astype(np.float32) / np.float32(32768)
    return Speech(_resample(wave, rate_hz), tuple(phonemes), text, voice)


def _resample(wave: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
    """To 16 kHz by cutting the spectrum: exact for a clip held whole, which synthesised sentences are."""
    count = len(wave) * RATE_HZ // rate_hz
    spectrum = np.fft.rfft(wave)
    return (np.fft.irfft(spectrum[: count // 2 + 1], count) * (count / len(wave))).astype(np.float32)


def mouth_shapes(speech: Speech) -> NDArray[np.float32]:
    """Coarticulated jaw, lip width and pucker at 100 Hz, (T, 3): rounding spreads wider in time than the jaw."""
    count = int(speech.duration_s * SHAPE_HZ) + 1
    target = np.tile(np.array(_REST, np.float32), (count, 1))
    ends = [*(start for start, _ in speech.phonemes[1:]), speech.duration_s]
    for (start_s, name), end_s in zip(speech.phonemes, ends, strict=True):
        start, end = int(start_s * SHAPE_HZ), int(end_s * SHAPE_HZ)
        bare = name.lstrip("',%_|:;=")
        if not bare or end <= start:
            continue
        if bare[:2] in _DIPHTHONGS:
            first, second = _DIPHTHONGS[bare[:2]]
            middle = (start + end) // 2
            target[start:middle], target[middle:end] = _SHAPES[first], _SHAPES[second]
        elif bare[0] in _SHAPES:
            target[start:end] = _SHAPES[bare[0]]
    jaw, rounding = _smooth(target, 3.2), _smooth(target, 5.5)
    return np.stack([jaw[:, 0], rounding[:, 1], rounding[:, 2]], 1)


def _smooth(curves_TK: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    reach = 16
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(curves_TK, ((reach, reach), (0, 0)), "edge")
    return np.stack([np.convolve(curve, kernel, "valid") for curve in padded.T], 1).astype(np.float32)
