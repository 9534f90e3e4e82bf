"""Keyset cursors: where the last page ended, opaque to clients."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import TypeVar

from farm.domain.views import Page
from farm.errors import Rejected

T = TypeVar("T")
MAX_PAGE = 200


def encode(kind: str, key: str | int) -> str:
    return base64.urlsafe_b64encode(json.dumps([kind, key]).encode()).decode().rstrip("=")


def decode(kind: str, cursor: str) -> str | int:
    """The key that `encode(kind, key)` hid. Rejected("cursor_invalid") for anything else."""
    try:
        found, key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if found == kind and isinstance(key, str | int) and not isinstance(key, bool):
            return key
    except (ValueError, TypeError, binascii.Error):
        pass
    raise Rejected("cursor_invalid", "this cursor does not belong to this list")


def decode_number(kind: str, cursor: str) -> int:
    """As `decode`, for lists in the order of a number that fits a BIGINT."""
    key = decode(kind, cursor)
    if isinstance(key, int) and abs(key) < 1 << 63:
        return key
    raise Rejected("cursor_invalid", "this cursor does not belong to this list")


def limit(page_size: int) -> int:
    """Rows to read for one page: one more than shown tells whether there is a next page."""
    return max(1, min(page_size, MAX_PAGE)) + 1


def page(items: Sequence[T], page_size: int, kind: str, key: Callable[[T], str | int]) -> Page[T]:
    """The page out of `limit(page_size)` rows read."""
    shown = tuple(items[: limit(page_size) - 1])
    return Page(shown, encode(kind, key(shown[-1])) if len(items) > len(shown) else None)
