"""The chart as far as it can be checked without Helm and a cluster: every document that it makes, and its settings."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import farm
from farm.settings import ApiSettings
from tests.infra import charts, known_settings

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "infra" / "helm" / "dubfarm"
COMMANDS = {
    "setup": ["dubfarm", "setup"],
    "api": ["python", "-m", "api"],
    "control": ["python", "-m", "workers", "--control", "--beat"],
    "worker": ["python", "-m", "workers"],
}
IMAGES = {"setup": "api", "api": "api", "control": "worker", "worker": "worker"}
TRAINING = {"training": {"rayAddress": "http://dubfarm-ray-head-svc:8265"}}


def pods(documents: list[Any]) -> dict[str, tuple[Any, Any]]:
    """component -> (pod spec, its only container)."""
    found: dict[str, tuple[Any, Any]] = {}
    for document in documents:
        if document["kind"] in ("Deployment", "Job"):
            template = document["spec"]["template"]
            (container,) = template["spec"]["containers"]
            found[template["metadata"]["labels"]["app.kubernetes.io/component"]] = (template["spec"], container)
    return found


def environment(container: Any) -> dict[str, str | None]:
    """The last of a name counts, as in Kubernetes; None: from a Secret."""
    return {entry["name"]: entry.get("value") for entry in container["env"]}


def test_the_documents_have_their_kinds_and_names() -> None:
    made = [(document["kind"], document["metadata"]["name"]) for document in charts.render_chart(CHART, release="dub")]
    assert sorted(made) == [
        ("Deployment", "dub-api"),
        ("Deployment", "dub-control"),
        ("Deployment", "dub-worker"),
        ("Job", "dub-setup"),
        ("Service", "dub-api"),
    ]
    with_secret = charts.render_chart(CHART, {"secret": {"values": {"DATABASE_URL": 'a"b'}}})
    (secret,) = [document for document in with_secret if document["kind"] == "Secret"]
    assert (secret["metadata"]["name"], secret["stringData"]) == ("dubfarm", {"DATABASE_URL": 'a"b'})


def test_every_pod_runs_its_door_in_an_image_that_is_built_here() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == farm.__version__
    found = pods(charts.render_chart(CHART, {"images": {"registry": "registry.example/"}}))
    assert {name: container["command"] for name, (_, container) in found.items()} == COMMANDS
    for name, (pod, container) in found.items():
        dockerfile = ROOT / "infra" / f"Dockerfile.{IMAGES[name]}"
        assert container["image"] == f"registry.example/dubfarm-{IMAGES[name]}:{farm.__version__}"
        uid = re.search(r"--uid (\d+)", dockerfile.read_text())
        assert uid is not None
        assert pod["securityContext"]["runAsUser"] == int(uid.group(1)), (
            "a cluster cannot read a user's name as non-root"
        )
        assert pod["enableServiceLinks"] is False, "the service's DUBFARM_API_PORT=tcp://… would be read as the port"
    tagged = pods(charts.render_chart(CHART, {"images": {"tag": "7"}}))
    assert {container["image"] for _, container in tagged.values()} == {"dubfarm-api:7", "dubfarm-worker:7"}


def test_the_service_and_the_probes_find_the_api() -> None:
    documents = charts.render_chart(CHART)
    (service,) = [document for document in documents if document["kind"] == "Service"]
    deployments = [document for document in documents if document["kind"] == "Deployment"]
    for deployment in deployments:
        wanted, labels = (
            deployment["spec"]["selector"]["matchLabels"],
            deployment["spec"]["template"]["metadata"]["labels"],
        )
        assert wanted.items() <= labels.items()
    chosen = [
        deployment["metadata"]["name"]
        for deployment in deployments
        if service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    ]
    assert chosen == ["dubfarm-api"]
    _, api = pods(documents)["api"]
    (port,) = api["ports"]
    assert port["containerPort"] == ApiSettings.model_fields["port"].default
    (served,) = service["spec"]["ports"]
    assert served["targetPort"] == port["name"]
    routes = (ROOT / "api" / "v1" / "service.py").read_text()
    for probe in ("livenessProbe", "readinessProbe"):
        assert api[probe]["httpGet"]["port"] == port["name"]
        assert f'"{api[probe]["httpGet"]["path"]}"' in routes
    assert environment(api)["DUBFARM_API_HOST"] == "0.0.0.0"


@pytest.mark.parametrize("changes", [{}, TRAINING, {"storage": {"endpointUrl": "http://s3:8333"}}])
def test_every_setting_is_one_that_its_process_reads(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, (_, container) in pods(charts.render_chart(CHART, changes)).items():
        given = environment(container)
        assert set(given) <= known_settings.read_by(name), name
        assert given["STORAGE_URL"] == "s3://dubfarm/farm"
        assert ("STORAGE_ENDPOINT_URL" in given) == ("storage" in changes)
        assert container["envFrom"] == [{"secretRef": {"name": "dubfarm"}}]
        with monkeypatch.context() as patch:
            known_settings.take(patch, name, {key: text for key, text in given.items() if text is not None})


def test_env_of_all_and_of_one_reach_their_pods() -> None:
    changes = {"env": {"OTEL_X": "1"}, "worker": {"env": {"DUBFARM_WORKER_QUEUES": '["fast"]'}}}
    found = {name: environment(container) for name, (_, container) in pods(charts.render_chart(CHART, changes)).items()}
    assert {name for name, given in found.items() if given.get("OTEL_X") == "1"} == set(COMMANDS)
    assert {
        name: given["DUBFARM_WORKER_QUEUES"] for name, given in found.items() if "DUBFARM_WORKER_QUEUES" in given
    } == {"worker": '["fast"]'}


def test_only_the_worker_has_a_gpu_and_its_cache_fits() -> None:
    documents = charts.render_chart(CHART)
    found = pods(documents)
    gpus = {name for name, (_, c) in found.items() if "nvidia.com/gpu" in c.get("resources", {}).get("limits", {})}
    assert gpus == {"worker"}
    pod, worker = found["worker"]
    (mount,), (volume,) = worker["volumeMounts"], pod["volumes"]
    given = environment(worker)
    assert mount["name"] == volume["name"]
    assert mount["mountPath"] == given["DUBFARM_WORKER_CACHE_DIR"]
    size = volume["emptyDir"]["sizeLimit"]
    assert int(given["DUBFARM_WORKER_CACHE_BYTES"] or 0) < int(size.removesuffix("Gi")) * 2**30
    (deployment,) = [d for d in documents if d["metadata"]["name"] == "dubfarm-worker"]
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0, "a surge waits for a GPU that is not there"


def test_training_runs_go_to_the_ray_cluster_or_wait() -> None:
    alone = environment(pods(charts.render_chart(CHART))["control"][1])
    assert (alone["DUBFARM_TRAIN_AT_ONCE"], alone.get("RAY_ADDRESS")) == ("0", None)
    _, control = pods(charts.render_chart(CHART, TRAINING))["control"]
    given = environment(control)
    assert given["DUBFARM_TRAIN_AT_ONCE"] == "1"
    cluster = yaml.safe_load((ROOT / "infra" / "kuberay" / "raycluster.yaml").read_text())
    name = cluster["metadata"]["name"]
    assert given["RAY_ADDRESS"] == f"http://{name}-head-svc:8265"
    (token,) = [entry["valueFrom"]["secretKeyRef"] for entry in control["env"] if entry["name"] == "RAY_AUTH_TOKEN"]
    assert (token["name"], token["key"]) == (name, "auth_token")


def test_values_that_would_be_ignored_or_misread_are_refused() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(schema["properties"]) - {"global"} == set(values)
    jsonschema.validate(values, schema)
    for wrong in (
        {"woker": {}},
        {"worker": {"enviroment": {}}},
        {"worker": {"env": {"DUBFARM_WORKER_CACHE_BYTES": 53687091200}}},
        {"images": {"registry": "registry.example"}},
        {"training": {"rayAddress": "ray://head:10001"}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(charts.merged(values, wrong), schema)


def test_a_template_that_asks_for_what_is_not_there_is_refused() -> None:
    scope = {"Values": {"a": 1, "b": {}, "big": 2**30}}
    assert charts.render("{{- if .Values.b }}x{{- else }}y{{ .Values.a }}{{- end }}", scope) == "y1"
    for wrong in ("{{ .Values.c }}", "{{ .Values.a | nindent 2 }}", "{{ include 1 }}", "{{ .Values.big | quote }}"):
        with pytest.raises(charts.Unknown):
            charts.render(wrong, scope)
