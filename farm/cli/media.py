"""Local files become assets of the farm; uris go as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from farm.cli.exits import usage
from farm.cli.terminal import terminal
from farm.client import Client


class Uploads:
    """Uploads each local file once. Callable: a path (relative to `folder`) or a uri -> the API's media object."""

    def __init__(self, client: Client, folder: Path | None = None) -> None:
        self._client = client
        self._folder = folder or Path.cwd()
        self._ids: dict[Path, str] = {}

    def __call__(self, text: str) -> dict[str, str]:
        if is_uri(text):
            return {"uri": text}
        path = local(text, self._folder)
        if path not in self._ids:
            require_file(path)
            with terminal.transfer() as bar:
                task = bar.add_task(f"uploading {path.name}", total=path.stat().st_size)
                asset = self._client.upload(path, lambda done, total: bar.update(task, completed=done, total=total))
            self._ids[path] = asset.id
        return {"asset_id": self._ids[path]}


def with_media(item: Mapping[str, Any], put: Callable[[str], Any]) -> dict[str, Any]:
    """A batch item with `put` of every media that is given as a plain string, or as {"path": …}.

    Wrong shapes go through as they are: the API names everything that is wrong at once, with pointers.
    """

    def placed(value: Any) -> Any:
        if isinstance(value, Mapping) and set(value) == {"path"}:
            value = value["path"]
        return put(value) if isinstance(value, str) else value

    def factor(setting: Any) -> Any:
        if not isinstance(setting, Mapping):
            return setting
        made = {**setting, "video": placed(setting["video"])} if "video" in setting else dict(setting)
        if isinstance(made.get("blend"), list):
            made["blend"] = [factor(part) for part in made["blend"]]
        return made

    def driven(part: Mapping[str, Any]) -> dict[str, Any]:
        if not isinstance(part.get("factors"), Mapping):
            return dict(part)
        return {**part, "factors": {name: factor(setting) for name, setting in part["factors"].items()}}

    made = {name: placed(value) if name in ("video", "image", "audio") else value for name, value in item.items()}
    made = driven(made)
    if isinstance(made.get("segments"), list):
        made["segments"] = [driven(part) if isinstance(part, Mapping) else part for part in made["segments"]]
    face = made.get("face")
    if isinstance(face, Mapping) and "reference" in face:
        made["face"] = {**face, "reference": placed(face["reference"])}
    return made


def is_uri(text: str) -> bool:
    return "://" in text


def local(text: str, folder: Path) -> Path:
    return (folder / Path(text).expanduser()).resolve()


def require_file(path: Path) -> None:
    if not path.exists():
        raise usage("file_missing", f"there is no file {path}")
    if not path.is_file():
        raise usage("not_a_file", f"{path} is not a file")
    if path.stat().st_size == 0:
        raise usage("file_empty", f"{path} is empty")
