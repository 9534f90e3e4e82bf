"""Stored bytes as an answer: whole or one range of them (RFC 9110, section 14)."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api.errors import ApiProblem
from farm.domain.order import Blob
from farm.storage.blobs import BlobStore

_ONE_RANGE: Final = re.compile(r"^bytes=(?:(\d+)-(\d*)|-(\d+))$")


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """[start, stop) asked for, None for the whole: no header, several ranges, or another unit.

    Raises ApiProblem 416 for a range that lies outside.
    """
    match = _ONE_RANGE.match(header.strip()) if header else None
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        start, stop = max(0, size - int(suffix)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < int(first):
            return None
    if start >= stop:
        raise ApiProblem(
            "range_not_satisfiable", f"there are {size} bytes", headers={"Content-Range": f"bytes */{size}"}
        )
    return start, stop


def blob_response(request: Request, store: BlobStore, blob: Blob, media_type: str, filename: str) -> Response:
    """302 to a presigned url where the store has them, else the bytes: 200, 206, 304 or 416."""
    # A presigned url is signed for GET alone: HEAD is answered here.
    url = store.presign_get(blob.key, filename) if request.method == "GET" else None
    if url is not None:
        return Response(status_code=302, headers={"Location": url, "Cache-Control": "no-store"})
    tag = f'"{blob.sha256}"'
    headers: dict[str, str] = {
        "ETag": tag,
        "Accept-Ranges": "bytes",
        "Content-Disposition": disposition(filename),
        "Cache-Control": "private, no-cache",
    }
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    fresh = request.headers.get("if-range", tag) == tag
    part = parse_range(request.headers.get("range"), blob.size_bytes) if fresh else None
    start, stop = part or (0, blob.size_bytes)
    headers["Content-Length"] = str(stop - start)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{blob.size_bytes}"
    status = 200 if part is None else 206
    if request.method == "HEAD":
        return Response(None, status, headers, media_type)
    return StreamingResponse(store.read_range(blob.key, start, stop), status, headers, media_type=media_type)


def disposition(filename: str) -> str:
    """attachment, with a plain name for old clients and the true one in UTF-8 (RFC 6266)."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", filename).strip("_") or "file"
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
