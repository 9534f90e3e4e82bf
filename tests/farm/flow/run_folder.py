"""A folder as a finished training run leaves it: real files with real hashes, no network in them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

SET = "puppets 54f1765a96d6, 32 held out"


def run_folder(out: Path, *, evaluation: dict[str, Any] | None = None, seed: int = 1, trained: bool = True) -> Path:
    bundle = out / "bundle"
    bundle.mkdir(parents=True)
    weights = {f"{name}.safetensors": f"{name} of seed {seed}".encode() * 50 for name in ("generator", "audio")}
    files = {name: hashlib.sha256(data).hexdigest() for name, data in weights.items()}
    manifest = {
        "name": "tiny",
        "trained": trained,
        "licence": "Apache-2.0",
        "seed": seed,
        "source": "puppets only (corpus 54f1765a96d6); recipe 474145e9bbce",
        "files": files,
    }
    for name, data in weights.items():
        (bundle / name).write_bytes(data)
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    (out / "recipe.json").write_text(json.dumps({"name": "tiny", "sizes": {}}))
    (out / "status.json").write_text(json.dumps({"state": "succeeded"}))
    (out / "report.html").write_text("<h1>how good it is</h1>")
    (out / "grids").mkdir()
    (out / "grids" / "stage3.png").write_bytes(b"\x89PNG")
    (out / "checkpoints" / "stage3-100").mkdir(parents=True)
    (out / "checkpoints" / "stage3-100" / "manifest.json").write_text("{}")
    if evaluation is not None:
        (out / "evaluation.json").write_text(json.dumps({"evaluation_set": SET, **evaluation}))
    return out
