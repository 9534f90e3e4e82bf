"""`python -m tests.api.contract [--examples N] [--seed N] [--max-time S]`: schemathesis against a live API process.

All checks, all phases (examples, coverage, fuzzing, stateful over the document's links). Event streams never end by
themselves while nothing renders, so they are tested apart (tests/api/test_events.py).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import live

PHASES = "examples,coverage,fuzzing,stateful"
STREAMS = "batch_events,job_events"
BEYOND_SCHEMA = {
    "cursors are opaque": (
        "list_batches", "list_jobs", "list_assets", "list_chunks", "list_tenants", "list_audit", "list_keys",
        "list_workers", "list_versions", "list_aliases", "list_endpoints", "list_deliveries",
    ),
    "names, times and uris that this farm does not take, fields that exclude each other": (
        "submit_batch", "complete_asset", "register_version", "set_alias", "rollback_alias", "create_key",
        "create_tenant_key", "create_endpoint", "change_endpoint", "replay_since",
    ),
    "an Idempotency-Key that was used for another request": (
        "create_asset", "create_tenant", "rotate_secret", "ping_endpoint", "replay_delivery",
    ),
}  # fmt: skip
"""Why an operation may answer 422 to what its schema allows; any other may not."""
CONFIG = f"""
[[operations]]
include-operation-id = {[name for names in BEYOND_SCHEMA.values() for name in names]!r}
[operations.checks]
positive_data_acceptance.expected-statuses = ["2xx", "3xx", "401", "403", "404", "409", "413", "422", "429"]
"""


def run(
    url: str, key: str, *, examples: int, seed: int, max_time_s: int | None = None, phases: str = PHASES
) -> tuple[int, str]:
    """Exit code (0: nothing found) and what schemathesis printed."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "schemathesis.toml"
        config.write_text(CONFIG)
        return _run(config, url, key, examples, seed, max_time_s, phases)


def _run(
    config: Path, url: str, key: str, examples: int, seed: int, max_time_s: int | None, phases: str
) -> tuple[int, str]:
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        f"--config-file={config}",
        "run",
        f"{url}/openapi.json",
        "--checks=all",
        f"--phases={phases}",
        f"--max-examples={examples}",
        f"--seed={seed}",
        f"--header=Authorization:Bearer {key}",
        f"--exclude-operation-id={STREAMS}",
        "--request-timeout=30",
        "--generation-database=none",
        "--suppress-health-check=all",
        "--continue-on-failure",
        "--no-color",
        "--workers=2",
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
        code, printed = run(
            farm.url, farm.key, examples=arguments.examples, seed=arguments.seed, max_time_s=arguments.max_time
        )
    print(printed)
    sys.exit(code)


if __name__ == "__main__":
    main()
