"""A worker that must have the whole sandbox does not start without it."""

from __future__ import annotations

import pytest

from farm.errors import Rejected
from farm.media import confine
from farm.settings import InputSettings
from workers.app import check_sandbox


def test_a_required_lock_that_this_machine_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = confine.missing()
    assert "limits" not in lacking, "those hold everywhere"
    monkeypatch.setattr(confine, "LOCKS", (*confine.LOCKS, "moat"))  # no machine has it
    assert confine.missing() == (*lacking, "moat")
    check_sandbox(InputSettings())
    monkeypatch.setenv("DUBFARM_INPUT_SANDBOX", "required")
    with pytest.raises(Rejected, match="no moat, and DUBFARM_INPUT_SANDBOX is required"):
        check_sandbox(InputSettings())
    monkeypatch.undo()
    if not lacking:
        check_sandbox(InputSettings(sandbox="required"))
