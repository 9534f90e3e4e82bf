"""Names of colour tags (ffmpeg's, ITU-T H.273 numbers) and which of the three matrices they mean."""

from __future__ import annotations

from typing import Final

SPACES: Final = {
    "gbr": 0, "bt709": 1, "unknown": 2, "fcc": 4, "bt470bg": 5, "smpte170m": 6, "smpte240m": 7, "ycgco": 8,
    "bt2020nc": 9, "bt2020c": 10,
}  # fmt: skip
PRIMARIES: Final = {
    "bt709": 1, "unknown": 2, "bt470m": 4, "bt470bg": 5, "smpte170m": 6, "smpte240m": 7, "film": 8, "bt2020": 9,
    "smpte428": 10, "smpte431": 11, "smpte432": 12, "jedec-p22": 22,
}  # fmt: skip
TRANSFERS: Final = {
    "bt709": 1, "unknown": 2, "gamma22": 4, "gamma28": 5, "smpte170m": 6, "smpte240m": 7, "linear": 8, "log100": 9,
    "log316": 10, "iec61966-2-4": 11, "bt1361e": 12, "iec61966-2-1": 13, "bt2020-10": 14, "bt2020-12": 15,
    "smpte2084": 16, "smpte428": 17, "arib-std-b67": 18,
}  # fmt: skip
MATRIX_SPACES: Final = {"bt709": 1, "bt601": 6, "bt2020": 9}

# SMPTE 240M differs from BT.709 in the third decimal, FCC from BT.601 too; constant luminance BT.2020 is not in use.
_MATRIX: Final = {1: "bt709", 7: "bt709", 4: "bt601", 5: "bt601", 6: "bt601", 9: "bt2020", 10: "bt2020"}


def name(names: dict[str, int], code: int) -> str:
    """The name of a code; "unknown" for the unspecified and the unheard of."""
    return next((key for key, value in names.items() if value == code), "unknown")


def matrix(space: int, width: int, height: int) -> str:
    """The matrix a tag means; without one, what players take by the size of the coded picture."""
    return _MATRIX.get(space) or ("bt709" if width >= 1280 or height > 576 else "bt601")


def spaces_of(matrix_name: str) -> frozenset[int]:
    """The tags that mean this matrix."""
    return frozenset(space for space, its in _MATRIX.items() if its == matrix_name)
