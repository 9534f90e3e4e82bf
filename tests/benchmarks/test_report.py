"""What a benchmark prints can be read by people and, its last line, by a program."""

from __future__ import annotations

import json

import pytest

from benchmarks.report import Table, interleaved, medians, show


def test_the_last_line_is_the_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    tables = [Table("Speed", ("what", "s a frame"), [("one", 0.123456), ("the other", 12.0)])]
    show(tables, {"ratio": 97.2, "peak": None})
    lines = capsys.readouterr().out.splitlines()
    assert lines[:5] == [
        "Speed",
        "what       s a frame",
        "---------  ---------",
        "one           0.1235",
        "the other         12",
    ]
    assert json.loads(lines[-1]) == {"ratio": 97.2, "peak": None}


def test_a_row_has_a_cell_a_column() -> None:
    with pytest.raises(ValueError, match="2 cells"):
        str(Table("Speed", ("what", "s"), [("one",)]))


def test_what_is_measured_takes_turns(capsys: pytest.CaptureFixture[str]) -> None:
    called: list[str] = []
    seconds = interleaved({name: lambda name=name: called.append(name) for name in "ab"}, rounds=3)
    assert "".join(called) == "ab" + "ab" * 3
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}
    assert medians({"a": [1.0, 5.0, 2.0]}) == {"a": 2.0}
    assert capsys.readouterr().out == ""
