"""How the command ends: exit codes that scripts can rely on, and failures that say what to do."""

from __future__ import annotations

from enum import IntEnum

from farm.client import ApiError, DownloadDamaged, Unreachable
from farm.errors import Rejected, Transient


class Exit(IntEnum):
    OK = 0
    FAILED_JOB = 1
    USAGE = 2
    AUTH = 3
    TIME_OUT = 4
    SERVER = 5
    INTERRUPTED = 130


class Failed(Exception):
    """The command ends here. `fix` says what to do about it."""

    def __init__(
        self, exit_code: Exit, code: str, detail: str, *, fix: str = "", errors: tuple[dict[str, str], ...] = ()
    ) -> None:
        super().__init__(detail)
        self.exit_code = exit_code
        self.code = code
        self.detail = detail
        self.fix = fix
        self.errors = errors


def usage(code: str, detail: str, fix: str = "") -> Failed:
    return Failed(Exit.USAGE, code, detail, fix=fix)


def explained(error: Exception) -> Failed | None:
    """What an error of the layers below means to the user of a command; None: a bug, which stays loud."""
    if isinstance(error, Failed):
        return error
    if isinstance(error, ApiError):
        return _of_api(error)
    if isinstance(error, Unreachable):
        return Failed(
            Exit.SERVER,
            "unreachable",
            f"no answer from {error}",
            fix="check --server / DUBFARM_URL, or start a farm on this machine with: dubfarm up",
        )
    if isinstance(error, DownloadDamaged):
        return Failed(Exit.SERVER, "download_damaged", str(error), fix="run the download again")
    if isinstance(error, Rejected):
        return Failed(Exit.USAGE, error.code, error.detail)
    if isinstance(error, Transient):
        return Failed(Exit.SERVER, error.code, error.detail, fix="dubfarm doctor looks for the cause")
    if isinstance(error, TimeoutError):
        return Failed(Exit.TIME_OUT, "time_out", str(error))
    if isinstance(error, OSError):
        return Failed(Exit.USAGE, "os_error", str(error))
    return None


def _of_api(error: ApiError) -> Failed:
    errors = tuple({"pointer": e.pointer, "code": e.code, "detail": e.detail} for e in error.errors)
    detail = error.detail or error.title or f"HTTP {error.status}"
    if error.status in (401, 403):
        fix = "give a key of this farm with --key or DUBFARM_KEY (dubfarm keys create makes one)"
        if error.status == 403:
            fix = "the key lacks the scope for this; give another with --key or DUBFARM_KEY"
        return Failed(Exit.AUTH, error.code, detail, fix=fix, errors=errors)
    if error.status >= 500 or error.status == 429:
        told = f" (request {error.request_id})" if error.request_id else ""
        return Failed(Exit.SERVER, error.code, f"{detail}{told}", fix="try again; the farm's logs hold the request")
    return Failed(Exit.USAGE, error.code, detail, errors=errors)
