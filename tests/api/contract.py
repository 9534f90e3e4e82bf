"""`python -m tests.api.contract [--examples N] [--seed N] [--max-time S]`: schemathesis against a live API process.

All checks, all phases: examples, coverage and fuzzing, then the document's links between operations with a time of
their own. Event streams never end by
themselves while nothing renders, so they are tested apart (tests/api/test_events.py).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx

from benchmarks import live
from benchmarks.live import Live
from farm.db.session import connect
from farm.domain.ids import new_id
from farm.flow import workers
from farm.flow.workers import WorkerFacts

PHASES = "examples,coverage,fuzzing"
STREAMS = {"batch_events", "job_events", "run_events"}
BEYOND_SCHEMA = {
    "cursors are opaque": (
        "list_batches", "list_jobs", "list_assets", "list_chunks", "list_tenants", "list_audit", "list_keys",
        "list_workers", "list_versions", "list_aliases", "list_endpoints", "list_deliveries", "list_runs",
        "list_schedules", "list_alias_moves", "list_clips",
    ),
    "names, times and uris that this farm does not take, fields that exclude each other": (
        "submit_batch", "complete_asset", "register_version", "set_alias", "rollback_alias", "create_key",
        "create_tenant_key", "create_endpoint", "change_endpoint", "replay_since", "create_run", "put_schedule",
        "set_gate", "set_canary_rules", "compare_versions",
    ),
    "whole numbers with a point (95.0), which JSON Schema counts as integers": (
        "set_job_priority", "set_batch_priority", "set_tenant",
    ),
    "an Idempotency-Key that was used for another request": (
        "create_asset", "create_tenant", "rotate_secret", "ping_endpoint", "replay_delivery",
        "run_schedule",
    ),
    "media that were erased (410)": ("get_output", "head_output", "get_preview", "head_preview"),
}  # fmt: skip
"""Why an operation may answer 422, 413, 412 or 410 to what its schema allows; any other may not."""
LINKED = "stateful"
CONFIG = f"""
[phases.stateful.inference]
# The document's own links lead somewhere; four times as many that are guessed from names drown them.
algorithms = []

[phases.stateful.generation]
# Refused requests lead nowhere; the other phases send those.
mode = "positive"

[[operations]]
include-operation-id = {[name for names in BEYOND_SCHEMA.values() for name in names]!r}
[operations.checks]
positive_data_acceptance.expected-statuses = [
    "2xx", "3xx", "401", "403", "404", "409", "410", "412", "413", "422", "429",
]
"""


def furnish(farm: Live) -> None:
    """One of each thing, so that the first links from lists lead somewhere."""
    media = {"video": {"uri": "https://example.com/v.mp4"}, "audio": {"uri": "https://example.com/a.wav"}}
    database = connect(farm.database_url, pool_size=1)
    with database.transaction() as session:
        workers.register(session, WorkerFacts(new_id("wrk"), "host", "cpu", ("render",)))
    database.close()
    with farm.http() as http:
        for path, body in (
            ("/v1/assets", {"filename": "a.wav"}),
            ("/v1/batches", {"items": [{"custom_id": "a", "kind": "dub", **media}]}),
            ("/v1/tenants", {"name": "another"}),
            ("/v1/webhook-endpoints", {"url": "https://example.com/hook"}),
            ("/v1/keys", {"name": "another"}),
        ):
            answer = http.post(path, json=body)
            answer.raise_for_status()
            if path == "/v1/webhook-endpoints":
                http.post(f"{path}/{answer.json()['id']}/ping").raise_for_status()


def run(
    url: str, key: str, *, examples: int, seed: int, max_time_s: int | None = None, phases: str = PHASES
) -> tuple[int, str]:
    """Exit code (0: nothing found) and what schemathesis printed."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "schemathesis.toml"
        config.write_text(CONFIG)
        (Path(folder) / "openapi.json").write_text(
            json.dumps(without_streams(httpx.get(f"{url}/openapi.json", timeout=60).json()))
        )
        return _run(config, url, key, examples, seed, max_time_s, phases)


def without_streams(document: dict[str, Any]) -> dict[str, Any]:
    """The document without what leads to a stream: each would hold a stateful scenario until its time-out."""
    for path, operations in list(document["paths"].items()):
        for operation in operations.values():
            for response in operation["responses"].values():
                for name in STREAMS & response.get("links", {}).keys():
                    del response["links"][name]
        if STREAMS & {operation["operationId"] for operation in operations.values()}:
            del document["paths"][path]
    return document


def _run(
    config: Path, url: str, key: str, examples: int, seed: int, max_time_s: int | None, phases: str
) -> tuple[int, str]:
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        f"--config-file={config}",
        "run",
        *([str(config.with_name("openapi.json")), f"--url={url}"] if phases == LINKED else [f"{url}/openapi.json"]),
        *([] if phases == LINKED else [f"--exclude-operation-id={name}" for name in sorted(STREAMS)]),
        "--checks=all",
        f"--phases={phases}",
        f"--max-examples={examples}",
        f"--seed={seed}",
        f"--header=Authorization:Bearer {key}",
        # What is deleted of batches, jobs and assets is their media; what they were can still be read.
        *(["--exclude-checks=use_after_free"] if phases == LINKED else []),
        "--request-timeout=30",
        "--generation-database=none",
        "--suppress-health-check=all",
        "--continue-on-failure",
        "--no-color",
        "--workers=1",  # two threads that parse Python at once trip over CPython 3.11 (SystemError in ast.parse)
        "--warnings=off",
        *([] if max_time_s is None else [f"--max-time={max_time_s}"]),
    ]
    # It keeps what it found beside itself: not in the tree.
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=config.parent)
    return done.returncode, done.stdout + done.stderr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-time", type=int, default=None, help="seconds")
    arguments = parser.parse_args()
    with live.api(durable=False) as farm:
        codes = []
        # Each with a time of its own: the phases in one run share theirs, and the links come last.
        for phases, share in ((PHASES, 0.6), (LINKED, 0.4)):
            if phases == LINKED:
                furnish(farm)
            limit = None if arguments.max_time is None else max(1, round(share * arguments.max_time))
            code, printed = run(
                farm.url, farm.key, examples=arguments.examples, seed=arguments.seed, max_time_s=limit, phases=phases
            )
            print(printed, flush=True)
            codes.append(code)
    sys.exit(max(codes))


if __name__ == "__main__":
    main()
