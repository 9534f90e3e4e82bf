"""compose.yaml as far as it can be checked without a Docker engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

INFRA = Path(__file__).resolve().parents[2] / "infra"


def compose() -> dict[str, Any]:
    return yaml.safe_load((INFRA / "compose.yaml").read_text())


def test_every_dockerfile_and_dependency_is_there() -> None:
    services = compose()["services"]
    for name, service in services.items():
        assert "image" in service, name
        if "build" in service:
            assert (INFRA / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        assert set(service.get("depends_on", ())) <= set(services)
    mounted = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", ())}
    assert mounted == set(compose()["volumes"])


def test_every_secret_is_in_the_example() -> None:
    text = (INFRA / "compose.yaml").read_text()
    example = (INFRA / "farm.env.example").read_text()
    for name in set(re.findall(r"\$\{(\w+):\?", text)):
        assert re.search(rf"^{name}=", example, re.MULTILINE), name


def test_a_dockerfile_copies_only_what_is_there_and_let_through() -> None:
    root = INFRA.parent
    let_through = {line[1:] for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for dockerfile in INFRA.glob("Dockerfile.*"):
        for line in re.findall(r"^COPY (.+)$", dockerfile.read_text(), re.MULTILINE):
            for source in line.split()[:-1]:
                assert (root / source).exists(), f"{dockerfile.name}: {source}"
                assert source.split("/")[0] in let_through, f"{dockerfile.name}: {source}"


def copied(name: str) -> set[str]:
    """What an image has of the tree, with the images that it is made from."""
    text = (INFRA / f"Dockerfile.{name}").read_text()
    found = {source for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE) for source in line.split()[:-1]}
    base = re.search(r"^FROM dubfarm-(\w+)", text, re.MULTILINE)
    return found | (copied(base.group(1)) if base else set())


def extras(name: str) -> set[str]:
    text = (INFRA / f"Dockerfile.{name}").read_text()
    found = set(re.findall(r'"\.\[(\w+)\]"', text))
    base = re.search(r"^FROM dubfarm-(\w+)", text, re.MULTILINE)
    return found | (extras(base.group(1)) if base else set())


def test_the_api_image_has_no_torch_and_the_others_no_api() -> None:
    assert (copied("api") & {"workers", "trainer"}, extras("api")) == (set(), {"api"})
    for name in ("worker", "trainer"):
        assert "api" not in copied(name)
        assert "api" not in extras(name)
    assert "trainer" in extras("trainer")
