"""OUT/curves.jsonl: every term of every step, a line a step; and what becomes of the lines when a run goes on."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

CURVES: Final = "curves.jsonl"
FLUSH_S: Final = 1.0


def stage_curves(stage: str) -> str:
    """The file of a stage that is trained beside others, until its lines join the rest."""
    return f"curves.{stage}.jsonl"


class CurveFile:
    """Appends lines; whoever reads along sees them after a second at most."""

    def __init__(self, path: Path, stage: str, done: int) -> None:
        """Lines of steps that will be done again are forgotten, and so is half a line that a killed run left."""
        path.parent.mkdir(parents=True, exist_ok=True)
        rewrite(path, lambda entry: entry["stage"] != stage or entry["step"] < done)
        self._file = path.open("a")
        self._flushed = time.monotonic()

    def add(self, stage: str, step: int, terms: dict[str, float]) -> None:
        self._file.write(json.dumps({"stage": stage, "step": step, **terms}) + "\n")
        if time.monotonic() - self._flushed > FLUSH_S:
            self.flush()

    def flush(self) -> None:
        self._file.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        self._file.close()


def rewrite(path: Path, keep: Any) -> None:
    """Only the entries that are to be kept, all of them whole; the file is replaced at once."""
    if not path.exists():
        return
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with unfinished.open("w") as file:
        for entry in entries(path):
            if keep(entry):
                file.write(json.dumps(entry) + "\n")
    unfinished.replace(path)


def join(path: Path, part: Path, stage: str) -> None:
    """The lines of a stage that was trained beside others come to the end of the rest, once."""
    if not part.exists():
        return
    rewrite(path, lambda entry: entry["stage"] != stage)
    with path.open("a") as file:
        for entry in entries(part):
            file.write(json.dumps(entry) + "\n")
    part.unlink()


def entries(path: Path) -> Iterator[dict[str, Any]]:
    """Whole lines in order; a torn last one is left out."""
    with path.open() as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def summary(path: Path, every: int = 10) -> dict[str, dict[str, list[float]]]:
    """Stage -> term -> its mean over each `every` steps."""
    values: dict[str, dict[str, list[float]]] = {}
    for entry in entries(path):
        terms = values.setdefault(entry["stage"], {})
        for name in entry.keys() - {"stage", "step"}:
            terms.setdefault(name, []).append(entry[name])
    return {
        stage: {
            name: [round(sum(part) / len(part), 5) for i in range(0, len(of), every) if (part := of[i : i + every])]
            for name, of in sorted(terms.items())
        }
        for stage, terms in values.items()
    }
