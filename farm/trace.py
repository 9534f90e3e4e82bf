"""OpenTelemetry traces, switched on by its standard environment variables; without them nothing is imported or done.

A trace goes from a POST to the last upload and the webhooks, through processes that never call each other: the batch's
row keeps the span that wrote it (W3C traceparent), workers and relays take it up from there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from farm import log

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

_logger = log.get(__name__)
_tracer: Any = None


def setup(process: str) -> None:
    """Once, at the start of a process. On where OTEL_EXPORTER_OTLP_ENDPOINT (or …_TRACES_ENDPOINT) is set or
    OTEL_TRACES_EXPORTER is otlp or console; the SDK reads the rest (headers, sampler, resource, batching) itself."""
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "otlp" if any(map(os.environ.get, ENDPOINTS)) else "none")
    if exporter == "none" or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

        if exporter == "console":
            target: Any = ConsoleSpanExporter()
        else:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            target = OTLPSpanExporter()
    except ImportError as error:
        _logger.warning("traces are asked for but not installed: pip install 'dubfarm[otel]'", error=str(error))
        return
    named = "OTEL_SERVICE_NAME" in os.environ or "service.name" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    provider = TracerProvider(resource=Resource.create({} if named else {"service.name": f"dubfarm-{process}"}))
    provider.add_span_processor(BatchSpanProcessor(target))
    use(provider)


def use(provider: Any) -> None:
    """Trace with this provider of the SDK's; None: not any more."""
    global _tracer
    _tracer = None if provider is None else provider.get_tracer("dubfarm")
    log.annotate(None if provider is None else _ids)


def is_on() -> bool:
    return _tracer is not None


@contextmanager
def span(name: str, *, parent: str | None = None, start_ns: int | None = None, **attributes: Any) -> Iterator[Any]:
    """A span around the block, a child of the one around it, or of `parent` (a traceparent; one that
    cannot be read begins a trace). Yields it, or None where
    traces are off. start_ns: unix time where it began earlier. An exception is recorded on it and goes on."""
    if _tracer is None:
        yield None
        return
    with _tracer.start_as_current_span(
        name, context=_context(parent), attributes=_plain(attributes), start_time=start_ns
    ) as started:
        yield started


def past(name: str, start_ns: int, end_ns: int, **attributes: Any) -> None:
    """A span of what is over, a child of the current one; unix times."""
    if _tracer is not None:
        _tracer.start_span(name, attributes=_plain(attributes), start_time=start_ns).end(end_ns)


def traceparent() -> str | None:
    """The current span, as W3C Trace Context writes it; None where there is none."""
    if _tracer is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


def _context(parent: str | None) -> Any:
    if parent is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": parent})


def _ids() -> Mapping[str, str]:
    """For the lines of the log."""
    from opentelemetry.trace import get_current_span

    context = get_current_span().get_span_context()
    return {"trace": f"{context.trace_id:032x}", "span": f"{context.span_id:016x}"} if context.is_valid else {}


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in attributes.items() if value is not None}
