"""How fast frames are rendered, by their size."""

from __future__ import annotations

from collections.abc import Mapping

from farm.domain.media import MediaFacts


def size_class(facts: MediaFacts) -> str:
    """Frames of about as many pixels are about as fast: the power of two that holds them ("p21" for 1920 x 1080)."""
    pixels = facts.video.width * facts.video.height if facts.video is not None else 1
    return f"p{max(pixels - 1, 1).bit_length()}"


def expected(speeds: Mapping[str, float], facts: MediaFacts) -> float | None:
    """Frames a second to expect of a size: as measured, else from the nearest size measured, going by its pixels.

    None where nothing was measured.
    """
    wanted = int(size_class(facts)[1:])
    measured = {int(name[1:]): speed for name, speed in speeds.items() if speed > 0}
    if not measured:
        return None
    nearest = min(measured, key=lambda bits: (abs(bits - wanted), bits))
    return measured[nearest] * 2.0 ** (nearest - wanted)
