"""Preparation spread over a Ray cluster with Ray Data: a row is a shard's job, a task makes the shard."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from typing import Any

import ray
import ray.data

from farm import machine
from trainer.prepare.run import Maker
from trainer.prepare.shards import Job, make_shard
from trainer.ray_run import connect


def on_ray(address: str) -> Maker:
    """Makes shards on the cluster at `address` ("auto", ray://...), or on a Ray of this machine for "local".

    A killed task or node is tried again by Ray; a shard that was stored is not made again.
    """

    def make(jobs: list[Job]) -> Iterator[dict[str, Any]]:
        started = not ray.is_initialized()
        if started:
            connect(address, machine.cores())
        try:
            context = ray.data.DataContext.get_current()
            context.enable_progress_bars = False
            # As bytes: Arrow would fill in the keys that one part has and another lacks.
            rows = ray.data.from_items([{"job": pickle.dumps(job)} for job in jobs], override_num_blocks=len(jobs))
            for row in rows.map(_row, num_cpus=1).iter_rows():
                yield json.loads(row["part"])
        finally:
            if started:
                ray.shutdown()

    return make


def _row(row: dict[str, Any]) -> dict[str, Any]:
    return {"part": json.dumps(make_shard(pickle.loads(row["job"])))}
