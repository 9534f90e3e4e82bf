"""When a cron line fires, in a time zone with its clock changes. All times that go in and come out are UTC.

Debian cron's rules, as cronsim has them: a time of day that spring skips fires right after the gap, one that autumn
repeats fires once; lines with `*` in minutes or hours follow the clock on the wall, hour by hour.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from farm.errors import Problem

A_DAY = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Cron:
    """Five fields (minute hour day-of-month month day-of-week) and an IANA time zone."""

    line: str
    timezone: str = "UTC"

    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with it, all at once; nothing can be asked of one that has any."""
        found: list[Problem] = []
        if not _known(self.timezone):
            detail = f"no time zone {self.timezone!r}: an IANA name such as Europe/Berlin is needed"
            found.append(Problem("timezone_unknown", detail, "/timezone"))
        if len(self.line.split()) != 5:
            found.append(Problem("cron_invalid", "five fields: minute hour day-of-month month day-of-week", "/cron"))
            return tuple(found)
        try:
            first = next(CronSim(self.line, A_DAY), None)
        except CronSimError as error:
            found.append(Problem("cron_invalid", f"{self.line!r}: {str(error).lower()}", "/cron"))
            return tuple(found)
        if first is None:
            found.append(Problem("cron_never", f"{self.line!r} never fires", "/cron"))
        return tuple(found)

    def after(self, moment: datetime) -> Iterator[datetime]:
        """All fire times later than `moment`."""
        for fires in CronSim(self.line, moment.astimezone(ZoneInfo(self.timezone))):
            yield fires.astimezone(UTC)

    def next(self, moment: datetime, count: int) -> tuple[datetime, ...]:
        return tuple(islice(self.after(moment), count))

    def back(self, until: datetime, after: datetime, most: int) -> tuple[datetime, ...]:
        """The newest `most` fire times in (after, until], newest first."""
        # Found forwards, from ever further back: cronsim's way back skips other times around changes of half an hour.
        span = timedelta(days=1)
        while True:
            start = max(after, until - span)
            found = deque(takewhile(lambda fires: fires <= until, self.after(start)), maxlen=most)
            if start == after or len(found) == most:
                return tuple(reversed(found))
            span *= 4


@cache
def _known(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, LookupError):  # a path, a folder, a name of nothing
        return False
    return name not in ("", "localtime", "posixrules", "Factory")
