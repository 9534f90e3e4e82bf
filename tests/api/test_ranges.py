"""Ranges of stored bytes (RFC 9110, 14.1)."""

from __future__ import annotations

import pytest

from api.errors import ApiProblem
from api.ranges import disposition, parse_range


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-0", (0, 1)),
        ("bytes=0-", (0, 100)),
        ("bytes=10-19", (10, 20)),
        ("bytes=90-1000", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-1000", (0, 100)),
        # Not understood: answered whole.
        ("bytes=0-1,5-6", None),
        ("bytes=5-4", None),
        ("lines=0-1", None),
        ("bytes=-", None),
    ],
)
def test_ranges(header: str | None, expected: tuple[int, int] | None):
    assert parse_range(header, 100) == expected


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_outside(header: str):
    with pytest.raises(ApiProblem) as caught:
        parse_range(header, 100)
    assert caught.value.status_code == 416
    assert caught.value.headers == {"Content-Range": "bytes */100"}


def test_names_cannot_break_out_of_the_header():
    assert disposition('a"b\r\nX: y') == "attachment; filename=\"a_b_X_y\"; filename*=UTF-8''a%22b%0D%0AX%3A%20y"
    assert disposition("Übung.mp4") == "attachment; filename=\"bung.mp4\"; filename*=UTF-8''%C3%9Cbung.mp4"
