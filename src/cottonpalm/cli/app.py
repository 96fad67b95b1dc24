"""`cottonpalm`: rows in, answers out. Data goes to files and stdout, everything for people to stderr."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cottonpalm import __version__
from cottonpalm.cli.context import argv_of, screen_of
from cottonpalm.cli.options import of_commands as o  # noqa: TC001 - typer reads the annotations
from cottonpalm.cli.options.typer_classes import Command, Group
from cottonpalm.cli.run_and_plan import plan, run
from cottonpalm.cli.screen.explained import check_text, explain, interrupted
from cottonpalm.cli.signals import hold_standard_streams, leave_standard_error
from cottonpalm.cli.stored_runs import cancel, collect, dashboard, export, report, retry, rm, status
from cottonpalm.shell import Code

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    name="cottonpalm",
    help="Runs a prompt or a LangChain chain over every row of a file, and loses nothing.",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"cottonpalm {__version__}")
        raise typer.Exit


@app.callback()
def cottonpalm(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, metavar="", help="Show the version and leave."
        ),
    ] = False,
) -> None:
    """Runs a prompt or a LangChain chain over every row of a file, and loses nothing."""


def init() -> int:
    """Write a cottonpalm.toml with comments to this folder: options that its commands share."""
    from cottonpalm.cli.options.config_file import write_beginning

    typer.echo(f"{write_beginning()} is written; what stands in it holds for run and plan in this folder")
    return Code.OK


def demo(
    context: typer.Context,
    *,
    rows: Annotated[
        int, typer.Option("--rows", "-n", metavar="N", min=1, help="How many sentences to label.")
    ] = 100,
    progress: o.ShowProgress = True,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    """A real run on real input with the embedded model: label product reviews, and count how many are right."""
    from cottonpalm.cli.commands.demo import show_demo

    return show_demo(
        rows, screen_of(context, quiet=quiet, verbose=verbose, progress=progress), argv_of(context)
    )


for _command in (run, plan, retry, collect, cancel, export, report, status, dashboard, init, rm, demo):
    app.command(cls=Command)(_command)  # --help has them in this order


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code; every error is one line on stderr."""
    hold_standard_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    state: dict[str, Any] = {"argv": words}
    try:
        check_text(words)
        code = app(args=words, prog_name="cottonpalm", standalone_mode=False, obj=state)
    except KeyboardInterrupt:
        return interrupted()
    except Exception as error:  # noqa: BLE001 - the last place: everything becomes one line and a code
        return explain(error, state)
    finally:
        gc.enable()
        leave_standard_error()
    if code == Code.INTERRUPTED and not isinstance(code, Code):  # typer's own: Ctrl-C outside a run
        return interrupted()
    return int(code or 0)


if __name__ == "__main__":
    sys.exit(main())
