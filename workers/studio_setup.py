"""How the child builds its studio, said without importing what only the child needs: the parent has no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from workers.work import Perform


@dataclass(frozen=True)
class Setup:
    """device: auto, cpu, cuda or cuda:N. bundle_bytes: weights kept in memory; one bundle is kept whatever its size."""

    device: str = "auto"
    threads: int | None = None
    bundle_bytes: int = 4 * 2**30


def open_studio(setup: Setup) -> Perform:
    """Called in the child."""
    from workers.studio import Studio

    return Studio(setup)


def studio(setup: Setup) -> Callable[[], Perform]:
    """For `workers.engine.Engine`."""
    return partial(open_studio, setup)
