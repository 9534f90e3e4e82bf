"""What HDR pictures say of the light they were made for: read from decoded frames, told to encoders (SMPTE ST 2086,
CTA-861.3). Metadata that changes from frame to frame (HDR10+, Dolby Vision) is not carried: a new face changes it."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Any, Final, cast

from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

from farm.domain.media import Light
from farm.media.turn import NAMED_SIDE_DATA

CHROMA: Final = 50_000
LUMINANCE: Final = 10_000
"""Steps to one in H.264 and H.265: chromaticities, and candelas a square metre."""


def of_frame(frame: VideoFrame, codec: str) -> Light | None:
    """AVMasteringDisplayMetadata and AVContentLightMetadata of a frame; None where it has neither."""
    if codec in NAMED_SIDE_DATA:
        return None
    try:
        sides = cast(Any, frame.side_data)
        display, content = sides.get(Type.MASTERING_DISPLAY_METADATA), sides.get(Type.CONTENT_LIGHT_LEVEL)
    except ValueError:  # a kind of side data that PyAV has no name for
        return None
    found = Light()
    if display is not None and len(bytes(display)) >= 88:
        *numbers, has_primaries, has_luminance = struct.unpack("=22i", bytes(display)[:88])
        values = tuple(Fraction(n, d) if d else Fraction(0) for n, d in zip(numbers[::2], numbers[1::2], strict=True))
        found = Light(
            primaries=values[:6] if has_primaries else (),
            white=values[6:8] if has_primaries else (),
            luminance=values[8:10] if has_luminance else (),
        )
    if content is not None and len(bytes(content)) >= 8:
        most, average = struct.unpack("=2I", bytes(content)[:8])
        found = Light(found.primaries, found.white, found.luminance, most, average)
    return None if found == Light() else found


def x26x(light: Light | None, display: str, content: str) -> str:
    """The settings of x264 and x265, whose names differ, each behind a colon."""
    if light is None:
        return ""
    out = ""
    if light.primaries and light.luminance:
        red, green, blue, white = (_pair(values, CHROMA) for values in _points(light))
        least, most = (round(value * LUMINANCE) for value in light.luminance)
        out += f":{display}=G({green})B({blue})R({red})WP({white})L({most},{least})"
    if light.max_content or light.max_average:
        out += f":{content}={light.max_content},{light.max_average}"
    return out


def svt(light: Light | None) -> str:
    """The settings of SVT-AV1, which counts in ones."""
    if light is None:
        return ""
    out = ""
    if light.primaries and light.luminance:
        red, green, blue, white = (",".join(f"{float(value):.5f}" for value in values) for values in _points(light))
        least, most = (float(value) for value in light.luminance)
        out += f":mastering-display=G({green})B({blue})R({red})WP({white})L({most:.4f},{least:.4f})"
    if light.max_content or light.max_average:
        out += f":content-light={light.max_content},{light.max_average}"
    return out


def _points(light: Light) -> tuple[tuple[Fraction, ...], ...]:
    return (*(light.primaries[k : k + 2] for k in (0, 2, 4)), light.white)


def _pair(values: tuple[Fraction, ...], steps: int) -> str:
    return ",".join(str(round(value * steps)) for value in values)
