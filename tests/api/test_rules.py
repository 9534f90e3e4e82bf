"""The gate's and the canary's rules, over HTTP and by command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from farm.client import ApiError, Client
from farm.domain.canary import SCORES
from tests.api.conftest import OPERATORS, Api, Dubfarm, admin_of


@pytest.fixture
def key(api: Api) -> Iterator[str]:
    """Rules are set by the tenant that runs the farm, and are the default ones after the test."""
    with admin_of(api, OPERATORS) as key:
        yield key
        with Client(api.url, key) as client:
            client.set_gate(None)
            client.set_canary_rules(None)


def test_a_metric_that_nothing_measures_is_refused_with_those_that_are(client: Client):
    with pytest.raises(ApiError) as caught:
        client.set_gate(
            [{"metric": "lip_sync.at0", "direction": "up", "margin": 0.1}, {"metric": "beauty", "direction": "up"}]
        )
    assert [(e.pointer, e.code) for e in caught.value.errors] == [
        ("/rules/0/metric", "metric_unknown"),
        ("/rules/1/metric", "metric_unknown"),
        ("/rules/1", "rule_empty"),
    ]
    assert "near it: lip_sync.at_0" in caught.value.errors[0].detail
    assert "psnr_copy" in caught.value.errors[1].detail
    assert client.gate().is_default
    assert {"psnr", "lip_sync.at_0", "stage1.*"} <= set(client.gate().metrics)
    given = [{"metric": "stage1.readout_r2.jaw", "direction": "up", "bound": 0.5}]
    assert client.set_gate(given).rules[0].bound == 0.5


def test_canary_rules_over_http(client: Client, http: httpx.Client):
    usual = client.canary_rules()
    assert (usual.is_default, usual.rules.fewest_jobs, usual.rules.share, usual.rules.stops) == (True, 8, 0.1, True)
    assert usual.scores == {name: direction.value for name, direction in SCORES.items()}
    changed = client.set_canary_rules(
        {"watched": [{"score": "jitter", "tolerance": 0.2}], "stops": False, "share": 0.3}
    )
    assert [(one.score, one.direction, one.tolerance) for one in changed.rules.watched] == [("jitter", "down", 0.2)]
    assert (changed.rules.stops, changed.rules.share, changed.rules.confidence) == (False, 0.3, 0.999)
    assert client.canary_rules() == changed
    wrong = {
        "watched": [{"score": "beauty", "tolerance": -1}, {"score": "identity", "tolerance": 1e999}],
        "share": 1.5,
        "fewest_jobs": 1,
        "confidence": 1,
    }
    text = json.dumps({"rules": wrong}).replace("Infinity", "1e999")
    answer = http.put("/v1/models/pdfgc/canary-rules", content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert [(e["pointer"], e["code"]) for e in answer.json()["errors"]] == [
        ("/rules/watched/0/score", "score_unknown"),
        ("/rules/watched/0/tolerance", "out_of_range"),
        ("/rules/watched/1/tolerance", "out_of_range"),
        ("/rules/fewest_jobs", "out_of_range"),
        ("/rules/confidence", "out_of_range"),
        ("/rules/share", "out_of_range"),
    ]
    assert client.canary_rules() == changed
    assert client.set_canary_rules(None) == usual


def test_rules_by_command(client: Client, dubfarm: Dubfarm, tmp_path: Path):
    file = tmp_path / "rules.json"
    file.write_text('[{"metric": "psnr", "direction": "up", "margin": 0.5}]')
    code, told = dubfarm("models", "gate", "set", file)
    assert (code, told["rules"]) == (0, [{"metric": "psnr", "direction": "up", "margin": 0.5, "bound": None}])
    assert dubfarm("models", "gate", "show")[1]["is_default"] is False
    assert dubfarm("models", "gate", "set", "--default")[1]["is_default"] is True
    file.write_text('{"watched": [{"score": "identity", "tolerance": 0.1}], "fewest_jobs": 20}')
    code, told = dubfarm("models", "canary", "set", file)
    assert (code, told["rules"]["fewest_jobs"]) == (0, 20)
    file.write_text('{"watched": [{"score": "beauty", "tolerance": 0.1}], "fewest_jobs": 1}')
    code, told = dubfarm("models", "canary", "set", file)
    assert (code, [e["code"] for e in told["error"]["errors"]]) == (2, ["score_unknown", "out_of_range"])
    assert dubfarm("models", "canary", "show")[1]["rules"]["fewest_jobs"] == 20
    for name, content in (("missing", None), ("broken", "{"), ("null", "null")):
        path = tmp_path / f"{name}.json"
        if content is not None:
            path.write_text(content)
        code, told = dubfarm("models", "canary", "set", path)
        assert (code, told["error"]["code"]) == (2, "rules_invalid")
    for arguments in ((), (file, "--default")):
        code, told = dubfarm("models", "canary", "set", *arguments)
        assert (code, told["error"]["code"]) == (2, "rules_missing")
    assert not client.canary_rules().is_default
    code, shown = dubfarm.shown("models", "canary", "set", "--default")
    assert code == 0
    assert "99.9000% sure, over 8 jobs of each at least: a worse one's share becomes 0" in shown
    assert "lip_agreement" in shown
    code, shown = dubfarm.shown("models", "gate", "show", "--metrics")
    assert code == 0
    assert "these are the default rules" in shown
    assert "unseen_language.lip_sync.at_0" in shown
