"""`python -m tests.api.fuzz [--count N] [--seed N]`: mutated requests against a live API process.

Every answer must come in time, must not be a 5xx, and every 4xx must be a problem with a code of the documented ones.
Paths, methods and bodies grow from the OpenAPI document, with ids that exist, and are then damaged: seeded, so that a
finding can be made again.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlsplit

from api.errors import STATUS_OF_CODE
from benchmarks import live

LIMIT_S: Final = 30.0
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "get", "X" * 40)
ODD: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**400, -(10**30), 1e308, float("nan"), float("inf"), -0.0, "",
    " ", "0", "null", "\0", "a\0b", "\ud800", "\U0010ffff", "é", "‮", "x" * 300, "x" * 70_000, "../../etc/passwd", "%00",
    "' OR 1=1 --", "<script>", "{{7*7}}", "$ref", [], {}, [[]], [None], {"": ""}, {"\0": 1}, [0] * 300,
    "ast_" + "0" * 32, "2026-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "file:///etc/passwd",
    "http://127.0.0.1:1/", "s3://b/" + "k" * 3000, "https://[::1]/", "https://a:b@c/",
)  # fmt: skip
TYPES: Final = (
    "application/json", "application/json; charset=utf-16", "text/plain", "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x", "application/problem+json", "", "application/JSON", "application/json;;;",
    "\xff",
)  # fmt: skip
HEADERS: Final = (
    ("Idempotency-Key", ("", "k", "x" * 255, "x" * 256, "\x7f", "ü", "a b")),
    (
        "Range",
        ("bytes=0-", "bytes=-1", "bytes=9-1", "bytes=99999999999999999999-", "bytes=a-b", "bytes=0-1,2-3", "x=1-2"),
    ),
    ("If-Range", ("", '"x"', 'W/"x"')),
    ("If-None-Match", ("*", '"x"')),
    ("Accept", ("text/html", "", "*/*;q=x")),
    ("Last-Event-ID", ("x", "-1", "9" * 40, "", "1")),
    ("Authorization", ("", "Bearer", "Bearer x", "Basic eDp5", "Bearer dub_a_b", "Bearer " + "x" * 5000, "\xff\xfe")),
    ("Expect", ("100-continue",)),
    ("X-HTTP-Method-Override", ("DELETE",)),
    ("Content-Encoding", ("gzip", "x")),
    ("Host", ("", "a b", "evil.example:99999")),
    ("Origin", ("null",)),
)


@dataclass
class Found:
    """What is wrong, and how many answers of each status came."""

    wrong: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)


class Fuzzer:
    def __init__(self, url: str, key: str, seed: int) -> None:
        self.url, self.key = urlsplit(url), key
        self.dice = random.Random(seed)
        self.document = json.loads(self._ask("GET", "/openapi.json", None, {})[2])
        self.schemas = self.document["components"]["schemas"]
        self.operations = [
            (path, method, operation)
            for path, methods in self.document["paths"].items()
            for method, operation in methods.items()
            if not path.endswith("/events")  # open while nothing renders; fuzzed with what cannot be below
        ]
        self.ids: dict[str, list[str]] = {}
        self._fill()

    def _fill(self) -> None:
        """Things that exist, so that mutated requests get past the look-ups."""
        items = [
            {"custom_id": f"c{n}", "kind": "dub", "video": {"uri": "s3://b/v"}, "audio": {"uri": "s3://b/a"}}
            for n in range(3)
        ]
        for _ in range(2):
            batch = self._json("POST", "/v1/batches", {"items": items})
            self.ids.setdefault("batch_id", []).append(batch["id"])
            jobs = self._json("GET", f"/v1/batches/{batch['id']}/jobs", None)["data"]
            self.ids.setdefault("job_id", []).extend(job["id"] for job in jobs)
            self.ids.setdefault("asset_id", []).append(self._json("POST", "/v1/assets", {})["id"])
        self.ids |= {"model": ["pdfgc"], "version": ["champion", "live"], "alias": ["champion", "canary"]}
        self.ids["tenant_id"] = [self._json("POST", "/v1/tenants", {"name": f"fuzzed {self.dice.random()}"})["id"]]
        self.ids["key_id"] = [self._json("POST", "/v1/keys", {"name": "x"})["id"]]

    def _json(self, method: str, path: str, body: object) -> Any:
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        status, _, answer = self._ask(method, path, content, headers)
        assert status < 300, (method, path, status, answer)
        return json.loads(answer)

    def _ask(
        self, method: str, path: str, content: bytes | Iterator[bytes] | None, headers: dict[str, str]
    ) -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection(self.url.hostname or "", self.url.port, timeout=LIMIT_S)
        try:
            connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
            chunked = content is not None and not isinstance(content, bytes)
            if isinstance(content, bytes) and "Content-Length" not in headers:
                connection.putheader("Content-Length", str(len(content)))
            if chunked:
                connection.putheader("Transfer-Encoding", "chunked")
            for name, value in headers.items():
                connection.putheader(name, value.encode("latin-1", "replace"))
            connection.endheaders(content, encode_chunked=chunked)
            answer = connection.getresponse()
            return answer.status, answer.headers.get_content_type(), answer.read()
        finally:
            connection.close()

    def mutated(self) -> tuple[str, str, bytes | Iterator[bytes] | None, dict[str, str]]:
        dice = self.dice
        path, method, operation = dice.choice(self.operations)
        parameters = operation.get("parameters", ())
        for parameter in parameters:
            if parameter["in"] == "path":
                good = dice.choice(self.ids.get(parameter["name"], ["x"]))
                text = good if dice.random() < 0.75 else self._damaged(good)
                path = path.replace("{" + parameter["name"] + "}", text)
        query = [(p["name"], self._text()) for p in parameters if p["in"] == "query" and dice.random() < 0.5]
        if dice.random() < 0.1:
            query.append((self._text(), self._text()))
        if query:
            path += "?" + "&".join(f"{name}={value}" for name, value in query)
        if dice.random() < 0.05:
            path = dice.choice(
                [
                    "//",
                    "/v1//batches",
                    "/v1/%2e%2e/",
                    path + "/",
                    path.upper(),
                    "/" + "a" * 5000,
                    path + "%FF",
                    "/v1/batches%0d%0aX:y",
                ]
            )
        headers = {"Authorization": f"Bearer {self.key}"}
        content: bytes | Iterator[bytes] | None = None
        if "requestBody" in operation:
            kind, schema = next(iter(operation["requestBody"]["content"].items()))
            content = (
                self._bytes(self._value(schema["schema"], 0))
                if kind == "application/json"
                else dice.randbytes(dice.randrange(50))
            )
            headers["Content-Type"] = kind if dice.random() < 0.9 else dice.choice(TYPES)
        elif dice.random() < 0.1:
            content, headers["Content-Type"] = self._bytes(dice.choice(ODD)), dice.choice(TYPES)
        if content and dice.random() < 0.1:
            whole, cut = content, dice.randrange(len(content))
            content = iter([whole[:cut], whole[cut:]] if cut else [whole])
        for name, values in HEADERS:
            if dice.random() < 0.04:
                headers[name] = dice.choice(values)
        if dice.random() < 0.08:
            method = dice.choice(METHODS)
        return method.upper() if dice.random() < 0.99 else method, path, content, headers

    def _damaged(self, text: str) -> str:
        dice = self.dice
        at = dice.randrange(len(text) + 1)
        odd = dice.choice(["", "%00", "%2f", "%ff", "..", "é", "x" * 3000, "%0a", "'", "%20", ";", "%25"])
        return quote(text[:at] + odd + text[at + dice.randrange(3) :], safe="%/;'.")

    def _text(self) -> str:
        value = self.dice.choice(ODD)
        text = value if isinstance(value, str) else str(value)
        return quote(text.encode("utf-8", "surrogatepass")[:4000], safe="")

    def _value(self, schema: dict[str, Any], depth: int) -> Any:
        """Mostly what the schema wants, sometimes anything at all."""
        dice = self.dice
        if dice.random() < 0.04 or depth > 8:
            return dice.choice(ODD)
        if "$ref" in schema:
            return self._value(self.schemas[schema["$ref"].rpartition("/")[2]], depth)
        for name in ("anyOf", "oneOf"):
            if name in schema:
                return self._value(dice.choice(schema[name]), depth)
        if "const" in schema or "enum" in schema:
            return dice.choice(schema.get("enum") or [schema["const"]])
        match schema.get("type"):
            case "object":
                needed = set(schema.get("required", ()))
                found = {
                    name: self._value(part, depth + 1)
                    for name, part in schema.get("properties", {}).items()
                    if name in needed or dice.random() < 0.3
                }
                if dice.random() < 0.06 and found:
                    del found[dice.choice(list(found))]
                if dice.random() < 0.06:
                    found[str(dice.choice(ODD))[:80]] = dice.choice(ODD)
                return found
            case "array":
                return [self._value(schema.get("items", {}), depth + 1) for _ in range(dice.choice([0, 1, 1, 2, 3]))]
            case "integer":
                return dice.choice([schema.get("minimum", 0), schema.get("maximum", 9), 1, 50])
            case "number":
                return dice.choice([schema.get("minimum", 0), schema.get("maximum", 9), 0.5, 1e-9])
            case "boolean":
                return dice.random() < 0.5
            case "string":
                some = ["a", "s3://b/k", "https://example.com/v.mp4", "live", *self.ids.get("asset_id", [])]
                return dice.choice([*some, "2030-01-01T00:00:00Z", "read", "0" * 64])
        return dice.choice(ODD)

    def _bytes(self, value: Any) -> bytes:
        dice = self.dice
        text = json.dumps(value, ensure_ascii=dice.random() < 0.7).encode("utf-8", "surrogatepass")
        match dice.randrange(40):
            case 0:
                return text[: dice.randrange(len(text) + 1)]
            case 1:
                at = dice.randrange(len(text) + 1)
                return text[:at] + dice.randbytes(3) + text[at:]
            case 2:
                return b"[" * 20_000 + b"]" * 20_000
            case 3:
                return b'{"items":' * 3000 + b"1" + b"}" * 3000
            case 4:
                return b"{" + b'"name":"a","name":"b",' + text[1:] if text[:1] == b"{" and len(text) > 2 else text
            case 5:
                return b"\xef\xbb\xbf" + text
            case 6:
                return text.decode("utf-8", "replace").encode("utf-16")
            case 7:
                return b'{"items": [' + b"1e999," * 50 + b"NaN, -Infinity]}"
            case 8:
                return b""
        return text

    def run(self, count: int, found: Found, say_every: int = 1000) -> None:
        for number in range(count):
            method, path, content, headers = self.mutated()
            sent = content if content is None or isinstance(content, bytes) else b"(chunked)"
            label = f"{method} {path[:200]} {headers} {(sent or b'')[:300]!r}"
            try:
                status, kind, answer = self._ask(method, path, content, headers)
            except TimeoutError:
                found.wrong.append(f"no answer in {LIMIT_S} s: {label}")
                continue
            except (BrokenPipeError, ConnectionResetError):
                status, kind, answer = 0, "", b""  # refused before the body was read whole
            except (http.client.HTTPException, ValueError):
                continue  # this client cannot send such a thing
            found.statuses[status] += 1
            if status >= 500:
                found.wrong.append(f"{status}: {label} -> {answer[:300]!r}")
            elif status >= 400 and method.upper() != "HEAD" and not _is_problem(status, kind, answer):
                found.wrong.append(f"{status} {kind}, not a problem: {label} -> {answer[:300]!r}")
            if say_every and (number + 1) % say_every == 0:
                print(
                    f"{number + 1} requests: {dict(sorted(found.statuses.items()))}, {len(found.wrong)} wrong",
                    file=sys.stderr,
                    flush=True,
                )


def _is_problem(status: int, kind: str, answer: bytes) -> bool:
    if status == 400 and answer == b"Invalid HTTP request received.":
        return True  # not HTTP: the server's parser says so before there is a request
    if kind != "application/problem+json":
        return False
    problem = json.loads(answer)
    return (
        problem["status"] == status
        and isinstance(problem["code"], str)
        and (status == 422 or problem["code"] in STATUS_OF_CODE)
    )


def run(url: str, key: str, seed: int, count: int, threads: int = 2, say_every: int = 1000) -> Found:
    """`count` requests from `threads` at once, each with dice of its own."""
    found = Found()
    fuzzers = [Fuzzer(url, key, seed * 1000 + n) for n in range(threads)]
    runs = [threading.Thread(target=f.run, args=(count // threads, found, say_every)) for f in fuzzers]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with live.api(durable=False) as farm:
        found = run(farm.url, farm.key, arguments.seed, arguments.count)
        alive = farm.process.poll() is None
    for line in found.wrong[:50]:
        print(line)
    print(
        json.dumps(
            {
                "seed": arguments.seed,
                "requests": sum(found.statuses.values()),
                "statuses": dict(sorted(found.statuses.items())),
                "wrong": len(found.wrong),
                "alive": alive,
            }
        )
    )
    sys.exit(1 if found.wrong or not alive else 0)


if __name__ == "__main__":
    main()
