"""The client: one method a route, typed answers, pages as iterators."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import httpx

from farm.client import events, files, run_folder
from farm.client.answers import (
    Alias,
    AliasMove,
    Asset,
    AuditEntry,
    Batch,
    Chunk,
    Comparison,
    Estimate,
    Event,
    Job,
    Key,
    ModelCanary,
    ModelGate,
    NewKey,
    NewWebhook,
    Queue,
    Rate,
    Result,
    Rights,
    Tenant,
    TrainingConsent,
    Usage,
    Version,
    WebhookDelivery,
    WebhookEndpoint,
    Worker,
    build,
)
from farm.client.files import Progress
from farm.client.training import Training
from farm.client.transport import ApiError, Transport
from farm.domain.alias import STAGED_S

T = TypeVar("T")
Item = Mapping[str, object]
"""An item of a batch as docs/api.md writes it: custom_id, kind, video or image, audio, ..."""


STAGED_POLL_S = 0.5
STAGED_GRACE_S = 30.0
"""How long after its time a move is waited for: `staged` is still there where no control worker runs."""


class Client:
    """A farm at `base_url` (http://127.0.0.1:8700), seen with an API key.

    Raises ApiError for refusals and Unreachable when the farm does not answer after `retries`.
    """

    def __init__(self, base_url: str, key: str | None = None, *, timeout_s: float = 60.0, retries: int = 5) -> None:
        self._http = Transport(base_url, key, timeout_s, retries)
        self.training = Training(self._http, self._pages, self._create)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # --- batches -------------------------------------------------------------------------------------------------

    def submit(
        self,
        items: Sequence[Item],
        *,
        name: str | None = None,
        priority: int = 50,
        model: str = "champion",
        deadline: datetime | None = None,
        metadata: Mapping[str, str] | None = None,
        rights: Rights | None = None,
        idempotency_key: str | None = None,
    ) -> Batch:
        """Submit once: an own Idempotency-Key makes the retries after a lost answer safe."""
        body = _batch_body(items, name, priority, model, deadline, metadata)
        if rights is not None:
            body["rights"] = {name: value for name, value in asdict(rights).items() if value is not None}
        return build(Batch, self._create("/v1/batches", body, idempotency_key))

    def estimate(
        self,
        items: Sequence[Item],
        *,
        name: str | None = None,
        priority: int = 50,
        model: str = "champion",
        deadline: datetime | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Estimate:
        """A dry run: raises ApiError with everything that is wrong, stores nothing."""
        body = _batch_body(items, name, priority, model, deadline, metadata) | {"dry_run": True}
        return build(Estimate, self._http.json("POST", "/v1/batches", body=body))

    def batch(self, batch_id: str) -> Batch:
        return build(Batch, self._http.json("GET", f"/v1/batches/{batch_id}"))

    def batches(self, *, status: str | None = None, updated_since: datetime | None = None) -> Iterator[Batch]:
        return self._pages(Batch, "/v1/batches", status=status, updated_since=updated_since)

    def cancel_batch(self, batch_id: str) -> Batch:
        return self._batch_action(batch_id, "cancel")

    def pause_batch(self, batch_id: str) -> Batch:
        return self._batch_action(batch_id, "pause")

    def resume_batch(self, batch_id: str) -> Batch:
        return self._batch_action(batch_id, "resume")

    def retry_failed(self, batch_id: str) -> Batch:
        return self._batch_action(batch_id, "retry-failed")

    def delete_batch(self, batch_id: str) -> Batch:
        """Erase the media of every job of an ended batch for good."""
        return build(Batch, self._http.json("DELETE", f"/v1/batches/{batch_id}"))

    def changed_batches(self, since: datetime | None = None) -> tuple[list[Batch], datetime]:
        """Batches that changed since, and what to pass as `since` next time: nothing is missed, some come twice."""
        return self._changed(Batch, "/v1/batches", since)

    def changed_jobs(self, batch_id: str, since: datetime | None = None) -> tuple[list[Job], datetime]:
        """As changed_batches, for the jobs of one."""
        return self._changed(Job, f"/v1/batches/{batch_id}/jobs", since)

    def set_batch_priority(self, batch_id: str, priority: int) -> Batch:
        return build(Batch, self._http.json("PATCH", f"/v1/batches/{batch_id}", body={"priority": priority}))

    def results(self, batch_id: str) -> Iterator[Result]:
        """The lines of results.jsonl."""
        with self._http.stream("GET", f"/v1/batches/{batch_id}/results.jsonl") as response:
            for line in response.iter_lines():
                if line:
                    yield build(Result, json.loads(line))

    def watch(self, batch_id: str) -> Iterator[Event]:
        """Everything that changes in the batch, until an event of type `end`; survives cuts and restarts of the API."""
        path = f"/v1/batches/{batch_id}"
        return events.watch(
            self._http,
            f"{path}/events",
            lambda: {"batch": self._http.json("GET", path)},
            lambda data: build(Batch, data["batch"]).is_terminal,
        )

    def wait(self, batch_id: str, timeout_s: float | None = None, poll_s: float = 1.0) -> Batch:
        """The batch when it is over; raises TimeoutError."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while not (batch := self.batch(batch_id)).is_terminal:
            if until is not None and time.monotonic() > until:
                raise TimeoutError(f"{batch_id} is still {batch.status} after {timeout_s} s")
            time.sleep(poll_s)
        return batch

    # --- jobs ----------------------------------------------------------------------------------------------------

    def jobs(self, batch_id: str, *, status: str | None = None, updated_since: datetime | None = None) -> Iterator[Job]:
        return self._pages(Job, f"/v1/batches/{batch_id}/jobs", status=status, updated_since=updated_since)

    def job(self, job_id: str) -> Job:
        return build(Job, self._http.json("GET", f"/v1/jobs/{job_id}"))

    def chunks(self, job_id: str) -> Iterator[Chunk]:
        return self._pages(Chunk, f"/v1/jobs/{job_id}/chunks")

    def job_logs(self, job_id: str, *, chunk_id: str | None = None, attempt: int | None = None) -> str:
        """What workers logged about the job's attempts, oldest first."""
        given = {k: v for k, v in {"chunk_id": chunk_id, "attempt": attempt}.items() if v is not None}
        with self._http.stream("GET", f"/v1/jobs/{job_id}/logs?{urlencode(given)}") as response:
            return response.read().decode()

    def cancel_job(self, job_id: str) -> Job:
        return build(Job, self._http.json("POST", f"/v1/jobs/{job_id}/cancel"))

    def retry_job(self, job_id: str) -> Job:
        return build(Job, self._http.json("POST", f"/v1/jobs/{job_id}/retry"))

    def delete_job(self, job_id: str) -> Job:
        """Erase all media of an ended job for good."""
        return build(Job, self._http.json("DELETE", f"/v1/jobs/{job_id}"))

    def set_job_priority(self, job_id: str, priority: int) -> Job:
        return build(Job, self._http.json("PATCH", f"/v1/jobs/{job_id}", body={"priority": priority}))

    def watch_job(self, job_id: str) -> Iterator[Event]:
        path = f"/v1/jobs/{job_id}"
        return events.watch(
            self._http,
            f"{path}/events",
            lambda: {"job": self._http.json("GET", path)},
            lambda data: build(Job, data["job"]).is_terminal,
        )

    def download(self, job_id: str, dest: Path, progress: Progress | None = None) -> Path:
        """The finished file of a job, resumed where an earlier download stopped, checked by SHA-256."""
        job = self.job(job_id)
        if job.output is None:
            raise ApiError(409, "output_not_ready", f"{job_id} is {job.status} and has no output", retryable=True)
        return files.fetch(self._http, f"/v1/jobs/{job_id}/output", job.output, dest, progress)

    def consent_to_training(self, job_id: str, statement: str, reference: str | None = None) -> TrainingConsent:
        """The people in the source video of this dub agree that models are trained on it."""
        body = {"statement": statement, "reference": reference}
        return build(TrainingConsent, self._http.json("PUT", f"/v1/jobs/{job_id}/training-consent", body=body))

    def training_consent(self, job_id: str) -> TrainingConsent:
        """ApiError 404 where nobody ever consented."""
        return build(TrainingConsent, self._http.json("GET", f"/v1/jobs/{job_id}/training-consent"))

    def withdraw_consent(self, job_id: str) -> TrainingConsent:
        return build(TrainingConsent, self._http.json("DELETE", f"/v1/jobs/{job_id}/training-consent"))

    def preview(self, job_id: str) -> bytes | None:
        """The newest rendered frame as JPEG, None while there is none."""
        try:
            with self._http.stream("GET", f"/v1/jobs/{job_id}/preview", follow_redirects=True) as response:
                return response.read()
        except ApiError as error:
            if error.code == "preview_not_ready":
                return None
            raise

    # --- assets --------------------------------------------------------------------------------------------------

    def upload(self, path: Path, progress: Progress | None = None) -> Asset:
        """An asset of the file's bytes; what the farm already has is not sent again."""
        size, sha256 = path.stat().st_size, files.sha256_of(path)
        asked = {"filename": path.name[-255:], "size_bytes": size, "sha256": sha256}
        asset = build(Asset, self._create("/v1/assets", asked))
        if asset.upload is not None:
            files.send(self._http, asset.upload, path, progress)
            asset = build(Asset, self._http.json("POST", f"/v1/assets/{asset.id}/complete", body={"sha256": sha256}))
        elif progress:
            progress(size, size)
        return asset

    def asset(self, asset_id: str) -> Asset:
        return build(Asset, self._http.json("GET", f"/v1/assets/{asset_id}"))

    def delete_asset(self, asset_id: str) -> Asset:
        """Erase its bytes for good."""
        return build(Asset, self._http.json("DELETE", f"/v1/assets/{asset_id}"))

    # --- models --------------------------------------------------------------------------------------------------

    def versions(self, model: str = "pdfgc") -> Iterator[Version]:
        return self._pages(Version, f"/v1/models/{model}/versions")

    def version(self, version: str, model: str = "pdfgc") -> Version:
        """By id or by name."""
        return build(Version, self._http.json("GET", f"/v1/models/{model}/versions/{version}"))

    def register_version(
        self,
        folder: Path,
        *,
        name: str,
        model: str = "pdfgc",
        parent: str | None = None,
        progress: Progress | None = None,
    ) -> Version:
        """Upload a bundle folder, or a finished run's with its `bundle/`, evaluation and report, and register it.
        parent: the version that training went on from. `progress` counts the bytes of all files together."""
        found = run_folder.read(folder)
        total = sum(path.stat().st_size for path in (*found.bundle.values(), *found.report.values()))
        done = 0
        listed: dict[str, list[dict[str, str]]] = {"files": [], "report": []}
        for part, paths in (("files", found.bundle), ("report", found.report)):
            for name_of, path in paths.items():
                before = done
                report = None if progress is None else (lambda sent, _, before=before: progress(before + sent, total))
                listed[part].append({"path": name_of, "asset_id": self.upload(path, report).id})
                done += path.stat().st_size
        lineage = found.lineage | ({} if parent is None else {"parent": parent})
        body = {"name": name, **listed, "lineage": lineage}
        # The same folder under the same name is the same version, also from another process.
        digest = hashlib.sha256(json.dumps([model, body]).encode()).hexdigest()
        answer = self._create(f"/v1/models/{model}/versions", body, f"register-{digest}")
        return build(Version, answer)

    def aliases(self, model: str = "pdfgc") -> Iterator[Alias]:
        return self._pages(Alias, f"/v1/models/{model}/aliases")

    def alias(self, alias: str, model: str = "pdfgc") -> Alias:
        return build(Alias, self._http.json("GET", f"/v1/models/{model}/aliases/{alias}"))

    def alias_moves(self, alias: str, model: str = "pdfgc") -> Iterator[AliasMove]:
        """Newest first."""
        return self._pages(AliasMove, f"/v1/models/{model}/aliases/{alias}/history")

    def set_alias(
        self,
        alias: str,
        version: str,
        *,
        model: str = "pdfgc",
        canary_share: float | None = None,
        force: bool = False,
        within_s: float | None = None,
        revision: int | None = None,
        wait: bool = True,
    ) -> Alias:
        """Move an alias to a version, named by id or name; `force` goes below the gate. wait: until it has moved, which
        it does when the workers have the files, after `within_s` (the farm's: 60) at the latest. revision: the
        alias's, as you saw it (ApiError 412 alias_moved where it has moved on)."""
        body: dict[str, Any] = {"version": version, "force": force}
        body |= {"canary_share": canary_share} if canary_share is not None else {}
        body |= {"within_s": within_s} if within_s is not None else {}
        headers = {} if revision is None else {"If-Match": f'"{revision}"'}
        moved = build(Alias, self._http.json("PUT", f"/v1/models/{model}/aliases/{alias}", body=body, headers=headers))
        deadline = time.monotonic() + (STAGED_S if within_s is None else within_s) + STAGED_GRACE_S
        while wait and moved.staged is not None and time.monotonic() < deadline:
            time.sleep(STAGED_POLL_S)
            moved = self.alias(alias, model)
        return moved

    def rollback(self, alias: str, *, model: str = "pdfgc") -> Alias:
        """Back to the version before, at once."""
        path = f"/v1/models/{model}/aliases/{alias}/rollback"
        return build(Alias, self._create(path, None, f"rollback-{secrets.token_hex(16)}"))

    def gate(self, model: str = "pdfgc") -> ModelGate:
        return build(ModelGate, self._http.json("GET", f"/v1/models/{model}/gate"))

    def set_gate(self, rules: Sequence[Mapping[str, Any]] | None, *, model: str = "pdfgc") -> ModelGate:
        """rules: each {metric, direction: up or down, margin?, bound?}; None: the default ones again."""
        body = {"rules": rules}
        return build(ModelGate, self._http.json("PUT", f"/v1/models/{model}/gate", body=body))

    def canary_rules(self, model: str = "pdfgc") -> ModelCanary:
        return build(ModelCanary, self._http.json("GET", f"/v1/models/{model}/canary-rules"))

    def set_canary_rules(self, rules: Mapping[str, Any] | None, *, model: str = "pdfgc") -> ModelCanary:
        """rules: {watched: [{score, tolerance}], share?, fewest_jobs?, confidence?, stops?}; None: the default ones."""
        body = {"rules": rules}
        return build(ModelCanary, self._http.json("PUT", f"/v1/models/{model}/canary-rules", body=body))

    def compare(self, version: str | None = None, beside: str | None = None, *, model: str = "pdfgc") -> Comparison:
        """Two versions' scores; the canary's and the champion's where none is named."""
        named = {key: value for key, value in (("version", version), ("beside", beside)) if value is not None}
        return build(Comparison, self._http.json("GET", f"/v1/models/{model}/comparison", params=named))

    # --- fleet, keys, service ------------------------------------------------------------------------------------

    def workers(self) -> Iterator[Worker]:
        return self._pages(Worker, "/v1/workers")

    def drain_worker(self, worker_id: str) -> Worker:
        return build(Worker, self._http.json("POST", f"/v1/workers/{worker_id}/drain"))

    def resume_worker(self, worker_id: str) -> Worker:
        return build(Worker, self._http.json("POST", f"/v1/workers/{worker_id}/resume"))

    def queues(self) -> tuple[Queue, ...]:
        return tuple(build(Queue, queue) for queue in self._http.json("GET", "/v1/queues")["data"])

    def create_key(
        self,
        name: str,
        scopes: Sequence[str] = ("submit", "read"),
        *,
        expires_at: datetime | None = None,
        rate: Rate | None = None,
        tenant_id: str | None = None,
    ) -> NewKey:
        """A key of your tenant; of another one with tenant_id, where yours runs the farm."""
        body: dict[str, object] = {"name": name, "scopes": list(scopes)}
        if expires_at is not None:
            body["expires_at"] = expires_at.isoformat()
        if rate is not None:
            body["rate"] = {"per_s": rate.per_s, "burst": rate.burst}
        answer = self._create(f"/v1/tenants/{tenant_id}/keys" if tenant_id else "/v1/keys", body)
        return NewKey(build(Key, answer), answer["secret"])

    def usage(self, tenant_id: str | None = None) -> Usage:
        """What your tenant (or, where yours runs the farm, another) has used of its quotas."""
        return build(Usage, self._http.json("GET", f"/v1/tenants/{tenant_id}/usage" if tenant_id else "/v1/usage"))

    # --- tenants: for who runs the farm --------------------------------------------------------------------------

    def tenants(self) -> Iterator[Tenant]:
        return self._pages(Tenant, "/v1/tenants")

    def tenant(self, tenant_id: str) -> Tenant:
        return build(Tenant, self._http.json("GET", f"/v1/tenants/{tenant_id}"))

    def create_tenant(self, name: str, limits: Mapping[str, object] | None = None) -> Tenant:
        """limits: weight, max_in_flight, rate, quotas, retention as docs/api.md writes them."""
        return build(Tenant, self._create("/v1/tenants", {"name": name, **(limits or {})}))

    def set_tenant(self, tenant_id: str, limits: Mapping[str, object]) -> Tenant:
        """What `limits` leaves out stays as it is."""
        return build(Tenant, self._http.json("PATCH", f"/v1/tenants/{tenant_id}", body=dict(limits)))

    def keys(self) -> Iterator[Key]:
        return self._pages(Key, "/v1/keys")

    def revoke_key(self, key_id: str) -> None:
        self._http.json("DELETE", f"/v1/keys/{key_id}")

    # --- webhooks ------------------------------------------------------------------------------------------------

    def create_webhook(self, url: str, events: Sequence[str] = (), description: str | None = None) -> NewWebhook:
        """events: none for all of them."""
        body = {"url": url, "events": list(events), "description": description}
        return self._with_secret(self._create("/v1/webhook-endpoints", body))

    def webhooks(self) -> Iterator[WebhookEndpoint]:
        return self._pages(WebhookEndpoint, "/v1/webhook-endpoints")

    def webhook(self, endpoint_id: str) -> WebhookEndpoint:
        return build(WebhookEndpoint, self._http.json("GET", f"/v1/webhook-endpoints/{endpoint_id}"))

    def change_webhook(self, endpoint_id: str, **changes: object) -> WebhookEndpoint:
        """changes: url, events, description, enabled."""
        return build(WebhookEndpoint, self._http.json("PATCH", f"/v1/webhook-endpoints/{endpoint_id}", body=changes))

    def delete_webhook(self, endpoint_id: str) -> None:
        self._http.json("DELETE", f"/v1/webhook-endpoints/{endpoint_id}")

    def rotate_webhook_secret(self, endpoint_id: str, overlap_s: int = 86_400) -> NewWebhook:
        body = {"overlap_s": overlap_s}
        return self._with_secret(self._create(f"/v1/webhook-endpoints/{endpoint_id}/rotate-secret", body))

    def ping_webhook(self, endpoint_id: str) -> WebhookDelivery:
        return build(WebhookDelivery, self._create(f"/v1/webhook-endpoints/{endpoint_id}/ping", None))

    def webhook_deliveries(
        self, endpoint_id: str, *, status: str | None = None, event: str | None = None
    ) -> Iterator[WebhookDelivery]:
        path = f"/v1/webhook-endpoints/{endpoint_id}/deliveries"
        return self._pages(WebhookDelivery, path, status=status, event=event)

    def webhook_delivery(self, endpoint_id: str, delivery_id: str) -> WebhookDelivery:
        """With its body and every try."""
        path = f"/v1/webhook-endpoints/{endpoint_id}/deliveries/{delivery_id}"
        return build(WebhookDelivery, self._http.json("GET", path))

    def replay_webhook(self, endpoint_id: str, delivery_id: str) -> WebhookDelivery:
        path = f"/v1/webhook-endpoints/{endpoint_id}/deliveries/{delivery_id}/replay"
        return build(WebhookDelivery, self._create(path, None))

    def replay_webhooks(self, endpoint_id: str, since: datetime, *, delivered: bool = False) -> int:
        """How many messages are sent again: what failed or was skipped since then, with `delivered` the rest too."""
        body = {"since": since.isoformat(), "delivered": delivered}
        return int(self._create(f"/v1/webhook-endpoints/{endpoint_id}/replay", body)["deliveries"])

    def _with_secret(self, answer: Any) -> NewWebhook:
        return NewWebhook(build(WebhookEndpoint, answer), answer["secret"])

    # --- the farm ------------------------------------------------------------------------------------------------

    def audit(
        self,
        *,
        action: str | None = None,
        subject: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[AuditEntry]:
        """Who did what, newest first. action: one (`batch.paused`) or a family (`batch`)."""
        return self._pages(AuditEntry, "/v1/audit", action=action, subject=subject, since=since, until=until)

    def ready(self) -> bool:
        """Whether the farm can take work now; False too where nothing answers."""
        try:
            return self._http.http.get("/readyz", timeout=5.0).is_success
        except httpx.TransportError:
            return False

    # --- inside --------------------------------------------------------------------------------------------------

    def _create(self, path: str, body: object, idempotency_key: str | None = None) -> Any:
        return self._http.json("POST", path, body=body, idempotency_key=idempotency_key or str(uuid.uuid4()))

    def _batch_action(self, batch_id: str, action: str) -> Batch:
        return build(Batch, self._http.json("POST", f"/v1/batches/{batch_id}/{action}"))

    def _changed(self, cls: type[T], path: str, since: datetime | None) -> tuple[list[T], datetime]:
        sent = {} if since is None else {"updated_since": since.isoformat()}
        rows: list[T] = []
        cursor, as_of = None, ""
        while True:
            page = self._http.json("GET", path, params={**sent, "cursor": cursor})
            as_of = as_of or page["as_of"]  # the first page's: what changes while the pages are walked comes next time
            rows += [build(cls, row) for row in page["data"]]
            cursor = page["next_cursor"]
            if cursor is None:
                return rows, datetime.fromisoformat(as_of)

    def _pages(self, cls: type[T], path: str, **params: Any) -> Iterator[T]:
        sent = {k: v.isoformat() if isinstance(v, datetime) else v for k, v in params.items()}
        cursor: str | None = None
        while True:
            page = self._http.json("GET", path, params={**sent, "cursor": cursor})
            for row in page["data"]:
                yield build(cls, row)
            cursor = page["next_cursor"]
            if cursor is None:
                return


def _batch_body(
    items: Sequence[Item],
    name: str | None,
    priority: int,
    model: str,
    deadline: datetime | None,
    metadata: Mapping[str, str] | None,
) -> dict[str, object]:
    body: dict[str, object] = {"items": [dict(item) for item in items], "priority": priority, "model": model}
    if name is not None:
        body["name"] = name
    if deadline is not None:
        body["deadline"] = deadline.isoformat()
    if metadata:
        body["metadata"] = dict(metadata)
    return body
