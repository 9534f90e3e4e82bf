"""What a tenant may have at once: rates of requests, quotas, and what of them is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime

from farm.errors import Problem, Rejected


@dataclass(frozen=True)
class Rate:
    """Requests a second on average, and how many may come at once."""

    per_s: float
    burst: int


@dataclass(frozen=True)
class Quotas:
    """None: no limit. jobs_open: jobs that have not ended. frames_month: frames of jobs that ended in this calendar
    month (UTC) and of planned ones that have not ended. storage_bytes: ready assets, each file once, and outputs."""

    jobs_open: int | None = None
    frames_month: int | None = None
    storage_bytes: int | None = None


@dataclass(frozen=True)
class Usage:
    """As Quotas counts; `frames_open` is the part of frames_month that has not ended, `month` when the month began."""

    jobs_open: int
    frames_month: int
    frames_open: int
    storage_bytes: int
    month: datetime


_WORDS: Mapping[str, str] = {
    "jobs_open": "jobs that have not ended",
    "frames_month": "frames this month",
    "storage_bytes": "bytes stored",
}


def check(quotas: Quotas, usage: Usage, *, jobs: int = 0, stored_bytes: int = 0) -> None:
    """Refuse what would go over a quota: Rejected("quota_exceeded"), which names each quota and its use.

    New jobs are refused too where the month's frames or the storage are used up: how much they will need shows later.
    """
    asked = {"jobs_open": jobs, "frames_month": 1 if jobs else 0, "storage_bytes": stored_bytes or (1 if jobs else 0)}
    problems: list[Problem] = []
    for field in fields(Quotas):
        limit, used = getattr(quotas, field.name), getattr(usage, field.name)
        if limit is not None and asked[field.name] and used + asked[field.name] > limit:
            more = asked[field.name] if field.name == "jobs_open" or stored_bytes else 0
            wanted = f", and {more} more are asked for" if more else ""
            detail = f"quota {field.name}: {used} of {limit} {_WORDS[field.name]} are used{wanted}"
            problems.append(Problem(f"quota_{field.name}", detail))
    if problems:
        raise Rejected("quota_exceeded", "; ".join(problem.detail for problem in problems), problems=tuple(problems))
