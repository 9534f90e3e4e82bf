"""Cron lines in time zones, both clock changes, and lines that say nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from farm.domain.cron import Cron

BERLIN = "Europe/Berlin"
SPRING = datetime(2026, 3, 28, 12, tzinfo=UTC)  # the clock goes from 2:00 to 3:00 on the 29th
AUTUMN = datetime(2026, 10, 24, 12, tzinfo=UTC)  # and from 3:00 to 2:00 on October 25th


def utc(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-{text}:00+00:00")


@pytest.mark.parametrize(
    ("line", "timezone", "after", "fires"),
    [
        ("0 3 * * 0", "UTC", SPRING, ["03-29T03:00", "04-05T03:00"]),
        # A time of day keeps to the wall's clock: an hour earlier in UTC from the change on.
        ("0 12 * * *", BERLIN, datetime(2026, 3, 27, 12, tzinfo=UTC), ["03-28T11:00", "03-29T10:00", "03-30T10:00"]),
        # 2:30 does not exist on the 29th: right after the gap.
        ("30 2 * * *", BERLIN, SPRING, ["03-29T01:00", "03-30T00:30"]),
        # Every hour goes on hour by hour.
        ("30 * * * *", BERLIN, datetime(2026, 3, 29, 0, tzinfo=UTC), ["03-29T00:30", "03-29T01:30", "03-29T02:30"]),
        # 2:30 comes twice on October 25th: once is enough.
        ("30 2 * * *", BERLIN, AUTUMN, ["10-25T00:30", "10-26T01:30"]),
        ("30 * * * *", BERLIN, datetime(2026, 10, 24, 23, tzinfo=UTC), ["10-24T23:30", "10-25T00:30", "10-25T01:30"]),
        # The other hemisphere, and a zone of half hours.
        ("30 2 * * *", "Australia/Sydney", datetime(2026, 10, 3, 0, tzinfo=UTC), ["10-03T16:00", "10-04T15:30"]),
        ("0 9 * * 1-5", "Asia/Kolkata", datetime(2026, 11, 20, 12, tzinfo=UTC), ["11-23T03:30", "11-24T03:30"]),
        ("0 0 L * *", "UTC", datetime(2026, 2, 1, tzinfo=UTC), ["02-28T00:00", "03-31T00:00"]),
    ],
)
def test_next(line: str, timezone: str, after: datetime, fires: list[str]) -> None:
    assert Cron(line, timezone).next(after, len(fires)) == tuple(utc(at) for at in fires)


@pytest.mark.parametrize("line", ["*/20 * * * *", "30 2 * * *", "30 * * * *", "0 3 1 * *"])
@pytest.mark.parametrize("timezone", ["UTC", BERLIN, "Australia/Lord_Howe"])
def test_back_is_next_backwards(line: str, timezone: str) -> None:
    """Over both changes, including moments that are themselves fire times."""
    cron = Cron(line, timezone)
    since, until = datetime(2026, 3, 27, tzinfo=UTC), datetime(2026, 4, 7, tzinfo=UTC)
    forth = [at for at in cron.next(since, 1000) if at <= until]
    assert forth
    assert list(reversed(cron.back(until, since, 1000))) == forth
    assert cron.back(forth[-1], since, 1) == (forth[-1],)
    assert cron.back(forth[-1], forth[-1], 5) == ()
    assert cron.back(until, since, 2) == tuple(reversed(forth[-2:]))


@pytest.mark.parametrize(
    ("cron", "codes"),
    [
        (Cron("0 3 * * 0", BERLIN), []),
        (Cron("0 3 * *"), ["cron_invalid"]),
        (Cron("0 0 3 * * *"), ["cron_invalid"]),
        (Cron("@daily"), ["cron_invalid"]),
        (Cron("61 * * * *"), ["cron_invalid"]),
        (Cron("0 0 31 2 *"), ["cron_invalid"]),
        (Cron("0 0 * * 1#6"), ["cron_invalid"]),
        (Cron("0 3 * * *", "Mars/Olympus"), ["timezone_unknown"]),
        (Cron("0 3 * * *", "../../etc/passwd"), ["timezone_unknown"]),
        (Cron("0 3 * * *", "Europe"), ["timezone_unknown"]),
        (Cron("0 3 * * *", "localtime"), ["timezone_unknown"]),
        (Cron("nonsense", ""), ["timezone_unknown", "cron_invalid"]),
    ],
    ids=str,
)
def test_problems(cron: Cron, codes: list[str]) -> None:
    assert [problem.code for problem in cron.problems()] == codes
