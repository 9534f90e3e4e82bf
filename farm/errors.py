"""The three errors. Anything else that is raised is a bug, and stays loud."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing wrong with what the user sent: where (JSON pointer), which (code), and why (detail)."""

    code: str
    detail: str
    pointer: str = ""


class Rejected(Exception):
    """The input cannot be used as it is; trying again will not help."""

    def __init__(self, code: str, detail: str, *, pointer: str = "", problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.problems = problems or (Problem(code, detail, pointer),)

    def __reduce__(self) -> tuple[object, ...]:
        return _rejected, (self.code, self.detail, self.problems)


def _rejected(code: str, detail: str, problems: tuple[Problem, ...]) -> Rejected:
    return Rejected(code, detail, problems=problems)


class Transient(Exception):
    """Something outside the input failed for now; the same call may work later."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


class LeaseLost(Exception):
    """The right to work on this chunk has ended: stop quietly and discard what was made."""
