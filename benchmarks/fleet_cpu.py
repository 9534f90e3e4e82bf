"""Where the processor's time goes while a fleet is at work: /proc, by process."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path


def cpu_s(pids: Iterable[int]) -> dict[int, float]:
    """Seconds that each process has computed so far, of all its threads; those that are gone are left out."""
    found: dict[int, float] = {}
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        found[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


def children(pid: int) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1]) == pid:
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def spent_s(before: Mapping[int, float], after: Mapping[int, float], pids: Iterable[int]) -> float:
    return sum(after[pid] - before.get(pid, 0.0) for pid in pids if pid in after)
