"""What a command finds round it: the screen on which it speaks, and the words it was given."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from cottonpalm.cli.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    import typer

    from cottonpalm.cli.options.spec import RunSpec
    from cottonpalm.cli.screen.screen import Screen


def screen_of(context: typer.Context, *, quiet: bool, verbose: bool, progress: bool) -> Screen:
    """Make the command's screen, which also shows what is logged and nobody takes: a chain may set up logging itself.

    Raises:
        Problem: it is to say nothing, and more.
    """
    from cottonpalm.cli.screen.logged import OnScreen
    from cottonpalm.cli.screen.screen import Screen

    if quiet and verbose:
        raise Problem("say -q or -v, not both")
    screen = Screen(quiet=quiet, verbose=verbose, progress=progress)
    context.find_root().obj["screen"] = screen
    logging.lastResort = OnScreen(screen)
    return screen


def take_keys(job: RunSpec, screen: Screen) -> None:
    """Take the providers' keys from the `.env` of the job's folder, and say which."""
    from cottonpalm.cli.chains.env_file import take_keys as taken_from

    if taken := taken_from(job.folder):
        screen.say(f"note: {taken}")


def argv_of(context: typer.Context) -> Sequence[str]:
    """The words of the command line."""
    found: Sequence[str] = context.find_root().obj["argv"]
    return found
