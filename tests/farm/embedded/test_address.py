"""farm.json: found while the farm runs, never believed after."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from farm.embedded import address
from farm.embedded.address import Address
from farm.embedded.services import hold
from farm.errors import Rejected

HERE = Address("http://127.0.0.1:8700", "dub_a_b", os.getpid(), "postgresql://x", "redis://x", "file:///x")


def test_a_farm_is_found_only_while_its_folder_is_held(tmp_path: Path) -> None:
    assert address.running(tmp_path) is None
    address.write(tmp_path, HERE)
    assert address.read(tmp_path) == HERE
    assert address.running(tmp_path) is None
    with hold(tmp_path / address.LOCK, "farm"):
        assert address.running(tmp_path) == HERE
        with pytest.raises(Rejected, match="in use by another farm"):
            hold(tmp_path / address.LOCK, "farm")
    assert address.running(tmp_path) is None


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    address.write(tmp_path, HERE)
    assert (tmp_path / address.FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", '{"url": 1}'])
def test_a_broken_file_is_no_farm(tmp_path: Path, text: str) -> None:
    (tmp_path / address.FILE).write_text(text)
    assert address.read(tmp_path) is None


def test_the_default_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DUBFARM_DATA", str(tmp_path))
    assert address.default_data_dir() == tmp_path
    monkeypatch.delenv("DUBFARM_DATA")
    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere")
    assert address.default_data_dir() == Path("/somewhere/dubfarm")
