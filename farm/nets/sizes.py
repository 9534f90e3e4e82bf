"""How large the networks are. The same classes serve the official sizes and a tiny model for CPUs and tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from farm.errors import Rejected

MEL_BINS: Final = 80
MEL_FRAMES: Final = 20


@dataclass(frozen=True)
class Sizes:
    """Widths of the four inference networks; the defaults are the official ones (PDFGC.md, section 2).

    image: pixels, a multiple of 32 and at least 64. Generator and appearance map start at image / 32.
    identities: classes of the appearance network's optional identity head, 0 for none.
    """

    image: int = 224

    appearance_stem: int = 64
    appearance_blocks: tuple[int, ...] = (3, 4, 6, 3)
    appearance_groups: int = 32
    map: int = 512
    identities: int = 0

    motion_stem: int = 64
    heatmaps: int = 68
    feature: int = 512
    dropout: float = 0.5

    audio_widths: tuple[int, ...] = (32, 64, 128, 256)
    audio_blocks: tuple[int, ...] = (3, 4, 6, 3)
    audio_attention: int = 128

    generator: tuple[int, ...] = (512, 512, 512, 512, 256, 128)

    lip: int = 500
    expression: int = 30
    eye: int = 6
    pose: int = 6

    def __post_init__(self) -> None:
        if self.image < 64 or self.image % 32:
            raise Rejected("sizes_invalid", f"image must be a multiple of 32 and at least 64, not {self.image}")
        if len(self.generator) != 6:
            raise Rejected("sizes_invalid", "generator needs six widths, one for each of image/32 ... image")
        if len(self.appearance_blocks) != 4 or len(self.audio_blocks) != 4 or len(self.audio_widths) != 4:
            raise Rejected("sizes_invalid", "appearance_blocks, audio_blocks and audio_widths need four entries each")
        if 2 * self.appearance_stem % self.appearance_groups:
            raise Rejected("sizes_invalid", "2 * appearance_stem must be a multiple of appearance_groups")

    @classmethod
    def full(cls, *, identities: int = 0) -> Sizes:
        """The official networks: 224 px, style 2590."""
        return cls(identities=identities)

    @classmethod
    def tiny(cls, image: int = 64, *, identities: int = 0) -> Sizes:
        """Under two million parameters; renders and trains on a CPU."""
        return cls(
            image=image,
            appearance_stem=8,
            appearance_blocks=(1, 1, 2, 1),
            appearance_groups=4,
            map=64,
            identities=identities,
            motion_stem=16,
            heatmaps=16,
            feature=128,
            audio_widths=(8, 16, 32, 64),
            audio_blocks=(1, 1, 1, 1),
            audio_attention=32,
            generator=(64, 64, 64, 48, 32, 24),
            lip=64,
        )

    @property
    def appearance(self) -> int:
        """Length of the appearance code: 2048 officially."""
        return 32 * self.appearance_stem

    @property
    def style(self) -> int:
        """Length of the style: 2590 officially."""
        return self.appearance + self.lip + self.expression + self.eye + self.pose

    @property
    def map_side(self) -> int:
        return self.image // 32

    def to_json(self) -> dict[str, object]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_json(cls, data: object) -> Sizes:
        """Raises Rejected("sizes_invalid") on unknown, missing or badly typed entries."""
        if not isinstance(data, Mapping):
            raise Rejected("sizes_invalid", f"sizes must be an object, not {type(data).__name__}")
        defaults = {f.name: f.default for f in dataclasses.fields(cls)}
        odd = set(defaults) ^ set(data)
        if odd:
            raise Rejected("sizes_invalid", f"unknown or missing sizes: {', '.join(sorted(map(str, odd)))}")
        values: dict[str, Any] = {name: _typed(name, data[name], default) for name, default in defaults.items()}
        return cls(**values)


def _typed(name: str, value: object, default: object) -> object:
    if isinstance(default, tuple):
        if isinstance(value, list) and all(_positive(item) for item in value):
            return tuple(value)
    elif isinstance(default, float):
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1:
            return float(value)
    elif _positive(value) or (name == "identities" and value == 0 and not isinstance(value, bool)):
        return value
    raise Rejected("sizes_invalid", f"{name}: {value!r} is not a size")


def _positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
