"""KubeRay's manifest as far as it can be checked without a cluster: it parses, and goes with the images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]


def test_the_ray_cluster_runs_the_trainers_image_and_our_ray() -> None:
    cluster: dict[str, Any] = yaml.safe_load((ROOT / "infra" / "kuberay" / "raycluster.yaml").read_text())
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    ours = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert ours is not None
    assert cluster["spec"]["rayVersion"] == ours.group(1)
    head = cluster["spec"]["headGroupSpec"]
    groups = cluster["spec"]["workerGroupSpecs"]
    for group in (head, *groups):
        (container,) = group["template"]["spec"]["containers"]
        assert container["image"] == "dubfarm-trainer"
        mounts = {mount["name"] for mount in container.get("volumeMounts", ())}
        assert mounts == {volume["name"] for volume in group["template"]["spec"].get("volumes", ())}
    assert head["serviceType"] == "ClusterIP", "its job port runs whatever it is sent"
    for group in groups:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    assert (ROOT / "infra" / "Dockerfile.trainer").is_file()
