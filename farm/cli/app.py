"""`dubfarm`: the command's tree, and the one place where errors become exit codes. Nothing here loads torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer
from typer.exceptions import Abort, TyperException
from typer.exceptions import Exit as TyperExit

from farm import __version__
from farm.cli import (
    audit,
    batches,
    demo,
    doctor,
    dubbing,
    fleet,
    jobs,
    keys,
    models,
    setup,
    tenants,
    training,
    up,
    webhooks,
)
from farm.cli.exits import Exit, Failed, explained
from farm.cli.terminal import terminal

app = typer.Typer(
    name="dubfarm",
    help="The render farm for visual dubbing: new voice in, lips that follow it out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 ok, 1 a job failed, 2 usage, 3 key refused, 4 time-out, 5 farm not reachable or broken.",
)
app.command("up")(up.up)
app.command("demo")(demo.demo)
app.command("dub")(dubbing.dub)
app.command("animate")(dubbing.animate)
app.add_typer(batches.app, name="batch")
app.add_typer(jobs.app, name="job")
app.add_typer(training.app, name="train")
app.add_typer(models.app, name="models")
app.command("workers")(fleet.workers)
app.add_typer(keys.app, name="keys")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(tenants.app, name="tenants")
app.command("usage")(tenants.usage)
app.command("audit")(audit.audit)
app.command("doctor")(doctor.doctor)
app.command("setup")(setup.setup)


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Print the version and end.")) -> None:
    if version:
        print(f"dubfarm {__version__}")
        raise TyperExit(0)


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit code. Errors are told without a traceback (DUBFARM_DEBUG=1 shows it)."""
    terminal.begin("--json" in arguments)
    try:
        code = app(list(arguments), prog_name="dubfarm", standalone_mode=False)
        return int(code) if isinstance(code, int) else Exit.OK
    except TyperExit as error:
        return error.exit_code
    except TyperException as error:
        show = getattr(error, "show", None)  # a mistake in the arguments shows the command's usage too
        if terminal.json or show is None:
            terminal.fail(Failed(Exit.USAGE, "usage", error.format_message()))
        else:
            show()
        return Exit.USAGE
    except (Abort, KeyboardInterrupt):
        terminal.fail(Failed(Exit.INTERRUPTED, "interrupted", "interrupted"))
        return Exit.INTERRUPTED
    except Exception as error:
        failed = explained(error)
        if failed is None or os.environ.get("DUBFARM_DEBUG"):
            raise
        terminal.fail(failed)
        return failed.exit_code


def main() -> None:
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = Exit.OK
    sys.exit(code)
