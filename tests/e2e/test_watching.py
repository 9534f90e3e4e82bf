"""A farm as its operator sees it: one trace from POST to upload and webhook across processes, logs, metrics."""

from __future__ import annotations

import gzip
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from standardwebhooks.webhooks import Webhook

from farm.cli.demo import MATERIAL
from tests.e2e.command import WORK_S, Command, short_voice
from tests.receiver import Receiver


class Collector:
    """An OTLP/HTTP receiver: spans as (service, name, trace id, span id, parent id, attributes)."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, str, str, str, str, Mapping[str, object]]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            service = {a.key: a.value.string_value for a in resource.resource.attributes}["service.name"]
            for scope in resource.scope_spans:
                for s in scope.spans:
                    attributes = {a.key: a.value.string_value or a.value.double_value for a in s.attributes}
                    ids = (s.trace_id.hex(), s.span_id.hex(), s.parent_span_id.hex())
                    self.spans.append((service, s.name, *ids, attributes))

    @contextmanager
    def running(self) -> Iterator[Collector]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


@pytest.mark.timeout(900)
def test_one_trace_from_post_to_upload_and_webhook(services: Mapping[str, str], tmp_path: Path) -> None:
    short_voice(tmp_path / "voice.wav", 0.6)
    item = {"custom_id": "speaks", "kind": "animate", "image": str(MATERIAL / "portrait.png"), "audio": "voice.wav"}
    (tmp_path / "one.jsonl").write_text(json.dumps(item) + "\n")
    with Collector().running() as collector, Receiver().running() as receiver:
        told = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
        dubfarm = Command(tmp_path / "farm", {**services, **told})
        with dubfarm.farm() as (process, up):
            code, hook = dubfarm("webhooks", "create", receiver.url("/hook"), "--event", "job.succeeded")
            assert code == 0, hook
            code, done = dubfarm("batch", "submit", "one.jsonl", "--wait", "--timeout", str(WORK_S))
            assert code == 0, (done, dubfarm.logs())
            (job,) = done["jobs"]

            (message,) = receiver.wait(1)
            body = Webhook(hook["secret"]).verify(message.body, message.headers)
            assert body["data"]["job"]["id"] == job["id"]

            code, logs = dubfarm("job", "logs", job["id"])
            heads = re.findall(r"^== (chk_\w+) (\w+).* attempt 1 on wrk_\w+: succeeded$", logs["logs"], re.M)
            assert [work for _, work in heads] == ["plan", *["render"] * (len(heads) - 2), "finalize"]
            assert f"job={job['id']}" in logs["logs"]
            assert "chunk settled" in logs["logs"]

            _metrics_say(up["url"], up["key"], job["output"]["frames"])
            until = time.monotonic() + 60
            while "webhook" not in {span[1] for span in collector.spans}:
                assert time.monotonic() < until, {span[1] for span in collector.spans}
                time.sleep(0.1)
            process.terminate()
            assert process.wait(180) == 0, dubfarm.logs()  # whose end sends what is left
    _trace_is_whole(collector, job["id"], message.headers["traceparent"])
    trace = message.headers["traceparent"].split("-")[1]
    assert f"trace={trace}" in logs["logs"]


def _metrics_say(url: str, key: str, frames: int) -> None:
    # A tick adds up what has ended, jobs and attempts apart: both come, not at the same moment.
    wanted = (f"dubfarm_frames_rendered_total {frames}\n", 'dubfarm_jobs_ended_total{status="succeeded"} 1')
    until = time.monotonic() + 60
    while not all(line in (text := httpx.get(f"{url}/metrics", timeout=60).text) for line in wanted):
        assert time.monotonic() < until, text
        time.sleep(0.2)
    assert 'dubfarm_attempts_total{work="finalize",outcome="succeeded",reason=""} 1' in text
    assert 'dubfarm_storage_bytes{kind="outputs"}' in text


def _trace_is_whole(collector: Collector, job_id: str, traceparent: str) -> None:
    _, trace_id, webhook_span, _ = traceparent.split("-")
    mine = [span for span in collector.spans if span[2] == trace_id]
    names = {span_id: (service, name) for service, name, _, span_id, _, _ in mine}
    parents = {(service, name): names.get(parent) for service, name, _, _, parent, _ in mine if parent}
    api, worker, control = "dubfarm-api", "dubfarm-worker", "dubfarm-control"
    assert parents[api, "submit"] == (api, "POST /v1/batches")
    assert (api, "POST /v1/batches") not in parents  # the root
    for work in ("plan", "render", "finalize"):
        assert parents[worker, work] == (api, "submit")
    below = {(name, names[parent][1]) for service, name, _, _, parent, _ in mine if service == worker and parent}
    steps = ("claim", "fetch", "stages", "upload", "settle")
    assert below >= {(step, work) for step in steps for work in ("plan", "render", "finalize")}
    assert parents[control, "webhook"] == (worker, "settle")
    assert names[webhook_span] == (control, "webhook")
    attempts = [attributes for _, name, _, _, _, attributes in mine if name in ("plan", "render", "finalize")]
    assert {attributes["dubfarm.job"] for attributes in attempts} == {job_id}
    stages = [a for _, name, _, _, parent, a in mine if name == "stages" and names.get(parent) == (worker, "render")]
    assert any(key.startswith("seconds.") for attributes in stages for key in attributes)
