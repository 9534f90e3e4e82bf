"""The names that each process of the farm reads from its environment, from farm/settings.py itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pytest
from pydantic_settings import BaseSettings

from farm.settings import (
    ApiSettings,
    FarmSettings,
    InputSettings,
    QualitySettings,
    RetentionSettings,
    TrainSettings,
    WebhookSettings,
    WorkerSettings,
)

READ_BY: Final[dict[str, tuple[type[BaseSettings], ...]]] = {
    "setup": (FarmSettings,),
    "api": (FarmSettings, InputSettings, ApiSettings, WebhookSettings),
    "control": (FarmSettings, WebhookSettings, RetentionSettings, TrainSettings),
    "worker": (FarmSettings, InputSettings, WorkerSettings, QualitySettings),
}
"""Which groups `dubfarm setup`, api/__main__.py and workers/__main__.py (with workers/app.py) make."""

AWS: Final = frozenset({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"})


def names(*groups: type[BaseSettings]) -> set[str]:
    """The environment names of all fields."""
    found: set[str] = set()
    for group in groups:
        for field, info in group.model_fields.items():
            alias = info.validation_alias
            prefix = group.model_config.get("env_prefix", "")
            found.add(alias if isinstance(alias, str) else f"{prefix}{field}".upper())
    return found


def read_by(process: str) -> set[str]:
    """With what boto3 and Ray read themselves; the control process hands those on."""
    return names(*READ_BY[process]) | AWS | ({"RAY_AUTH_TOKEN"} if process == "control" else set())


def of_all() -> set[str]:
    """What may stand in an environment that all processes share."""
    return set().union(*(read_by(process) for process in READ_BY))


def take(patch: pytest.MonkeyPatch, process: str, environment: Mapping[str, str]) -> list[BaseSettings]:
    """The process's settings as it reads them from that environment. Raises where a value does not parse."""
    for name in read_by(process):
        patch.delenv(name, raising=False)
    for name, value in environment.items():
        patch.setenv(name, value)
    return [group() for group in READ_BY[process]]
