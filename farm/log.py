"""structlog, as lines for people or as JSON, with batch, job, chunk, attempt, worker and trace ids bound."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, Final

import structlog

KEPT_CHARACTERS: Final = 64 * 1024
"""So much is kept of the lines of one `kept` block: the first half, and then the newest."""

_annotation: Callable[[], Mapping[str, str]] | None = None
_kept: ContextVar[Lines | None] = ContextVar("kept", default=None)


def setup(process: str, *, json: bool = False, level: int = logging.INFO) -> None:
    """Once, at the start of a process; the standard library's loggers come out the same way."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        _annotated,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: Any = (
        structlog.processors.JSONRenderer()
        if json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # Not rich's: it prints local variables, users' keys and bodies among them.
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    structlog.configure(
        processors=[*shared, _keep, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                last,
            ]
            if json
            else [structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    structlog.contextvars.bind_contextvars(process=process)


def get(name: str) -> Any:
    """A logger: `log.info("chunk settled", frames=120)`."""
    return structlog.get_logger(name)


def bound(**ids: object) -> AbstractContextManager[object]:
    """Bind ids (batch=, job=, chunk=, worker=) to every line written in this thread inside the block."""
    return structlog.contextvars.bound_contextvars(**ids)


def annotate(with_ids: Callable[[], Mapping[str, str]] | None) -> None:
    """Ask this for more ids at every line (farm.trace)."""
    global _annotation
    _annotation = with_ids


class Lines:
    """Lines as plain text, bounded."""

    def __init__(self) -> None:
        self._first: list[str] = []
        self._last: list[str] = []
        self._sizes = [0, 0]
        self._left_out = 0

    def add(self, line: str) -> None:
        line = line[: KEPT_CHARACTERS // 4]
        if not self._last and self._sizes[0] + len(line) <= KEPT_CHARACTERS // 2:
            self._first.append(line)
            self._sizes[0] += len(line)
            return
        self._last.append(line)
        self._sizes[1] += len(line)
        while self._sizes[1] > KEPT_CHARACTERS // 2:
            self._sizes[1] -= len(self._last.pop(0))
            self._left_out += 1

    def text(self) -> str:
        between = [f"... {self._left_out} lines left out ..."] if self._left_out else []
        return "".join(f"{line}\n" for line in (*self._first, *between, *self._last))


@contextmanager
def kept() -> Iterator[Lines]:
    """The lines that this thread writes inside the block, for whoever may read them later."""
    lines = Lines()
    before = _kept.set(lines)
    try:
        yield lines
    finally:
        _kept.reset(before)


def _annotated(_logger: Any, _method: str, event: Any) -> Any:
    if _annotation is not None:
        event.update(_annotation())
    return event


def _keep(_logger: Any, _method: str, event: Any) -> Any:
    lines = _kept.get()
    if lines is not None:
        shown = dict(event)
        head = f"{shown.pop('timestamp', '')} {shown.pop('level', '')} {shown.pop('event', '')}"
        error = shown.pop("exc_info", None)
        if error is True:
            error = sys.exc_info()[1]
        rest = "".join(f" {key}={value}" for key, value in shown.items() if not key.startswith("_"))
        lines.add((head + rest).strip())
        if isinstance(error, BaseException):
            lines.add("".join(traceback.format_exception(error)).rstrip())
    return event
