"""compose.yaml as far as it can be checked without a Docker engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from farm.settings import TrainSettings
from tests.infra import known_settings

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


PROCESSES = {"setup": "setup", "api": "api", "control": "control", "worker": "worker", "worker-cpu": "worker"}
"""Services that are processes of the farm, and which."""


def interpolated(text: str, given: dict[str, str]) -> str:
    """Compose's ${NAME:-default}, ${NAME-default} and ${NAME:?error}, from the inside out."""
    while "${" in text:
        text, count = re.subn(
            r"\$\{(\w+)(?::?[-?]([^${}]*))?\}", lambda found: given.get(found[1]) or (found[2] or ""), text
        )
        assert count, text
    return text


@pytest.mark.parametrize("service", PROCESSES)
def test_every_setting_is_one_that_its_process_reads(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        name: interpolated(str(value), {}) for name, value in compose()["services"][service]["environment"].items()
    }
    process = PROCESSES[service]
    shared = set(compose()["x-farm"])
    assert shared <= known_settings.of_all()
    assert set(given) - shared <= known_settings.read_by(process)
    known_settings.take(monkeypatch, process, given)


def test_runs_wait_until_a_ray_cluster_is_named_and_then_go_there(monkeypatch: pytest.MonkeyPatch) -> None:
    services = compose()["services"]
    written = {name: str(value) for name, value in services["control"]["environment"].items()}

    def training(given: dict[str, str]) -> TrainSettings:
        environment = {name: interpolated(value, given) for name, value in written.items()}
        with monkeypatch.context() as patch:
            (found,) = [s for s in known_settings.take(patch, "control", environment) if isinstance(s, TrainSettings)]
        return found

    alone = training({})
    assert (alone.ray_address or "", alone.at_once) == ("", 0), "the control worker's image cannot train"
    example = (INFRA / "farm.env.example").read_text()
    named = training(dict(re.findall(r"^# ((?:RAY|DUBFARM_TRAIN)_\w+)=(.+)$", example, re.MULTILINE)))
    assert (named.ray_address, named.at_once, named.shares_with) == ("http://ray:8265", 1, ("render",))

    ray = services["ray"]
    assert ray["image"] == "dubfarm-trainer"
    assert ray["command"][:3] == ["ray", "start", "--head"]
    assert "ports" not in ray, "its job port runs whatever it is sent"
    assert ray["environment"]["RAY_AUTH_MODE"] == "token"
    assert ray["environment"]["RAY_AUTH_TOKEN"] == written["RAY_AUTH_TOKEN"]
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert ray["environment"][name] == written[name], "jobs bring no keys along"
    (mounted,) = ray["volumes"]
    assert str(named.corpus_dir).startswith(mounted.partition(":")[2] + "/")


def test_an_image_that_another_is_made_from_is_built_first() -> None:
    services = compose()["services"]
    for name, service in services.items():
        if "build" not in service:
            continue
        dockerfile = INFRA / service["build"]["context"] / service["build"]["dockerfile"]
        base = re.search(r"^FROM (dubfarm-\w+)", dockerfile.read_text(), re.MULTILINE)
        contexts = service["build"].get("additional_contexts", {})
        assert set(contexts) == ({base[1]} if base else set()), name
        for image, source in contexts.items():
            assert services[source.removeprefix("service:")]["image"] == image


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
