"""A preparation from end to end: list, make shards (here, in processes, or on a Ray cluster), finish."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any

from farm.errors import Rejected
from trainer.prepare.clip import GROUPS
from trainer.prepare.setting import PrepareSetting
from trainer.prepare.shards import Job, done_part, finish, jobs_of, make_shard, store_of
from trainer.prepare.source import Source

Maker = Callable[[list[Job]], Iterable[dict[str, Any]]]
"""Makes the shards of jobs, in any order, and yields their parts."""


def check(setting: PrepareSetting) -> None:
    """Raises Rejected("bad_setting") that names all that is wrong."""
    wrong = [f"{name} must be {what}" for name, ok, what in _rules(setting) if not ok]
    if wrong:
        raise Rejected("bad_setting", "; ".join(wrong))


def _rules(setting: PrepareSetting) -> list[tuple[str, bool, str]]:
    return [
        ("size", 32 <= setting.size <= 1024 and setting.size % 2 == 0, "even, from 32 to 1024"),
        ("frames", 2 <= setting.frames <= 10_000, "from 2 to 10000"),
        ("loose", 1 <= setting.loose <= 1000, "from 1 to 1000"),
        ("most", setting.most >= 1, "at least 1"),
        ("min_face", setting.min_face >= 1, "at least 1"),
        ("held_out", 0 <= setting.held_out < 1, "a share below 1"),
        ("files_a_shard", 1 <= setting.files_a_shard <= 10_000, "from 1 to 10000"),
        ("pictures", setting.pictures in ("jpeg", "raw"), "jpeg or raw"),
        ("boxes", setting.boxes in ("auto", "frame", "ignore"), "auto, frame or ignore"),
        ("priors", set(setting.priors) <= set(GROUPS), f"among {', '.join(GROUPS)}"),
    ]


def prepare(
    source: str,
    out: str,
    setting: PrepareSetting,
    priors: str = "",
    done: Callable[[int, int], None] = lambda *_: None,
    make: Maker | None = None,
) -> dict[str, Any]:
    """The report of the finished set. done: called with (files seen to, files). make: None for this process.

    Raises Rejected: bad_source, bad_setting, bad_prior.
    """
    check(setting)
    items = Source(source).items()
    jobs = jobs_of(items, source, out, setting, priors)
    store = store_of(out)
    parts: dict[int, dict[str, Any]] = {}
    seen = 0

    def add(part: dict[str, Any]) -> None:
        nonlocal seen
        parts[part["number"]] = part
        seen += len(part["files"])
        done(seen, len(items))

    rest = []
    for job in jobs:
        part = done_part(job, store)
        rest.append(job) if part is None else add(part)
    if rest:
        for part in (make or in_process)(rest):
            add(part)
    return finish(jobs, [parts[job.number] for job in jobs])


def in_process(jobs: list[Job]) -> Iterator[dict[str, Any]]:
    for job in jobs:
        yield make_shard(job)


def in_processes(workers: int) -> Maker:
    """So many processes of this machine, each with one thread."""

    def make(jobs: list[Job]) -> Iterator[dict[str, Any]]:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for future in as_completed([pool.submit(make_shard, job) for job in jobs]):
                yield future.result()

    return make
