"""What a bundle says about itself: manifest.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from farm.domain.factor import Factor
from farm.errors import Rejected
from farm.nets.sizes import Sizes

MANIFEST: Final = "manifest.json"
FORMAT: Final = 1
FILES: Final[Mapping[str, str]] = MappingProxyType(
    {name: f"{name}.safetensors" for name in ("appearance", "motion", "audio", "generator")}
)
"""Network -> its file in the folder of the bundle."""

PLAIN_GAINS: Final[Mapping[Factor, float]] = MappingProxyType(dict.fromkeys(Factor, 1.0))
OFFICIAL_GAINS: Final[Mapping[Factor, float]] = MappingProxyType(
    {**PLAIN_GAINS, Factor.LIP: 1.5, Factor.GAZE: 1.2, Factor.BLINK: 1.2, Factor.EXPRESSION: 1.2}
)
"""How the authors' demo scales the driving codes; gaze and blink are the two parts of the eye code."""

PREPROCESSING: Final[Mapping[str, object]] = MappingProxyType(
    {
        "crop": "similarity to (87,59) (137,59) (112,120) in 224x224, rows 0:192, columns 16:208, resized to image",
        "colour": "rgb in [-1, 1]",
        "mel": "16 kHz, rms 0.1, fft 1280, hop 160, 80 slaney mels 125-7600 Hz, (20 log10 + 80) / 100 in [0, 1]",
        "mel_window": "80 bins, 20 frames",
    }
)
"""The only preprocessing that this code does: a bundle trained on another one is refused."""


@dataclass(frozen=True)
class Manifest:
    """files: file name -> SHA-256 in hex, filled in when the bundle is saved.

    created_by: what made the weights ("official import", "seeded", a training run). source: what they came from.
    """

    name: str
    sizes: Sizes
    licence: str
    trained: bool
    created_by: str
    source: str = ""
    seed: int | None = None
    gains: Mapping[Factor, float] = field(default_factory=lambda: dict(PLAIN_GAINS))
    preprocessing: Mapping[str, object] = field(default_factory=lambda: dict(PREPROCESSING))
    files: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The file's bytes: always the same for the same manifest."""
        data = {
            "format": FORMAT,
            "name": self.name,
            "sizes": self.sizes.to_json(),
            "licence": self.licence,
            "trained": self.trained,
            "created_by": self.created_by,
            "source": self.source,
            "seed": self.seed,
            "gains": {str(factor): gain for factor, gain in self.gains.items()},
            "preprocessing": dict(self.preprocessing),
            "files": dict(self.files),
        }
        return (json.dumps(data, indent=2, sort_keys=True) + "\n").encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Manifest:
        """Raises Rejected("manifest_invalid") naming the entry that is missing, unknown or wrong."""
        try:
            data = json.loads(content)
        except ValueError as error:
            raise Rejected("manifest_invalid", f"{MANIFEST} is not JSON: {error}") from error
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise Rejected("manifest_invalid", f"{MANIFEST} is not a bundle manifest of format {FORMAT}")
        odd = data.keys() ^ {*_TYPES, "format", "sizes"}
        if odd:
            raise Rejected("manifest_invalid", f"{MANIFEST}: unknown or missing: {', '.join(sorted(odd))}")
        for key, kinds in _TYPES.items():
            if not isinstance(data[key], kinds):
                raise Rejected("manifest_invalid", f"{MANIFEST}: {key}: {data[key]!r} has the wrong type")
        if data["preprocessing"] != dict(PREPROCESSING):
            raise Rejected("manifest_invalid", f"{MANIFEST}: preprocessing is not the one that this version does")
        if set(data["files"]) != set(FILES.values()):
            raise Rejected("manifest_invalid", f"{MANIFEST}: files must be exactly {', '.join(FILES.values())}")
        plain = {key: data[key] for key in ("name", "licence", "trained", "created_by", "source", "seed", "files")}
        return cls(sizes=Sizes.from_json(data["sizes"]), gains=_gains(data["gains"]), **plain)


_TYPES: Final[Mapping[str, type | tuple[type, ...]]] = {
    "name": str,
    "licence": str,
    "trained": bool,
    "created_by": str,
    "source": str,
    "seed": (int, type(None)),
    "gains": dict,
    "preprocessing": dict,
    "files": dict,
}


def _gains(data: Mapping[str, object]) -> Mapping[Factor, float]:
    if set(data) != {str(factor) for factor in Factor}:
        raise Rejected("manifest_invalid", f"{MANIFEST}: gains must name exactly {', '.join(Factor)}")
    gains = {}
    for factor in Factor:
        gain = data[factor]
        if not isinstance(gain, int | float) or isinstance(gain, bool):
            raise Rejected("manifest_invalid", f"{MANIFEST}: gains: {factor}: {gain!r} is not a number")
        gains[factor] = float(gain)
    return gains
