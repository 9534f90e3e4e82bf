"""Helm's templates, as far as the farm's chart uses them: lookups, `if`, `range`, and a few functions.

Anything else in a template is an error here, so that the chart stays what this can render: there is no Helm where the
tests run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

_ACTION: Final = re.compile(r"(?P<trim>\s*\{\{-|\{\{)\s*(?P<code>.*?)\s*(?P<after>-\}\}\s*|\}\})", re.DOTALL)


class Unknown(ValueError):
    """Something in a template that this cannot render."""


def render_chart(folder: Path, changes: Mapping[str, Any] | None = None, release: str = "dubfarm") -> list[Any]:
    """All documents of the chart, parsed; changes: over its values, as `helm install -f` lays them."""
    values = merged(yaml.safe_load((folder / "values.yaml").read_text()), changes or {})
    chart = yaml.safe_load((folder / "Chart.yaml").read_text())
    scope = {
        "Values": values,
        "Release": {"Name": release},
        "Chart": {"Name": chart["name"], "AppVersion": chart["appVersion"]},
    }
    documents: list[Any] = []
    for template in sorted((folder / "templates").iterdir()):
        text = render(template.read_text(), scope)
        documents += [document for document in yaml.safe_load_all(text) if document is not None]
    return documents


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for name, value in above.items():
        old = result.get(name)
        result[name] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def render(text: str, scope: Mapping[str, Any]) -> str:
    tokens = list(_tokens(text))
    written, stop = _block(tokens, 0, scope, {}, live=True)
    if stop != len(tokens):
        raise Unknown("an end too many")
    return written


def _tokens(text: str) -> Iterator[tuple[bool, str]]:
    """(is code, what it says)."""
    at = 0
    for found in _ACTION.finditer(text):
        yield False, text[at : found.start()]
        yield True, found["code"]
        at = found.end()
    yield False, text[at:]


def _block(
    tokens: list[tuple[bool, str]], at: int, scope: Mapping[str, Any], variables: dict[str, Any], live: bool
) -> tuple[str, int]:
    """What stands from `at` to its else or end, and where that is. live False: only look for the end."""
    written: list[str] = []
    while at < len(tokens):
        is_code, said = tokens[at]
        if not is_code:
            written.append(said)
        elif said in ("end", "else"):
            break
        elif loop := re.fullmatch(r"range (\$\w+), (\$\w+) := (.+)", said):
            name, value, over = loop.groups()
            pairs = sorted(_value(over, scope, variables).items()) if live else []
            for each, other in pairs:
                text, _ = _block(tokens, at + 1, scope, {**variables, name: each, value: other}, live)
                written.append(text)
            _, at = _block(tokens, at + 1, scope, variables, live=False)
        elif said.startswith("if "):
            holds = live and bool(_value(said[3:], scope, variables))
            text, at = _block(tokens, at + 1, scope, variables, live and holds)
            other = ""
            if tokens[at][1] == "else":
                other, at = _block(tokens, at + 1, scope, variables, live and not holds)
            written.append(text if holds else other)
        elif live:
            written.append(_shown(_value(said, scope, variables)))
        at += 1
    return "".join(written) if live else "", at


def _value(code: str, scope: Mapping[str, Any], variables: Mapping[str, Any]) -> Any:
    first, *then = (part.strip() for part in code.split("|"))
    value = _looked_up(first, scope, variables)
    for step in then:
        name, _, argument = step.partition(" ")
        if name == "quote" and not argument:
            value = json.dumps(_shown(value))
        elif name == "toJson" and not argument:
            value = json.dumps(value)
        elif name == "default" and argument:
            value = value or _looked_up(argument, scope, variables)
        else:
            raise Unknown(f"function {step}")
    return value


def _looked_up(code: str, scope: Mapping[str, Any], variables: Mapping[str, Any]) -> Any:
    if code in variables:
        return variables[code]
    if not re.fullmatch(r"(\.\w+)+", code):
        raise Unknown(f"expression {code}")
    value: Any = scope
    for name in code[1:].split("."):
        if name not in value:
            raise Unknown(f"{code} is nowhere in values.yaml")
        value = value[name]
    return value


def _shown(value: Any) -> str:
    """As Go prints it; a number from values.yaml is a float there, and large ones come out wrong."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float) and abs(value) >= 2**21:
        raise Unknown(f"the number {value} wants quotes in values.yaml")
    return str(value)
