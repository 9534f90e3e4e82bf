"""Ids: a prefix that says what it names, and a time-ordered UUID (RFC 9562, version 7)."""

from __future__ import annotations

import os
import time
import uuid
from typing import Final, Literal

Prefix = Literal["bat", "job", "chk", "att", "ast", "run", "ver", "whe", "ten", "key", "req", "wrk", "evt", "whd"]
PREFIXES: Final[tuple[str, ...]] = (
    "bat",
    "job",
    "chk",
    "att",
    "ast",
    "run",
    "ver",
    "whe",
    "ten",
    "key",
    "req",
    "wrk",
    "evt",
    "whd",
)


def new_id(prefix: Prefix) -> str:
    """A fresh id such as `job_0192f3…` (32 hex digits, sorted by creation time to the millisecond)."""
    millis = time.time_ns() // 1_000_000
    value = (millis & (1 << 48) - 1) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    return f"{prefix}_{uuid.UUID(int=value).hex}"
