"""Settings, one small group per process, read from the environment by entry points only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class FarmSettings(BaseSettings):
    """Where the farm keeps things. DATABASE_URL, BROKER_URL, STORAGE_URL (file:///… or s3://bucket/prefix) alone
    decide between the embedded farm and outside services."""

    model_config = SettingsConfigDict(env_prefix="", extra="ignore")

    database_url: str = "postgresql+psycopg://dubfarm@localhost/dubfarm"
    broker_url: str = "redis://localhost:6379/0"
    storage_url: str = "file:///var/lib/dubfarm/blobs"
    storage_endpoint_url: str | None = None
    """An S3-compatible server instead of AWS."""


class InputSettings(BaseSettings):
    """What users may hand in; every refusal names the setting that refused."""

    model_config = SettingsConfigDict(env_prefix="DUBFARM_INPUT_", extra="ignore")

    schemes: tuple[str, ...] = ("https", "s3")
    file_roots: tuple[Path, ...] = ()
    """Folders that file:// uris may name; empty refuses them all. The embedded farm sets it."""
    private_hosts: tuple[str, ...] = ()
    """Hosts that may resolve to private or loopback addresses."""
    s3_buckets: tuple[str, ...] = ()
    """Buckets that s3:// uris and destinations may name. The farm's own is no exception: it holds what belongs to
    everybody, and a destination there could replace it."""
    max_bytes: int = 20 * 2**30
    max_duration_s: float = 4 * 3600 + 60
    max_pixels: int = 4096 * 2304
    max_frames: int = 2_000_000
    decode_memory_bytes: int = 4 * 2**30
    """Memory that reading one file may take."""
    decode_cpu_s: float = 120.0
    """CPU seconds that reading one file may take without getting a frame further."""
    fetch_timeout_s: float = 3600
    sandbox: Literal["auto", "required"] = "auto"
    """required: a worker does not start where the kernel lacks a lock of the sandbox that reads media."""


class QualitySettings(BaseSettings):
    """What a rendered chunk's scores must reach (docs/quality.md). None: no limit."""

    model_config = SettingsConfigDict(env_prefix="DUBFARM_QUALITY_", extra="ignore")

    landmarks_min: float | None = 0.5
    """Share of looked-at frames in which the output shows a face where the source does."""
    identity_min: float | None = None
    lip_agreement_min: float | None = None
    jitter_max: float | None = None
    border_error_max: float | None = None
    on_breach: Literal["flag", "rerender"] = "flag"
    """flag: the job says so. rerender: the attempt fails with output_check_failed, `rerenders` times at most, and then
    the job says so."""
    rerenders: int = Field(default=1, ge=0)


class ApiSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="DUBFARM_API_", extra="ignore")

    host: str = "127.0.0.1"
    port: int = 8700
    fd: int | None = None
    """A listening socket that was inherited, instead of host and port: it outlives this process (dubfarm up)."""
    public_url: str | None = None
    """What clients see in links; None means the request's own base url."""
    rate_per_s: float = Field(default=100.0, gt=0)
    """Requests a second of one key, where neither it nor its tenant has an own rate; 429 `rate_limited` above."""
    rate_burst: int = Field(default=1000, ge=1)
    """So many of them may come at once."""


class RetentionSettings(BaseSettings):
    """Days that the farm keeps media (farm.domain.retention); `none` keeps that class for good."""

    model_config = SettingsConfigDict(env_prefix="DUBFARM_RETAIN_", extra="ignore", env_parse_none_str="none")

    chunks: float | None = Field(default=7.0, ge=0)
    """Plans, segments and what else was made on the way, from the job's end; until then failed jobs can be retried."""
    previews: float | None = Field(default=7.0, ge=0)
    outputs: float | None = Field(default=90.0, ge=0)
    assets: float | None = Field(default=90.0, ge=0)
    """From their last use by a job."""
    inputs: float | None = Field(default=30.0, ge=0)
    """Fetched files, from their last use by a job."""
    uploads: float | None = Field(default=2.0, ge=0)
    """Assets whose bytes were never completed."""
    events: float | None = Field(default=30.0, ge=0)


