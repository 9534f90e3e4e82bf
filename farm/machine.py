"""What this process may use of its machine: a container's share of it, where it runs in one (Linux control groups, both
versions; the kernel's Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_GROUPS: Final = Path("/sys/fs/cgroup")
_PROC: Final = Path("/proc")
_UNLIMITED: Final = 1 << 60
"""Version 1 says that there is no limit with a number near 2^63."""


def memory_bytes(groups: Path = _GROUPS, proc: Path = _PROC) -> int:
    """The machine's memory, or the smallest limit of the groups that this process is in."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [
        int(text)
        for folder in _folders("memory", groups, proc)
        for name in ("memory.max", "memory.limit_in_bytes")
        if (text := _read(folder / name)).isdigit() and int(text) < _UNLIMITED
    ]
    return min([installed, *limits])


def cores(groups: Path = _GROUPS, proc: Path = _PROC) -> int:
    """Processors that this process may keep busy: those it may run on, or fewer by its groups' quota of time."""
    quotas = []
    for folder in _folders("cpu", groups, proc):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if not period:
            quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit():  # neither "max" nor -1
            quotas.append(math.ceil(int(quota) / int(period)))
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([usable, *quotas]))


def memory_kills(proc: Path = _PROC) -> int:
    """Processes that the kernel has killed for want of memory since it started, in whatever group; 0 where it does not
    say. It tells such a SIGKILL from a person's."""
    for line in _read(proc / "vmstat").splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill":
            return int(value)
    return 0


def _folders(controller: str, groups: Path, proc: Path) -> Iterator[Path]:
    """The group folders that bound this process, innermost first. In a container that is not told its own path on the
    host, what is mounted is its group itself."""
    for line in _read(proc / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mounts = (groups / controllers, groups / controller) if controllers else (groups, groups / "unified")
        inner = Path(path.lstrip("/"))
        for mount in mounts:
            for folder in (inner, *inner.parents):
                yield mount / folder


def _read(path: Path) -> str:
    with suppress(OSError):
        return path.read_text().strip()
    return ""
