"""How the child builds its studio, said without importing what only the child needs: the parent has no torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from workers.work import Perform


@dataclass(frozen=True)
class Setup:
    """device: auto, cpu, cuda or cuda:N. threads: of one network call on a CPU; None means half the cores, for stages
    run beside each other. bundle_bytes: weights kept in memory; one bundle is kept whatever its size.
    precision: what the networks compute in, one of `farm.nets.precision.CHOICES`. codecs: hardware
    to encode and decode on the GPU where it can, software to leave that to the processor. finds_batch: try out which
    batch is fastest with the first bundle, for plans that name none."""

    device: str = "auto"
    threads: int | None = None
    bundle_bytes: int = 4 * 2**30
    precision: str = "float32"
    codecs: str = "software"
    finds_batch: bool = False


def open_studio(setup: Setup) -> Perform:
    """Called in the child."""
    # Read when torch is loaded. The stages' teams of threads share the cores: spinning ones would starve the others.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's products are small ones
    from workers.studio import Studio

    return Studio(setup)


def studio(setup: Setup) -> Callable[[], Perform]:
    """For `workers.engine.Engine`."""
    return partial(open_studio, setup)
