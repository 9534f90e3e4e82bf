"""KubeRay's manifests as far as they can be checked without a cluster: they parse, and go with images and trainer."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import typer.main
import yaml

from trainer.__main__ import app
from trainer.recipes import RECIPES

ROOT = Path(__file__).resolve().parents[2]
KUBERAY = ROOT / "infra" / "kuberay"


def cluster() -> dict[str, Any]:
    return yaml.safe_load((KUBERAY / "raycluster.yaml").read_text())


def test_the_ray_cluster_runs_the_trainers_image_and_our_ray() -> None:
    made = cluster()
    assert (made["apiVersion"], made["kind"]) == ("ray.io/v1", "RayCluster")
    ours = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert ours is not None
    assert made["spec"]["rayVersion"] == ours.group(1)
    head = made["spec"]["headGroupSpec"]
    groups = made["spec"]["workerGroupSpecs"]
    for group in (head, *groups):
        (container,) = group["template"]["spec"]["containers"]
        assert container["image"] == "dubfarm-trainer"
        mounts = {mount["name"] for mount in container.get("volumeMounts", ())}
        assert mounts == {volume["name"] for volume in group["template"]["spec"].get("volumes", ())}
    assert head["serviceType"] == "ClusterIP", "its job port runs whatever it is sent"
    assert made["spec"]["authOptions"] == {"mode": "token"}, "Ray asks for no token unless told to"
    for group in groups:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    assert (ROOT / "infra" / "Dockerfile.trainer").is_file()


def test_the_ray_job_is_the_trainers_door_on_the_same_cluster() -> None:
    job: dict[str, Any] = yaml.safe_load((KUBERAY / "rayjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["spec"]["rayClusterSpec"] == cluster()["spec"]
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:4] == ["python", "-m", "trainer", "run"]
    run = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    given = run.make_context("run", words[4:]).params
    assert given["recipe"] in RECIPES
    assert given["out"].startswith("s3://"), "a pod's disk goes with it"
    assert given["ray"] == "auto"
    gpus = sum(group["replicas"] for group in cluster()["spec"]["workerGroupSpecs"])
    assert 1 <= int(given["workers"]) <= gpus
