"""MANIFEST.jsonl: an item a line, as docs/api.md writes it; media may be plain paths beside the manifest."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from farm.cli.exits import Exit, Failed
from farm.cli.media import is_uri, local, with_media


def read(manifest: Path) -> tuple[list[dict[str, Any]], Path]:
    """The items, and the folder that their paths are relative to. `-` reads standard input, relative to here.

    Failed names every line that is not an item and every local file that is not there. An item without custom_id gets
    `line-N`.
    """
    if str(manifest) == "-":
        text, folder = sys.stdin.read(), Path.cwd()
    else:
        text, folder = manifest.read_text(encoding="utf-8-sig"), manifest.resolve().parent
    items: list[dict[str, Any]] = []
    wrong: list[dict[str, str]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except ValueError as error:
            wrong.append(_problem(number, "not_json", f"not JSON: {error}"))
            continue
        if not isinstance(item, dict):
            wrong.append(_problem(number, "not_an_item", "not a JSON object"))
            continue
        item.setdefault("custom_id", f"line-{number}")
        wrong += [_problem(number, "file_missing", f"there is no file {path}") for path in _missing(item, folder)]
        items.append(item)
    if wrong:
        raise Failed(Exit.USAGE, "manifest_invalid", f"{manifest} cannot be submitted", errors=tuple(wrong))
    if not items:
        raise Failed(Exit.USAGE, "manifest_empty", f"{manifest} has no items")
    return items, folder


def _missing(item: dict[str, Any], folder: Path) -> list[Path]:
    paths: list[Path] = []
    with_media(item, lambda text: None if is_uri(text) else paths.append(local(text, folder)))
    return [path for path in paths if not path.is_file()]


def _problem(number: int, code: str, detail: str) -> dict[str, str]:
    return {"pointer": f"line {number}", "code": code, "detail": detail}
