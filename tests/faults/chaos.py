"""Chaos: a farm under a seeded random schedule of faults; every job must come out as if nothing had happened.

`python -m tests.faults.chaos --seed 1 --minutes 15` (make chaos). Batches of `--jobs` jobs follow each other as long
as the faults go on. Prints a line a fault, and at the end the outcome; exits 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}

from farm.client import ApiError, Unreachable
from farm.domain.chunk import Failure, Lease, Reason, Work
from farm.domain.span import Span
from farm.errors import LeaseLost, Transient
from farm.flow import settle
from tests.faults import field as fields
from tests.faults.ear import Ear
from tests.faults.field import LEASE_S, Field, child_of
from tests.faults.odd_workers import MOVED_CLOCK, ROTTEN, mount_small_disk
from tests.receiver import Receiver, Say
from tests.small_farm import output, segment

SHORTEST_S: Final = 1.0
LONGEST_S: Final = 12.0
"""Between two faults."""


@dataclass
class Chaos:
    hurt: Field
    ear: Ear
    dice: random.Random
    until: float
    visitors: ExitStack
    """Workers that come for a while: gone at the end in any case."""
    started: float = field(default_factory=time.monotonic)
    batches: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    repairs: list[tuple[float, str, Callable[[], None]]] = field(default_factory=list)

    def say(self, line: str) -> None:
        print(f"{time.monotonic() - self.started:7.1f} s  {line}", flush=True)

    def run(self, jobs: int) -> None:
        self.submit(jobs)
        while (now := time.monotonic()) < self.until:
            self.repair(now)
            name, fault = self.dice.choice(FAULTS)
            # A fault that meets another one's ruins is chaos too: what cannot be done now is left.
            with suppress(ProcessLookupError, Transient, ApiError, Unreachable):
                told = fault(self)
                self.faults[name] += 1
                self.say(f"{name} {told or ''}".rstrip())
            next_at = time.monotonic() + self.dice.uniform(SHORTEST_S, LONGEST_S)
            while time.monotonic() < min(next_at, self.until):
                self.repair(time.monotonic())
                time.sleep(0.2)
            with suppress(ApiError, Unreachable):
                if self.hurt.client.batch(self.batches[-1]).status == "completed":
                    self.submit(jobs)
        self.repair(float("inf"))

    def submit(self, jobs: int) -> None:
        names = [f"{'dub' if number % 3 else 'still'}-{number}" for number in range(jobs)]
        key = f"chaos-{len(self.batches)}"
        self.batches.append(self.hurt.submit(*names, idempotency_key=key))
        self.say(f"batch {len(self.batches)} of {jobs} jobs submitted")

    def later(self, seconds: float, name: str, repair: Callable[[], None]) -> None:
        self.repairs.append((time.monotonic() + seconds, name, repair))

    def repair(self, now: float) -> None:
        due = [entry for entry in self.repairs if entry[0] <= now]
        self.repairs = [entry for entry in self.repairs if entry[0] > now]
        for at, name, repair in due:
            try:
                repair()
                self.say(name)
            except ProcessLookupError:
                continue
            except (ApiError, Unreachable, Transient):
                self.repairs.append((max(at, time.monotonic()) + 1.0, name, repair))

    def some_worker(self) -> tuple[str, int]:
        names = [(name, pid) for name, pid in self.hurt.farm.processes().items() if name.startswith("worker")]
        if not names:
            raise ProcessLookupError
        return self.dice.choice(names)


def kill(name: str, number: int = signal.SIGKILL) -> Callable[[Chaos], str]:
    def fault(chaos: Chaos) -> str:
        pid = chaos.hurt.farm.processes().get(name)
        if pid is None:
            raise ProcessLookupError
        os.kill(pid, number)
        return str(pid)

    return fault


def signal_worker(number: int) -> Callable[[Chaos], str]:
    def fault(chaos: Chaos) -> str:
        name, pid = chaos.some_worker()
        os.kill(pid, number)
        return name

    return fault


def kill_engine(chaos: Chaos) -> str:
    name, pid = chaos.some_worker()
    try:
        os.kill(child_of(pid), signal.SIGKILL)
    except AssertionError:
        raise ProcessLookupError from None
    return name


def sleep_worker(chaos: Chaos) -> str:
    name, pid = chaos.some_worker()
    seconds = chaos.dice.uniform(0.3, 2.0) * LEASE_S
    os.kill(pid, signal.SIGSTOP)
    chaos.later(seconds, f"{name} wakes", lambda: os.kill(pid, signal.SIGCONT))
    return f"{name} for {seconds:.1f} s"


def stop_server(name: str) -> Callable[[Chaos], str]:
    def fault(chaos: Chaos) -> str:
        pid = chaos.hurt.farm.processes().get(name)
        if pid is None:
            raise ProcessLookupError
        seconds = chaos.dice.uniform(1.0, 6.0)
        os.kill(pid, signal.SIGSTOP)
        chaos.later(seconds, f"{name} wakes", lambda: os.kill(pid, signal.SIGCONT))
        return f"for {seconds:.1f} s"

    return fault


def storm(chaos: Chaos) -> str:
    seconds = chaos.dice.uniform(5.0, 20.0)
    weather = chaos.hurt.storm.weather
    weather.share = 0.2

    def calm() -> None:
        weather.share = 0.0

    chaos.later(seconds, "the store is well", calm)
    return f"for {seconds:.1f} s"


def store_down(chaos: Chaos) -> str:
    seconds = chaos.dice.uniform(2.0, 10.0)
    weather = chaos.hurt.storm.weather
    weather.down = True

    def up() -> None:
        weather.down = False

    chaos.later(seconds, "the store is back", up)
    return f"for {seconds:.1f} s"


def deaf(say: Say) -> Callable[[Chaos], str]:
    def fault(chaos: Chaos) -> str:
        seconds = chaos.dice.uniform(5.0, 20.0)
        chaos.ear.answer(say)
        chaos.later(seconds, "webhooks are heard", lambda: chaos.ear.answer(Say()))
        return f"for {seconds:.1f} s"

    return fault


def pause(chaos: Chaos) -> str:
    batch = chaos.batches[-1]
    chaos.hurt.client.pause_batch(batch)

    def resume() -> None:
        chaos.hurt.client.resume_batch(batch)

    chaos.later(chaos.dice.uniform(1.0, 5.0), "the batch goes on", resume)
    return ""


def bad_worker(chaos: Chaos) -> str:
    name, seconds, stack = f"rotten-{sum(chaos.faults.values())}", chaos.dice.uniform(10.0, 40.0), ExitStack()
    chaos.visitors.callback(stack.close)
    stack.enter_context(chaos.hurt.worker(name, program=("-c", ROTTEN)))
    chaos.later(seconds, f"{name} goes", stack.close)
    return f"{name} for {seconds:.1f} s"


def full_disk(chaos: Chaos) -> str:
    """A worker on a disk that has room for the model and hardly more."""
    name, seconds, stack = f"cramped-{sum(chaos.faults.values())}", chaos.dice.uniform(15.0, 40.0), ExitStack()
    chaos.visitors.callback(stack.close)
    if not mount_small_disk(stack, chaos.hurt.folder / "cache" / name, 6500 << 10):
        raise ProcessLookupError
    stack.enter_context(chaos.hurt.worker(name))
    chaos.later(seconds, f"{name} goes", stack.close)
    return f"{name} for {seconds:.1f} s"


def late_settles(chaos: Chaos) -> str:
    """Every kind of late word about up to twenty attempts that have ended."""
    rows = chaos.hurt.sql(
        "select c.id, c.job_id, j.batch_id, c.tenant_id, c.work, c.start, c.stop, a.number, a.token from attempts a \
         join chunks c on c.id = a.chunk_id join jobs j on j.id = c.job_id where a.outcome <> 'running' \
         order by a.finished_at desc limit 20"
    )
    for chunk, job, batch, tenant, work, start, stop, number, token in rows:
        lease = Lease(chunk, job, batch, tenant, Work(work), Span(start, stop), number, token, 0.0, LEASE_S)
        with suppress(LeaseLost), chaos.hurt.database.transaction() as session:
            settle.fail(session, lease, Failure(Reason.BUG, "late", "late"), 0.5)
            raise AssertionError(f"a late failure of {chunk} was taken")
        if lease.work is not Work.PLAN:
            result = segment(lease) if lease.work is Work.RENDER else output()
            with suppress(LeaseLost), chaos.hurt.database.transaction() as session:
                settle.succeed(session, lease, result)
                raise AssertionError(f"a late success of {chunk} was taken")
    return f"for {len(rows)} attempts"


FAULTS: Final[tuple[tuple[str, Callable[[Chaos], str]], ...]] = (
    ("kill api", kill("api")),
    ("kill control and beat", kill("control")),
    ("kill valkey", kill("valkey")),
    ("restart postgres", kill("postgres", signal.SIGINT)),
    ("kill postgres", kill("postgres")),
    ("kill worker", signal_worker(signal.SIGKILL)),
    ("stop worker softly", signal_worker(signal.SIGTERM)),
    ("kill engine", kill_engine),
    ("worker sleeps", sleep_worker),
    ("worker sleeps", sleep_worker),
    ("control sleeps", stop_server("control")),
    ("valkey sleeps", stop_server("valkey")),
    ("store fails 1 call in 5", storm),
    ("store is down", store_down),
    ("webhooks are answered 503", deaf(Say(503))),
    ("webhooks are never answered", deaf(Say(stall=True))),
    ("pause", pause),
    ("late settles", late_settles),
    ("a bad worker comes", bad_worker),
    ("a worker with a full disk comes", full_disk),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--jobs", type=int, default=20, help="of a batch")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="dubfarm-chaos-", dir="/var/tmp"))
    folder.chmod(0o755)
    with ExitStack() as stack:
        hurt = stack.enter_context(fields.field(folder))
        stack.enter_context(hurt.worker("adrift", program=("-c", MOVED_CLOCK)))
        ear = Ear(hurt, stack.enter_context(Receiver().running()))
        until = time.monotonic() + 60 * arguments.minutes
        chaos = Chaos(hurt, ear, random.Random(arguments.seed), until, stack.enter_context(ExitStack()))
        verdict = "all as without faults"
        try:
            chaos.run(arguments.jobs)
            chaos.say("no more faults: waiting for what is left")
            for batch in chaos.batches:
                hurt.finished(batch)
            verdict += f", told in {ear.heard_all(chaos.batches)} webhook messages"
        except Exception as error:
            verdict = f"BROKEN: {type(error).__name__}: {str(error)[:20000]}"
        jobs = len(chaos.batches) * arguments.jobs
        reasons = Counter(reason for batch in chaos.batches for reason in hurt.reasons(batch))
        looks = f"{hurt.auditor.looks} audits, {len(hurt.auditor.violations)} violations"
        print(f"faults: {dict(sorted(chaos.faults.items()))}")
        print(f"store calls failed: {hurt.storm.weather.failed}; attempts lost by reason: {dict(reasons)}")
        print(
            f"seed {arguments.seed}: {arguments.minutes:g} min, {sum(chaos.faults.values())} faults, "
            f"{len(chaos.batches)} batches of {jobs} jobs, {looks} "
            f"({hurt.auditor.misses} more while the database was away): {verdict}",
            flush=True,
        )
    sys.exit(verdict.startswith("BROKEN"))


if __name__ == "__main__":
    main()
