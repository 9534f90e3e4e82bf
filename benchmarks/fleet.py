"""How fast a fleet is handed its work: 1,200 workers and 50 tenants over ten thousand to a million waiting chunks.

    python -m benchmarks.fleet [--backlogs 10000,100000,1000000] [--seconds 20] [--rate 1000] [--seed 1]

The farm's own claim, settle, sweep and release run on a Postgres of their own that keeps its promises (fsync on); the
workers render nothing. First they ask and settle without a pause: that gives claims/s. Then they hold each lease for as
long as its frames would take on a device of their speed, time running faster so that they ask `rate` times a second
together, or at the part of what was reached that `pace` says (so that neither processors nor disk are saturated): that
gives the latencies, from wanting a chunk to having it. Every tenant gets as many new chunks as were handed out of its
own, so that none runs dry. In the end the books are audited; shares are those of all that was handed out from the first
counted moment to the last.

All of it shares the machine: where the processors' time goes in the rush is printed by process, the simulation apart.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from benchmarks.fleet_books import audited, fair_error, handed_out, most_over_cap, now
from benchmarks.fleet_celery import noops_per_s
from benchmarks.fleet_cpu import children, cpu_s, spent_s
from benchmarks.fleet_desk import (
    COUNTED,
    LEASE_S,
    PACE,
    PACE_COUNTED,
    PARTS,
    RUSH,
    RUSH_COUNTED,
    STOP,
    Desk,
    Tally,
    result,
)
from benchmarks.fleet_rows import Rows
from benchmarks.report import Table, machine, note, show
from farm.db.migrate import upgrade
from farm.db.session import Database, connect
from farm.domain.placement import RENDER_QUEUE
from farm.embedded.services import Service, start_postgres, start_valkey
from farm.flow.claim import claim
from farm.flow.release import release
from farm.flow.settle import give_back, succeed
from farm.flow.sweep import sweep

TICK_S = 2.0
PROBES = 300


@dataclass(frozen=True)
class Run:
    """One backlog. cost_ms: the median of single claims on a quiet farm. reads: rows of all tables a claim.
    cpu_us: processor time a claim in the rush, by who spent it."""

    backlog: int
    load_s: float
    cost_ms: float
    reads: float
    claims_per_s: float
    rush: Tally
    pace: Tally
    cpu_us: Mapping[str, float]
    fair_error: float
    most_over_cap: int
    breaches: list[str]


def percentile(values: Sequence[float], share: float) -> float:
    """In milliseconds."""
    return 1000 * sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    with tempfile.TemporaryDirectory() as folder, _services(Path(folder)) as (postgres, broker_url):
        runs = [_run(postgres, backlog, options) for backlog in options.backlogs]
        celery = noops_per_s(broker_url, options.noops)
    _show(runs, celery, options.seconds)


def _run(postgres: Service, backlog: int, options: argparse.Namespace) -> Run:
    url = _fresh_database(postgres.url, backlog)
    workers = [f"w{number:04d}" for number in range(options.workers)]
    with psycopg.connect(url.replace("postgresql+psycopg://", "postgresql://")) as connection:
        rows = Rows(connection, random.Random(options.seed))
        started = time.monotonic()
        rows.found(options.tenants, workers)
        while rows.chunks < backlog:
            rows.fill(min(100_000, backlog - rows.chunks))
            note(f"{backlog} waiting: {rows.chunks} written")
        connection.autocommit = True
        connection.execute("vacuum analyze")
        connection.autocommit = False
        load_s = time.monotonic() - started
        database = connect(url)
        cost_ms, reads = _probe(database, workers)
        note(f"{backlog} waiting: loaded in {load_s:.0f} s, a lone claim takes {cost_ms:.2f} ms")
        tallies, cpu_us, counted = _let_loose(url, postgres.pid, database, rows, workers, options)
    run = Run(
        backlog,
        load_s,
        cost_ms,
        reads,
        len(tallies[RUSH_COUNTED].claims) / options.seconds,
        tallies[RUSH_COUNTED],
        tallies[PACE_COUNTED],
        cpu_us,
        fair_error(database, rows.weights, rows.caps, *counted),
        most_over_cap(database),
        audited(database),
    )
    database.close()
    return run


def _probe(database: Database, workers: Sequence[str]) -> tuple[float, float]:
    """Single claims by one hand, each given back or settled in turn: median ms, and rows read by each."""
    seconds: list[float] = []
    reads: list[int] = []
    for number in range(PROBES):
        worker = workers[number % len(workers)]
        with database.transaction() as session:
            before = int(session.scalar(sa.text(_READ)) or 0)
            started = time.perf_counter()
            order = claim(session, worker, [RENDER_QUEUE], LEASE_S)
            seconds.append(time.perf_counter() - started)
            after = session.scalar(sa.text(_READ))
        if number:
            reads.append(int(after or 0) - before)
        assert order is not None
        with database.transaction() as session:
            if number % 2:
                give_back(session, order.lease)
            else:
                succeed(session, order.lease, result(order.lease))
    return 1000 * statistics.median(seconds), statistics.mean(reads)


_READ = "select sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) from pg_stat_xact_user_tables"


def _let_loose(
    url: str, postgres_pid: int, database: Database, rows: Rows, workers: Sequence[str], options: argparse.Namespace
) -> tuple[dict[int, Tally], dict[str, float], tuple[datetime, datetime]]:
    """What was counted in the rush and at the pace, processor time a claim in the rush, and from when to when shares
    are looked at."""
    context = multiprocessing.get_context("spawn")
    phase, mean_s = context.Value("i", RUSH), context.Value("d", 0.0)
    answers: Any = context.Queue()
    shares = [workers[number :: options.desks] for number in range(options.desks)]
    desks = [
        context.Process(target=_desk, args=(url, share, options, number, (phase, mean_s), answers))
        for number, share in enumerate(shares)
    ]
    for desk in desks:
        desk.start()
    for _ in desks:
        assert answers.get(timeout=120) == "ready"
    ended = threading.Event()
    helpers = [threading.Thread(target=_tick, args=(database, ended))]
    helpers.append(threading.Thread(target=_keep_level, args=(rows, database, ended)))
    for helper in helpers:
        helper.start()
    time.sleep(options.warm_up)

    refill = rows.connection.info.backend_pid
    first, since = sum(handed_out(database).values()), now(database)
    phase.value = RUSH_COUNTED
    note(f"{rows.chunks} chunks: counting {options.seconds} s of rush")
    servers = children(postgres_pid)
    watched = [os.getpid(), *servers, *(desk.pid or 0 for desk in desks)]
    before = cpu_s(watched)
    time.sleep(options.seconds)
    after = cpu_s(watched)
    phase.value = PACE
    claims = sum(handed_out(database).values()) - first
    pace = min(options.rate, options.pace * claims / options.seconds)
    # Who is fast asks more often: the rate of all is the mean of their rates.
    mean_s.value = len(workers) / pace * statistics.mean(1 / part for part in PARTS)
    time.sleep(2 * options.warm_up)
    phase.value = PACE_COUNTED
    note(f"{claims / options.seconds:.0f} claims/s; counting {options.seconds} s at a pace of {pace:.0f}")
    time.sleep(options.seconds)
    until = now(database)
    phase.value = STOP

    tallies = {number: Tally() for number in COUNTED}
    for _ in desks:
        answer = answers.get(timeout=300)
        if isinstance(answer, str):
            raise RuntimeError(answer)
        for number, tally in answer.items():
            tallies[number].add(tally)
    ended.set()
    for each in (*helpers, *desks):
        each.join()

    farm_s = tallies[RUSH_COUNTED].farm_s
    desks_s = spent_s(before, after, [desk.pid or 0 for desk in desks])
    spent = {
        "claims and settles: Python": farm_s,
        "claims and settles: Postgres": spent_s(before, after, [pid for pid in servers if pid != refill]),
        "simulated workers": desks_s - farm_s,
        "refill, ticks: Python": spent_s(before, after, [os.getpid()]),
        "refill: Postgres": spent_s(before, after, [refill]),
    }
    return tallies, {what: 1e6 * seconds / max(1, claims) for what, seconds in spent.items()}, (since, until)


def _desk(
    url: str,
    workers: Sequence[str],
    options: argparse.Namespace,
    number: int,
    shared: tuple[Any, Any],
    answers: Any,
) -> None:
    database = connect(url, pool_size=options.threads)
    try:
        database.ping()
        answers.put("ready")
        desk = Desk(database, workers, options.seed + number, *shared)
        desk.run(options.threads)
        answers.put(desk.tallies)
    except BaseException as error:
        answers.put(f"{type(error).__name__}: {error}")
    finally:
        database.close()


def _tick(database: Database, ended: threading.Event) -> None:
    """What the control worker does."""
    while not ended.wait(TICK_S):
        with database.transaction() as session:
            sweep(session)
        with database.transaction() as session:
            release(session)


def _keep_level(rows: Rows, database: Database, ended: threading.Event) -> None:
    """As many chunks of every tenant come as go."""
    before = handed_out(database)
    while not ended.wait(1.0):
        after = handed_out(database)
        rows.add({tenant: claims - before.get(tenant, 0) for tenant, claims in after.items()})
        before = after


def _show(runs: Sequence[Run], celery: float, seconds: float) -> None:
    last, first = runs[-1], runs[0]
    claims = [
        (
            run.backlog,
            run.load_s,
            run.cost_ms,
            run.reads,
            run.claims_per_s,
            len(run.pace.claims) / seconds,
            percentile(run.pace.claims, 0.5),
            percentile(run.pace.claims, 0.99),
            percentile(run.pace.settles, 0.5),
            percentile(run.pace.settles, 0.99),
            statistics.mean(run.pace.groups or [0]),
            run.fair_error,
            run.most_over_cap <= 0 and not run.breaches,
        )
        for run in runs
    ]
    for run in runs:
        for breach in run.breaches[:20]:
            note(f"{run.backlog}: {breach}")
    columns = ("waiting", "load s", "lone claim ms", "rows read", "claims/s", "pace/s", "p50 ms", "p99 ms")
    columns = (*columns, "settle p50 ms", "settle p99 ms", "asks a claim", "fair error", "audit")
    show(
        [
            Table(f"A fleet at work ({machine()})", columns, claims),
            Table(
                "Processor time in the rush, microseconds a claim",
                ("waiting", *first.cpu_us),
                [(run.backlog, *run.cpu_us.values()) for run in runs],
            ),
            Table("Beside it", ("what", "a second"), [("Celery no-op, same Valkey", celery)]),
        ],
        {
            "claims_per_s": round(min(run.claims_per_s for run in runs), 1),
            "claim_p99_ms": round(max(percentile(run.pace.claims, 0.99) for run in runs), 2),
            "settle_p99_ms": round(max(percentile(run.pace.settles, 0.99) for run in runs), 2),
            "cost_ratio_1m_10k": round(last.cost_ms / first.cost_ms, 3),
            "fair_share_error": round(max(run.fair_error for run in runs), 4),
            "audit_ok": all(run.most_over_cap <= 0 and not run.breaches for run in runs),
            "celery_noop_per_s": round(celery, 1),
        },
    )


@contextmanager
def _services(folder: Path) -> Iterator[tuple[Service, str]]:
    postgres = start_postgres(folder / "postgres", durable=True)
    try:
        valkey = start_valkey(folder / "valkey")
        try:
            yield postgres, valkey.url
        finally:
            valkey.stop()
    finally:
        postgres.stop()


def _fresh_database(server_url: str, backlog: int) -> str:
    url = sa.engine.make_url(server_url)
    name = f"fleet_{backlog}"
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(f"create database {name}"))
    fresh = url.set(database=name).render_as_string(hide_password=False)
    upgrade(fresh)
    return fresh


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backlogs", type=_numbers, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--seconds", type=float, default=20.0, help="counted at each backlog, after --warm-up")
    parser.add_argument("--warm-up", type=float, default=3.0)
    parser.add_argument("--rate", type=float, default=1000.0, help="claims a second of the steady pace, at most")
    parser.add_argument("--pace", type=float, default=0.5, help="of what the rush reached, at most")
    parser.add_argument("--workers", type=int, default=1200)
    parser.add_argument("--tenants", type=int, default=50)
    parser.add_argument("--desks", type=int, default=2, help="processes that the workers are spread over")
    parser.add_argument("--threads", type=int, default=3, help="connections of each")
    parser.add_argument("--noops", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(arguments)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main(sys.argv[1:])
