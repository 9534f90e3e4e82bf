"""Blobs in S3 or a server that speaks it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from farm.domain.order import Blob
from farm.errors import Rejected, Transient
from farm.storage.blobs import PART, BlobStore, Exists, Missing, Stat, Upload, check_key

UPLOAD_PART: Final = 16 << 20
"""S3 takes up to 10,000 parts: 160 GB an object. One part is held in memory."""
_NOT_FOUND: Final = frozenset({"NoSuchKey", "NoSuchUpload", "NotFound", "404"})


def connect(endpoint_url: str | None) -> Any:
    """A boto3 client; safe to share between threads.

    SigV4 by name: boto3 still presigns with SigV2 where it may, and drops conditions and headers with it. Checksums
    that only AWS knows are left out for other servers.
    """
    other: dict[str, Any] = {}
    if endpoint_url is not None:
        other = {
            "s3": {"addressing_style": "path"},
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
    config = Config(
        signature_version="s3v4",
        retries={"mode": "standard", "max_attempts": 5},
        connect_timeout=10,
        read_timeout=30,
        max_pool_connections=32,
        **other,
    )
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region is None and endpoint_url is not None:
        region = "us-east-1"
    return boto3.Session().client("s3", endpoint_url=endpoint_url, region_name=region, config=config)


class S3Store(BlobStore):
    """A BlobStore under a prefix of a bucket, which must exist."""

    def __init__(self, client: Any, bucket: str, prefix: str = "") -> None:
        self._client = client
        self.bucket = bucket
        self.prefix = f"{prefix}/" if prefix else ""

    def put_file(self, path: Path, key: str, *, if_absent: bool = False) -> Blob:
        with path.open("rb") as file:
            return self._put(iter(lambda: file.read(PART), b""), key, if_absent=if_absent)

    def put_bytes(self, data: bytes, key: str, *, if_absent: bool = False) -> Blob:
        return self._put([data], key, if_absent=if_absent)

    def put_stream(self, parts: Iterable[bytes], key: str, *, max_bytes: int | None = None) -> Blob:
        return self._put(parts, key, max_bytes=max_bytes)

    def _put(self, parts: Iterable[bytes], key: str, *, if_absent: bool = False, max_bytes: int | None = None) -> Blob:
        target = self._target(key)
        condition = {"IfNoneMatch": "*"} if if_absent else {}
        upload_id, done = "", []
        held, size, digest = bytearray(), 0, hashlib.sha256()
        try:
            for part in parts:
                size += len(part)
                if max_bytes is not None and size > max_bytes:
                    raise Rejected("too_large", f"more than {max_bytes} bytes")
                digest.update(part)
                held += part
                while len(held) > UPLOAD_PART:
                    with _errors(key):
                        upload_id = upload_id or self._client.create_multipart_upload(**target)["UploadId"]
                    done.append(self._upload_part(key, upload_id, len(done) + 1, bytes(held[:UPLOAD_PART])))
                    del held[:UPLOAD_PART]
            if not upload_id:
                with _errors(key):
                    self._client.put_object(**target, Body=bytes(held), **condition)
                return Blob(key, size, digest.hexdigest())
            done.append(self._upload_part(key, upload_id, len(done) + 1, bytes(held)))
            with _errors(key):
                self._client.complete_multipart_upload(
                    **target, UploadId=upload_id, MultipartUpload={"Parts": done}, **condition
                )
        except BaseException:
            if upload_id:
                self._abort(target, upload_id)
            raise
        return Blob(key, size, digest.hexdigest())

    def _upload_part(self, key: str, upload_id: str, number: int, data: bytes) -> dict[str, Any]:
        with _errors(key):
            answer = self._client.upload_part(**self._target(key), UploadId=upload_id, PartNumber=number, Body=data)
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def _abort(self, target: dict[str, str], upload_id: str) -> None:
        # The error under way matters more; a lifecycle rule of the bucket sweeps what is left.
        with suppress(ClientError, BotoCoreError):
            self._client.abort_multipart_upload(**target, UploadId=upload_id)

    def read_range(self, key: str, start: int, stop: int | None = None) -> Iterator[bytes]:
        if stop is not None and stop <= start:
            self.stat(key)
            return iter(())
        span = {} if start == 0 and stop is None else {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}
        try:
            with _errors(key):
                body = self._client.get_object(**self._target(key), **span)["Body"]
        except _PastTheEnd:
            return iter(())
        return _stream(body, key)

    def stat(self, key: str) -> Stat:
        with _errors(key):
            return Stat(key, self._client.head_object(**self._target(key))["ContentLength"])

    def copy(self, key: str, dest_key: str) -> None:
        # boto3's managed copy: in parts where the object is larger than one request may copy.
        with _errors(key):
            self._client.copy(self._target(key), **self._target(dest_key))

    def delete(self, key: str) -> None:
        with _errors(key):
            self._client.delete_object(**self._target(key))

    def list(self, prefix: str) -> Iterator[Stat]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix + prefix)
        with _errors(prefix):
            for page in pages:
                for found in page.get("Contents", ()):
                    yield Stat(found["Key"].removeprefix(self.prefix), found["Size"])

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{self.prefix}{check_key(key)}"

    def presign_get(self, key: str, filename: str | None = None, expires_s: int = 3600) -> str | None:
        named = {} if filename is None else {"ResponseContentDisposition": disposition(filename)}
        params = {**self._target(key), **named}
        return self._client.generate_presigned_url("get_object", Params=params, ExpiresIn=expires_s)

    def presign_put(self, key: str, size_bytes: int | None = None, content_type: str | None = None) -> Upload | None:
        headers: dict[str, str] = {}
        params: dict[str, Any] = self._target(key)
        if content_type is not None:
            params["ContentType"] = headers["Content-Type"] = content_type
        if size_bytes is not None:
            params["ContentLength"] = size_bytes
            headers["Content-Length"] = str(size_bytes)
        url = self._client.generate_presigned_url("put_object", Params=params, ExpiresIn=24 * 3600)
        return Upload("PUT", url, headers)

    def _target(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self.prefix + check_key(key)}


def disposition(filename: str) -> str:
    """A Content-Disposition value for any file name (RFC 6266)."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "_" for c in filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


class _PastTheEnd(Exception):
    """The range starts behind the last byte."""


def _stream(body: Any, key: str) -> Iterator[bytes]:
    with _errors(key), body:
        yield from body.iter_chunks(PART)


@contextmanager
def _errors(key: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        answer: Any = error.response
        code = str(answer.get("Error", {}).get("Code", ""))
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _NOT_FOUND:
            raise Missing(key) from None
        if code == "PreconditionFailed" or status == 412:
            raise Exists(key) from None
        if code == "InvalidRange" or status == 416:
            raise _PastTheEnd from None
        raise Transient("storage_unavailable", f"{key}: {error}") from error
    except BotoCoreError as error:
        raise Transient("storage_unavailable", f"{key}: {error}") from error
    except OSError as error:
        raise Transient("storage_unavailable", f"{key}: {error}") from error
