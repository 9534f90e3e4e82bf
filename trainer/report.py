"""An evaluation for people: Markdown, and one page of HTML that carries its plots and pictures with it."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from trainer import plots
from trainer.metrics import METRICS
from trainer.metrics_factors import PAPER_RATIO
from trainer.subject import CONTROLLED

TABLES: Final = {
    "factor_variance": "Disentanglement (Table VI): one code driven, all others zero",
    "factor_variance_held": "The same, the other codes held at a frame",
    "factor_variance_eyes": "The same, gaze and blink by whole eye codes of chosen frames",
}
"""Square tables, measured by controlled."""
CURVES: Final = ("lip_sync", "closed_open")
Report = Mapping[str, Any]


def save(folder: Path, report: Report, pictures: Mapping[str, bytes]) -> None:
    """evaluation.json, report.md, report.html and grids/NAME.png. pictures: PNGs by title."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").write_text(json.dumps(report, indent=2) + "\n")
    (folder / "report.md").write_text(markdown(report))
    (folder / "report.html").write_text(page(report, pictures))
    (folder / "grids").mkdir(exist_ok=True)
    for title, data in pictures.items():
        (folder / "grids" / f"{file_name(title)}.png").write_bytes(data)


def file_name(title: str) -> str:
    """Of a picture, as the registry takes it: letters, digits and dashes."""
    return "-".join("".join(c if c.isalnum() else " " for c in title.lower()).split())


def markdown(report: Report) -> str:
    """Everything that the report holds, as tables."""
    lines = [f"# Evaluation of {report['subject']['name']}", "", *_about(report)]
    for name, title in TABLES.items():
        if name in report:
            lines += ["", f"## {title}", "", *_table(*_square(report, name))]
    lines += ["", "## All metrics", "", "| metric | value | better | source |", "|---|---|---|---|"]
    for name, entry in METRICS.items():
        if name in report and name not in TABLES:
            for path, value in flat(name, report[name]):
                if "by_shift" not in path and not isinstance(value, Mapping):
                    lines.append(f"| `{path}` | {_number(value)} | {entry.better} | {entry.source} |")
    for path, value in flat("unseen_language", report.get("unseen_language", {})):
        if "by_shift" not in path:
            lines.append(f"| `{path}` | {_number(value)} | | |")
    if report.get("lacking"):
        lines += ["", "## Not asked", "", *(f"- `{name}`: {why}" for name, why in report["lacking"].items())]
    return "\n".join(lines) + "\n"


def page(report: Report, pictures: Mapping[str, bytes]) -> str:
    """One file: tables with their cells shaded, curves by shift, pictures inside."""
    parts = [f"<h1>Evaluation of {html.escape(report['subject']['name'])}</h1>"]
    parts += [f"<p>{html.escape(line.lstrip('- '))}</p>" for line in _about(report) if line]
    for name, title in TABLES.items():
        if name in report:
            columns, rows = _square(report, name)
            parts += [f"<h2>{html.escape(title)}</h2>", _says(name), _shaded(columns, rows)]
    for name in CURVES:
        curves = {
            label: part[name]["by_shift"]
            for label, part in (("unseen voices", report), ("unseen languages", report.get("unseen_language", {})))
            if name in part
        }
        if curves:
            parts += [f"<h2><code>{name}</code> by shift, frames</h2>", _says(name), plots.curves(curves)]
    for name in ("readout_r2",):
        if name in report:
            parts += [f"<h2><code>{name}</code> by factor</h2>", _says(name), plots.bars(report[name])]
    for title, data in pictures.items():
        source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
        parts += [f"<h2>{html.escape(title)}</h2>", f'<img alt="{html.escape(title)}" src="{source}">']
    parts += ["<h2>All metrics</h2>", _all(report)]
    body = "\n".join(parts)
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Evaluation</title>{_STYLE}{body}</html>\n'


def flat(name: str, value: Any) -> list[tuple[str, Any]]:
    """(dotted path, number) of everything below a key."""
    if isinstance(value, Mapping):
        return [pair for key, part in value.items() for pair in flat(f"{name}.{key}", part)]
    return [(name, value)]


def _about(report: Report) -> list[str]:
    reader = report["reader"]
    known = reader.get("r2", {})
    lines = [
        f"- judged on: {report['footage']['name']} ({report['footage']['factors']})",
        f"- read by: {reader['name']}",
    ]
    for kind, values in known.items():
        said = ", ".join(f"{name} {value:.2f}" for name, value in values.items())
        lines.append(f"- the reader's own R² on people that it never saw, frames {kind}: {said}")
    return lines


def _square(report: Report, name: str) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of a square table with its ratios, and the paper's beside them."""
    ratio = {"factor_variance": "row", "factor_variance_held": "row_held", "factor_variance_eyes": "row_eyes"}[name]
    of_row = report.get("factor_ratio", {}).get(ratio, {})
    columns = ["measured \\ controlled", *CONTROLLED, "on / max off", "the paper's"]
    rows: list[list[Any]] = [
        [measured, *(report[name][measured][c] for c in CONTROLLED), of_row.get(measured), PAPER_RATIO[measured]]
        for measured in CONTROLLED
    ]
    of_column = report.get("factor_ratio", {}).get("column", {}) if name == "factor_variance" else {}
    if of_column:
        rows.append(["on / max off, by column", *(of_column[c] for c in CONTROLLED), None, None])
    return columns, rows


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    body = [f"| {' | '.join(_number(cell) for cell in row)} |" for row in rows]
    return [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}", *body]


def _shaded(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = []
    for row in rows:
        cells = [f"<th>{html.escape(str(row[0]))}</th>"]
        for i, value in enumerate(row[1:], 1):
            square = i <= len(CONTROLLED) and row[0] in CONTROLLED and value is not None
            depth = max(0.0, min(1.0, float(value or 0))) if square else 0.0
            cells.append(f'<td style="background:rgba(40,110,180,{depth:.2f})">{_number(value)}</td>')
        body.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table><tr>{head}</tr>{''.join(body)}</table>"


def _all(report: Report) -> str:
    rows = []
    for name, entry in METRICS.items():
        if name in TABLES or name not in report:
            continue
        for path, value in flat(name, report[name]):
            if "by_shift" not in path:
                cells = (f"<code>{html.escape(path)}</code>", _number(value), entry.better, html.escape(entry.source))
                rows.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return f"<table><tr><th>metric</th><th>value</th><th>better</th><th>source</th></tr>{''.join(rows)}</table>"


def _says(name: str) -> str:
    return f"<p>{html.escape(METRICS[name].says)} ({html.escape(METRICS[name].source)})</p>"


def _number(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


_STYLE: Final = """<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #223; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
td, th { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #dde; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; image-rendering: pixelated; }
@media (prefers-color-scheme: dark) { body { background: #16181d; color: #dde; } td, th { border-color: #334; } }
</style>"""
