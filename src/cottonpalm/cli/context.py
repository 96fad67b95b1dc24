"""What a command finds round it: the screen on which it speaks, and the words it was given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cottonpalm.cli.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    import typer

    from cottonpalm.cli.screen import Screen


def screen_of(context: typer.Context, *, quiet: bool, verbose: bool, progress: bool) -> Screen:
    """Make the command's screen.

    Raises:
        Problem: it is to say nothing, and more.
    """
    from cottonpalm.cli.screen import Screen

    if quiet and verbose:
        raise Problem("say -q or -v, not both")
    screen = Screen(quiet=quiet, verbose=verbose, progress=progress)
    context.find_root().obj["screen"] = screen
    return screen


def argv_of(context: typer.Context) -> Sequence[str]:
    """The words of the command line."""
    found: Sequence[str] = context.find_root().obj["argv"]
    return found
