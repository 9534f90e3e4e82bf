"""What people and scripts see. With --json, standard output holds JSON and nothing else."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from farm.cli.exits import Failed

PIPE_COLUMNS = 400


class Terminal:
    """One for the process; each command says at its start whether it speaks JSON."""

    def __init__(self) -> None:
        self.json = False
        self.out = Console(soft_wrap=True)
        self.err = Console(stderr=True, soft_wrap=True)

    def begin(self, as_json: bool) -> None:
        self.json = as_json
        # rich looks at sys.stdout when it is made; tests and pipes may have changed it since.
        self.out = Console(soft_wrap=True)
        self.err = Console(stderr=True, soft_wrap=True)

    def answer(self, data: Any) -> None:
        """The machine-readable answer; silent for people."""
        if self.json:
            sys.stdout.write(json.dumps(plain(data), ensure_ascii=False) + "\n")
            sys.stdout.flush()

    def say(self, text: str) -> None:
        """The answer for people; silent with --json. `text` may hold rich markup."""
        if not self.json:
            self.out.print(text)

    def note(self, text: str) -> None:
        """Something on the way, on standard error; silent with --json."""
        if not self.json:
            self.err.print(f"[dim]{escape(text)}[/dim]")

    def warn(self, text: str) -> None:
        if not self.json:
            self.err.print(f"[yellow]{escape(text)}[/yellow]")

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
        if self.json:
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for number, heading in enumerate(headings):
            # Ids and paths are there to be copied whole: the first column in one piece, others at least unshortened.
            table.add_column(heading, overflow="fold", no_wrap=number == 0)
        count = 0
        for row in rows:
            table.add_row(*("" if cell is None else escape(str(cell)) for cell in row))
            count += 1
        # A pipe has no width: there a row stays a line.
        wide = self.out if self.out.is_terminal else Console(soft_wrap=True, width=PIPE_COLUMNS)
        wide.print(table if count else empty)

    def fail(self, failed: Failed) -> None:
        if self.json:
            error = {"code": failed.code, "detail": failed.detail, "fix": failed.fix or None, "errors": failed.errors}
            self.answer({"error": error, "exit_code": int(failed.exit_code)})
            return
        self.err.print(f"[red]error[/red] {escape(failed.detail)}")
        for error in failed.errors:
            if error["detail"] != failed.detail:
                where = f"{error['pointer']}: " if error["pointer"] else ""
                self.err.print(f"  {escape(where + error['detail'])}")
        if failed.fix:
            self.err.print(f"  -> {escape(failed.fix)}")

    def transfer(self) -> Progress:
        """A bar of bytes."""
        return self.bars(DownloadColumn(), TransferSpeedColumn())

    def bars(self, *columns: ProgressColumn, transient: bool = True) -> Progress:
        """A bar a task, with `columns` beside it; shown on standard error, and only to people."""
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            *columns,
            TimeElapsedColumn(),
            console=self.err,
            transient=transient,
            disable=self.json or not self.err.is_terminal,
        )


terminal = Terminal()


def plain(value: Any) -> Any:
    """Dataclasses, times and paths as JSON knows them."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(part) for part in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    return value


def ago(then: datetime | None, now: datetime) -> str:
    """How long ago, in one unit."""
    if then is None:
        return ""
    seconds = max(0, int((now - then).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
