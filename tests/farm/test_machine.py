"""What a process may use of its machine, by the control groups that bound it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from farm import machine

INSTALLED = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
GROUPS = {
    "version 2, a service": ("0::/a.slice/b.service", "a.slice/b.service", "memory.max", "a.slice/b.service/cpu.max"),
    "version 2, bound further out": ("0::/a.slice/b.service", "a.slice/b.service", "../memory.max", "a.slice/cpu.max"),
    "version 2, in a container": ("0::/", ".", "memory.max", "cpu.max"),
    "version 2 beside 1": ("1:cpu:/\n0::/b", "unified/b", "memory.max", "unified/b/cpu.max"),
}


def tree(at: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_text(f"{text}\n")
    return at


@pytest.mark.parametrize(("told", "folder", "memory", "cpu"), GROUPS.values(), ids=GROUPS.keys())
def test_the_limits_of_version_2(tmp_path: Path, told: str, folder: str, memory: str, cpu: str) -> None:
    proc = tree(tmp_path / "proc", {"self/cgroup": told})
    (tmp_path / "groups" / folder).mkdir(parents=True)
    limits = {os.path.normpath(f"{folder}/{memory}"): str(256 << 20), cpu: "50000 100000"}
    groups = tree(tmp_path / "groups", limits)
    assert machine.memory_bytes(groups, proc) == 256 << 20
    assert machine.cores(groups, proc) == 1


@pytest.mark.parametrize("path", ["/docker/4f2a", "/"])
def test_the_limits_of_version_1_where_a_container_sees_its_own_group_as_the_root(tmp_path: Path, path: str) -> None:
    proc = tree(tmp_path / "proc", {"self/cgroup": f"4:memory:{path}\n3:cpu,cpuacct:{path}"})
    limits = {"memory/memory.limit_in_bytes": str(300 << 20), "cpu,cpuacct/cpu.cfs_period_us": "100000"}
    groups = tree(tmp_path / "groups", {**limits, "cpu,cpuacct/cpu.cfs_quota_us": "100000"})
    assert machine.memory_bytes(groups, proc) == 300 << 20
    assert machine.cores(groups, proc) == 1


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"memory.max": "max", "cpu.max": "max 100000"},
        {"memory.max": str(INSTALLED * 2), "cpu.max": "100000000 100000"},
        {"memory/memory.limit_in_bytes": "9223372036854771712", "cpu/cpu.cfs_quota_us": "-1"},
    ],
)
def test_without_a_limit_it_is_the_machine(tmp_path: Path, limits: dict[str, str]) -> None:
    proc = tree(tmp_path / "proc", {"self/cgroup": "4:memory:/\n3:cpu:/\n0::/"})
    groups = tree(tmp_path / "groups", {"here": "", **limits})
    assert machine.memory_bytes(groups, proc) == INSTALLED
    assert machine.cores(groups, proc) == len(os.sched_getaffinity(0))


def test_where_the_system_says_nothing(tmp_path: Path) -> None:
    assert machine.memory_bytes(tmp_path, tmp_path) == INSTALLED
    assert machine.cores(tmp_path, tmp_path) == len(os.sched_getaffinity(0))
    assert machine.memory_kills(tmp_path) == 0
    assert machine.memory_kills(tree(tmp_path, {"vmstat": "nr_free_pages 1\noom_kill 7\nallocstall 0"})) == 7
