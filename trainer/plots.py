"""Plots as inline SVG: curves by shift, bars by factor, losses by step."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Final

WIDE, HIGH, EDGE = 640, 220, 34
INKS: Final = ("#286eb4", "#c0562a", "#3a8a4d", "#7a4fb0")


def curves(by_name: Mapping[str, Mapping[str, float | None]]) -> str:
    """Lines over shifts, from -1 to 1."""
    shifts = sorted({int(shift) for values in by_name.values() for shift in values})
    across = (WIDE - 2 * EDGE) / max(1, shifts[-1] - shifts[0])

    def place(shift: int, value: float) -> str:
        return f"{EDGE + (shift - shifts[0]) * across:.1f},{_down(value):.1f}"

    parts = [_line(EDGE, _down(level), WIDE - EDGE, _down(level), f"{level:g}") for level in (-0.5, 0.0, 0.5, 1.0)]
    for i, (name, values) in enumerate(by_name.items()):
        points = " ".join(place(s, value) for s in shifts if (value := values.get(str(s))) is not None)
        parts.append(f'<polyline fill="none" stroke="{INKS[i % 4]}" stroke-width="2" points="{points}"/>')
        parts.append(_text(WIDE - EDGE - 150, 16 + 15 * i, name, INKS[i % 4]))
    parts += [_text(EDGE + (s - shifts[0]) * across - 6, HIGH - 8, str(s)) for s in shifts if s % 5 == 0]
    return _svg(parts)


def bars(by_name: Mapping[str, Mapping[str, float | None]]) -> str:
    """Groups of bars from 0 to 1 by name; what lies below 0 is drawn as 0."""
    factors = list(next(iter(by_name.values())))
    group = (WIDE - 2 * EDGE) / max(1, len(factors))
    thick = 0.8 * group / len(by_name)
    floor = HIGH - 2 * EDGE
    parts = [_line(EDGE, floor - level * (floor - 20), WIDE - EDGE, None, f"{level:g}") for level in (0.0, 0.5, 1.0)]
    for i, (name, values) in enumerate(by_name.items()):
        for j, factor in enumerate(factors):
            value = max(0.0, min(1.0, values.get(factor) or 0.0))
            tall, left = value * (floor - 20), EDGE + j * group + i * thick
            title = f"<title>{html.escape(f'{factor}, {name}: {values.get(factor)}')}</title>"
            parts.append(
                f'<rect x="{left:.1f}" y="{floor - tall:.1f}" width="{thick:.1f}" height="{tall:.1f}" '
                f'fill="{INKS[i % 4]}">{title}</rect>'
            )
        parts.append(_text(WIDE - EDGE - 100, 12 + 13 * i, name, INKS[i % 4]))
    for j, factor in enumerate(factors):
        at = f"{EDGE + j * group + 6:.1f},{floor + 10}"
        parts.append(f'<text transform="translate({at}) rotate(40)" font-size="10">{html.escape(factor)}</text>')
    return _svg(parts)


def terms(by_stage: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """A training's curves (`curves.summary`): a panel a stage, a line a term, each on a scale from its own smallest to
    its own largest value (written beside it), logarithmic where all are positive. One SVG file."""
    panels = []
    for number, (stage, by_term) in enumerate(by_stage.items()):
        parts = [_text(EDGE, 16, stage)]
        for i, (name, values) in enumerate(by_term.items()):
            finite = [value for value in values if math.isfinite(value)]
            if not finite:
                continue
            scale = math.log if min(finite) > 0 else float
            low, high = scale(min(finite)), scale(max(finite))
            across = (WIDE - 2 * EDGE - 200) / max(1, len(values) - 1)
            points = " ".join(
                f"{EDGE + at * across:.1f},{24 + (1 - (scale(value) - low) / max(high - low, 1e-9)) * (HIGH - 48):.1f}"
                for at, value in zip(count(), values)
                if math.isfinite(value)
            )
            ink = INKS[i % len(INKS)]
            parts.append(f'<polyline fill="none" stroke="{ink}" stroke-width="1.5" points="{points}"/>')
            words = f"{name}: {finite[-1]:.4g} ({min(finite):.3g} to {max(finite):.3g})"
            parts.append(_text(WIDE - EDGE - 190, 20 + 14 * i, words, ink))
        panels.append(f'<g transform="translate(0 {number * HIGH})">{"".join(parts)}</g>')
    size = f'viewBox="0 0 {WIDE + 120} {HIGH * len(panels)}" width="{WIDE + 120}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} fill="#333" style="background: #fff">{"".join(panels)}</svg>'
    )


def _down(value: float) -> float:
    return EDGE + (1 - value) / 1.5 * (HIGH - 2 * EDGE)


def _line(x: float, y: float, x2: float, y2: float | None, label: str) -> str:
    end = y if y2 is None else y2
    return f'<line x1="{x}" y1="{y:.1f}" x2="{x2}" y2="{end:.1f}" stroke="#8894"/>' + _text(4, y + 4, label)


def _text(x: float, y: float, words: str, ink: str = "currentColor") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="11" fill="{ink}">{html.escape(words)}</text>'


def _svg(parts: list[str]) -> str:
    return f'<svg viewBox="0 0 {WIDE} {HIGH}" width="{WIDE}" role="img" fill="currentColor">{"".join(parts)}</svg>'
