"""farm.json: where a running embedded farm is, and the key of its owner. Found again at the next start."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "farm.json"
LOCK = "farm.lock"


@dataclass(frozen=True)
class Address:
    """What a client needs, and (database_url) what `dubfarm keys` and repairs need. Holds secrets: mode 600."""

    url: str
    key: str
    pid: int
    database_url: str
    broker_url: str
    storage_url: str


def default_data_dir() -> Path:
    """DUBFARM_DATA, else the user's data folder."""
    if chosen := os.environ.get("DUBFARM_DATA"):
        return Path(chosen).expanduser().resolve()
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "dubfarm"


def write(data_dir: Path, address: Address) -> None:
    """Whole or not at all, readable by its owner only."""
    making = data_dir / f"{FILE}.{os.getpid()}"
    with os.fdopen(os.open(making, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(asdict(address), file, indent=2)
    making.replace(data_dir / FILE)


def read(data_dir: Path) -> Address | None:
    """The last farm of this folder, running or not."""
    try:
        return Address(**json.loads((data_dir / FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def is_held(data_dir: Path) -> bool:
    """Whether a farm's process holds the folder now (it may still be starting)."""
    with contextlib.suppress(OSError), (data_dir / LOCK).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def running(data_dir: Path) -> Address | None:
    """The farm that runs on this folder now."""
    found = read(data_dir)
    return found if found is not None and is_held(data_dir) and _alive(found.pid) else None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
