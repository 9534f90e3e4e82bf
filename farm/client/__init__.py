"""Typed HTTP client of the public API (docs/api.md)."""

from farm.client.answers import (
    Alias,
    Asset,
    Attempt,
    Batch,
    Chunk,
    Counts,
    Estimate,
    Event,
    FieldError,
    Job,
    JobError,
    JobOutput,
    JobProgress,
    Key,
    NewKey,
    Queue,
    Result,
    UploadTo,
    Version,
    Worker,
)
from farm.client.client import Client
from farm.client.files import DownloadDamaged
from farm.client.transport import ApiError, Unreachable

__all__ = [
    "Alias",
    "ApiError",
    "Asset",
    "Attempt",
    "Batch",
    "Chunk",
    "Client",
    "Counts",
    "DownloadDamaged",
    "Estimate",
    "Event",
    "FieldError",
    "Job",
    "JobError",
    "JobOutput",
    "JobProgress",
    "Key",
    "NewKey",
    "Queue",
    "Result",
    "Unreachable",
    "UploadTo",
    "Version",
    "Worker",
]
