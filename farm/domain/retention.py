"""How long what is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace


@dataclass(frozen=True)
class Retention:
    """Days; None keeps a class for good.

    chunks: plans, segments and all that was made on the way, from the job's end; a failed job can be retried until
    then. previews, outputs: from the job's end. assets, inputs (fetched files): from their last use by a job. uploads:
    assets whose bytes were never completed, from when they were made. events: of ended batches.
    """

    chunks: float | None = 7.0
    previews: float | None = 7.0
    outputs: float | None = 90.0
    assets: float | None = 90.0
    inputs: float | None = 30.0
    uploads: float | None = 2.0
    events: float | None = 30.0


CLASSES = tuple(field.name for field in fields(Retention))
TENANTS_OWN = ("chunks", "previews", "outputs", "assets", "uploads")
"""Classes that a tenant may have another time for: inputs are kept once for all tenants."""


def with_own(farm: Retention, own: Mapping[str, float | None]) -> Retention:
    """A tenant's times: its own where it has any, else the farm's."""
    return replace(farm, **{name: days for name, days in own.items() if name in TENANTS_OWN})
