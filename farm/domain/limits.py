"""What users may hand in; every refusal names the setting that refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class MediaLimits:
    """How much a file may hold and cost, whatever its headers claim.

    max_bytes: of the file. max_duration_s, max_pixels (of a picture), max_frames: of what is in it.
    decode_memory_bytes: that reading it may take. decode_cpu_s: CPU seconds that reading it may take without getting
    one frame further.
    """

    max_bytes: int = 20 * 2**30
    max_duration_s: float = 4 * 3600 + 60
    max_pixels: int = 4096 * 2304
    max_frames: int = 2_000_000
    decode_memory_bytes: int = 4 * 2**30
    decode_cpu_s: float = 120.0


@dataclass(frozen=True)
class InputLimits(MediaLimits):
    """The values of `farm.settings.InputSettings`, for code that reads no settings.

    schemes: of uris ("https", "s3", "file"). file_roots: folders that file:// uris may name. private_hosts: hosts that
    may resolve to private or loopback addresses. s3_buckets: buckets that s3:// uris and destinations may
    name; the farm's own is no exception.
    """

    schemes: tuple[str, ...] = ("https", "s3")
    file_roots: tuple[Path, ...] = ()
    private_hosts: tuple[str, ...] = ()
    s3_buckets: tuple[str, ...] = ()
    fetch_timeout_s: float = 3600


UNSET = MediaLimits()
"""The limits of a farm whose settings say nothing."""


def over(what: str, setting: str, limit: float) -> str:
    """The detail of a refusal: what there is, and which setting allows how much."""
    return f"{what}: this farm takes at most {limit:.15g} (DUBFARM_INPUT_{setting.upper()})"