class WebhookSettings(BaseSettings):
    """Where webhooks may go and how long a receiver may take; API and control worker read it."""

    model_config = SettingsConfigDict(env_prefix="DUBFARM_WEBHOOK_", extra="ignore")

    schemes: tuple[str, ...] = ("https",)
    private_hosts: tuple[str, ...] = ()
    """Hosts (or host:port) that may resolve to private or loopback addresses."""
    timeout_s: float = 15.0
    lease_s: float = 60.0
    """A message whose result is not recorded by then is sent again; well above timeout_s."""


class WorkerSettings(BaseSettings):
    """One render worker: one device, one spawned child."""

    model_config = SettingsConfigDict(env_prefix="DUBFARM_WORKER_", extra="ignore")

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    queues: tuple[str, ...] = ("render",)
    codecs: Literal["software", "hardware"] = "software"
    """hardware: NVENC and NVDEC, for queues whose workers all have them: a job keeps the encoder of its plan."""
    cache_dir: Path = Path("/var/cache/dubfarm")
    cache_bytes: int = 50 * 2**30
    batch_frames: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Frames that go through the networks at once, of jobs that this worker plans. auto: tried out with the first
    bundle that it loads; 8 until then, and where others are no faster."""
    chunk_s: float = Field(default=30.0, gt=0)
    """Aimed seconds of work a chunk; the planner divides by the measured speed."""
    chunk_frames: int | None = None
    """Fixed chunk length instead, in frames."""
    lease_s: float = 60.0
    heartbeat_s: float = 5.0
    threads: int | None = None
    id: str | None = None
    """A name that stays over restarts (quarantine remembers it); None makes one a process."""
    stall_s: float = 300.0
    """The engine is killed after so long without progress."""
    deadline_s: float = 3600.0
    """The longest that a render chunk may take."""
    bundle_bytes: int = Field(default=4 * 2**30, ge=0)
    """Weights that the engine keeps in memory, least recently used first out; one stays whatever its size."""
    memory_bytes: int | None = None
    """The engine's limit of resident memory; None means four fifths of the machine's, or of its container's."""
    canary_s: float = Field(default=60.0, gt=0)
    """An idle worker that takes no message for so long while messages wait is deaf, and restarts itself."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What the networks compute in. auto: bfloat16 on GPUs since A100 and on CPUs that have it, float16 on V100 and T4,
    float32 otherwise. Name one where workers of different kinds share jobs and their frames must not differ."""
    deterministic: bool = False
    """Jobs planned here give the same frames at any batch size and with any number of threads, on one kind of device:
    the networks see every frame alone, in one thread. Slower; without it, float32 pictures differ by 1e-4 at most."""
    keeps_frame_hashes: bool = False
    """Store SHA-256 of every output frame beside each segment, for tests."""


class TrainSettings(BaseSettings):
    """Where training runs compute, and how politely; the control worker reads it."""

    model_config = SettingsConfigDict(env_prefix="DUBFARM_TRAIN_", extra="ignore")

    ray_address: str | None = Field(default=None, validation_alias="RAY_ADDRESS")
    """The dashboard of a Ray cluster, http://head:8265: runs are Ray Jobs there. Without it they are children of the
    control worker, on its machine."""
    at_once: int = Field(default=1, ge=0)
    """Runs at the same time, of this farm on a cluster, else on this machine; 0: none is started here."""
    shares_with: tuple[str, ...] = ()
    """Render queues whose workers compute on the same devices: while chunks wait there, runs make room
    (docs/operations.md)."""
    yield_after_s: float = Field(default=0.0, ge=0)
    """They do once a chunk has waited for so long."""
    render_priority: int = Field(default=100, ge=0, le=101)
    """Runs of this priority or a higher one make no room for rendering; 101: all do."""
    threads: int = Field(default=1, ge=1)
    niceness: int = Field(default=15, ge=0, le=19)
    corpus_dir: Path | None = None
    """Where puppets are kept between runs."""
    log_dir: Path = Path("/var/log/dubfarm/training")
    stall_s: float = Field(default=900.0, gt=0)
    """An alert after so long without a step."""
