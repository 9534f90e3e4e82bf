"""Traces by the real SDK, and the lines that are kept of an attempt."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from farm import log, trace


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.use(provider)
    yield exporter
    trace.use(None)
    provider.shutdown()


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_span_goes_on_from_another_process(spans: InMemorySpanExporter) -> None:
    with trace.span("submit"):
        carried = trace.traceparent()
    assert carried is not None
    assert trace.traceparent() is None
    with trace.span("render", parent=carried, start_ns=1_000, job="job_1", nothing=None):
        trace.past("claim", 1_000, 2_000)
    found = by_name(spans)
    submit, render, claim = found["submit"], found["render"], found["claim"]
    assert len({span.context.trace_id for span in found.values() if span.context}) == 1
    assert submit.context is not None
    assert render.context is not None
    assert render.parent is not None
    assert render.parent.span_id == submit.context.span_id
    assert claim.parent is not None
    assert claim.parent.span_id == render.context.span_id
    assert (render.start_time, claim.end_time) == (1_000, 2_000)
    assert dict(render.attributes or {}) == {"job": "job_1"}


def test_an_exception_is_on_the_span_and_goes_on(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ZeroDivisionError), trace.span("stages"):
        _ = 1 / 0
    (span,) = spans.get_finished_spans()
    assert not span.status.is_ok
    assert span.events[0].name == "exception"


def test_a_traceparent_that_is_none_begins_a_trace(spans: InMemorySpanExporter) -> None:
    with trace.span("an earlier request"):
        for parent in ("nonsense", ""):
            with trace.span("POST", parent=parent):
                pass
    assert [span.parent for span in spans.get_finished_spans() if span.name == "POST"] == [None, None]


def test_off_costs_no_import() -> None:
    program = (
        "import sys; from farm import trace; trace.setup('x')\n"
        "with trace.span('a') as s: assert s is None and trace.traceparent() is None\n"
        "trace.past('b', 1, 2); assert not trace.is_on()\n"
        "assert not any(name.startswith('opentelemetry') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={"PATH": "/usr/bin:/bin"}, cwd=".")


def test_lines_are_kept_with_their_ids(spans: InMemorySpanExporter) -> None:
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, log._annotated, log._keep, _drop])
    logger = structlog.get_logger()
    try:
        with trace.span("render"), log.bound(job="job_1"), log.kept() as lines:
            logger.info("chunk claimed", work="render")
            try:
                raise ValueError("broken")
            except ValueError as error:
                logger.error("chunk failed", exc_info=error)
        logger.info("elsewhere")
    finally:
        structlog.reset_defaults()
    text = lines.text()
    assert "chunk claimed work=render job=job_1 trace=" in text
    assert "ValueError: broken" in text
    assert "elsewhere" not in text


def _drop(_logger: object, _method: str, _event: object) -> str:
    raise structlog.DropEvent


def test_kept_lines_are_bounded_and_keep_both_ends() -> None:
    with log.kept() as lines:
        for number in range(5000):
            lines.add(f"line {number} {'x' * 60}")
    text = lines.text()
    assert len(text) < log.KEPT_CHARACTERS * 1.1
    assert text.startswith("line 0 ")
    assert text.splitlines()[-1].startswith("line 4999 ")
    assert "lines left out" in text
