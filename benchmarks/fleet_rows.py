"""A farm full of planned jobs, written by COPY: what benchmarks.fleet lets its workers loose on."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import LiteralString

import psycopg

from farm.domain.document import to_document
from farm.domain.factor import Media
from farm.domain.ids import new_id
from farm.domain.job import JobSpec, Kind
from farm.domain.media import AudioFacts, MediaFacts
from farm.domain.order import Blob, PlanRecord
from farm.domain.placement import RENDER_QUEUE

CHUNKS_A_JOB = 20
JOBS_A_BATCH = 25
PRIORITIES = (50, 50, 50, 80, 20)
_BLOB = Blob("inputs/aa/x", 10, "aa")


@dataclass
class Rows:
    """Writes tenants, versions, workers, and jobs with waiting render chunks; counts what it wrote."""

    connection: psycopg.Connection
    dice: random.Random
    weights: dict[str, float] = field(default_factory=dict)
    caps: dict[str, int] = field(default_factory=dict)
    versions: list[str] = field(default_factory=list)
    chunks: int = 0
    owed: dict[str, float] = field(default_factory=dict)

    def found(self, tenants: int, workers: Sequence[str], versions: int = 3) -> None:
        """Weights from 1 to 5; every tenth tenant has a cap below what its weight would give it."""
        for number in range(tenants):
            tenant = new_id("ten")
            self.weights[tenant] = 1.0 + number % 5
            if number % 10 == 9:
                self.caps[tenant] = max(1, len(workers) // tenants // 4)
        self._copy(
            "tenants (id, name, weight, max_in_flight)",
            [(t, t, w, self.caps.get(t)) for t, w in self.weights.items()],
        )
        self._copy("models (name)", [("pdfgc",)])
        self.versions = [new_id("ver") for _ in range(versions)]
        self._copy(
            "versions (id, model, name, bundle_key, bundle_sha256, manifest, trained, licence)",
            [(v, "pdfgc", v, "bundles/x", "dd", "{}", True, "any") for v in self.versions],
        )
        self._copy(
            "workers (id, host, device, queues, info)", [(w, "host", "cuda", [RENDER_QUEUE], "{}") for w in workers]
        )
        self._copy("shares (tenant_id, queue, active)", [(t, RENDER_QUEUE, True) for t in self.weights])

    def fill(self, chunks: int) -> None:
        """About so many chunks more, to tenants by their weights."""
        total = sum(self.weights.values())
        self.add({tenant: chunks * weight / total for tenant, weight in self.weights.items()})

    def add(self, wanted: Mapping[str, float]) -> None:
        """Chunks by tenant, in whole jobs; what is left of one is owed to the next call."""
        jobs: list[tuple[str, str, int]] = []  # tenant, batch, chunks
        batches = []
        for tenant, chunks in wanted.items():
            self.owed[tenant] = self.owed.get(tenant, 0.0) + chunks
            due = max(0, int(self.owed[tenant] / CHUNKS_A_JOB))
            self.owed[tenant] -= due * CHUNKS_A_JOB
            for first in range(0, due, JOBS_A_BATCH):
                size = min(JOBS_A_BATCH, due - first)
                batch = new_id("bat")
                batches.append((batch, tenant, "running", 50, "champion", self.versions[0], "{}", size, size))
                jobs += [(tenant, batch, CHUNKS_A_JOB)] * size
        if not jobs:
            return
        self._copy(
            "batches (id, tenant_id, status, priority, model, version_id, metadata, jobs_total, jobs_queued)", batches
        )
        self._jobs(jobs)

    def _jobs(self, jobs: Sequence[tuple[str, str, int]]) -> None:
        numbers = [
            row[0]
            for row in self.connection.execute(
                "select nextval(pg_get_serial_sequence('jobs', 'number')) from generate_series(1, %s)", (len(jobs),)
            )
        ]
        job_rows, chunk_rows = [], []
        self.dice.shuffle(numbers)  # so that ages of one tenant lie among those of the others
        for ordinal, ((tenant, batch, count), number) in enumerate(zip(jobs, numbers, strict=True)):
            job, priority = new_id("job"), self.dice.choice(PRIORITIES)
            version = self.dice.choice(self.versions)
            start = 0
            for chunk in range(1, count + 1):
                stop = start + self.dice.randint(120, 280)
                row = (new_id("chk"), tenant, job, number, chunk, "render", "waiting", RENDER_QUEUE, priority, start)
                chunk_rows.append((*row, stop, version))
                start = stop
            row = (job, number, tenant, batch, ordinal, f"i{ordinal}", "dub", "queued", priority, version, _SPEC, _PLAN)
            job_rows.append((*row, start, count))
        self._copy(
            "jobs (id, number, tenant_id, batch_id, ordinal, custom_id, kind, status, priority, version_id, spec, plan,"
            " frames_total, chunks_total)",
            job_rows,
        )
        self._copy(
            "chunks (id, tenant_id, job_id, job_number, ordinal, work, status, queue, priority, start, stop,"
            " version_id)",
            chunk_rows,
        )
        self.connection.commit()
        self.chunks += len(chunk_rows)

    def _copy(self, target: LiteralString, rows: Sequence[Sequence[object]]) -> None:
        with self.connection.cursor() as cursor, cursor.copy(f"copy {target} from stdin") as copy:
            for row in rows:
                copy.write_row(row)


def _spec() -> str:
    media = Media(uri="https://example.com/v.mp4"), Media(uri="https://example.com/a.wav")
    return json.dumps(to_document(JobSpec("item", Kind.DUB, *media)))


def _plan() -> str:
    audio = MediaFacts("wav", 10, audio=AudioFacts("pcm_s16le", 16000, 1, "mono", Fraction(6)))
    return json.dumps(to_document(PlanRecord(_BLOB, _BLOB, (), _BLOB, _BLOB, audio, audio, 4000, 1)))


_SPEC, _PLAN = _spec(), _plan()
