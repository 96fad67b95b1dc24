"""What is said where a command cannot go on: each error becomes one line and an exit code."""

from __future__ import annotations

import errno
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from cottonpalm.cli.problems import Problem
from cottonpalm.errors import CottonpalmError
from cottonpalm.shell import Code
from cottonpalm.urls import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FLAG: Final = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")


def check_text(words: Sequence[str]) -> None:
    """Refuse a word that is no text: neither the store nor a request could hold it.

    Raises:
        Problem: a word holds bytes that are no text in this locale.
    """
    for word in words:
        if any("\ud800" <= char <= "\udfff" for char in word):
            raise Problem(
                f"{word!r} is no text in {sys.getfilesystemencoding()}: rename the file, or write the word so that it "
                "is; where all file names look so, say LC_ALL=C.UTF-8 before the command"
            )


def interrupted() -> int:
    """Say so."""
    from cottonpalm.cli.screen.screen import Screen

    Screen().error("interrupted; what is done is kept, and the same command again goes on")
    return Code.INTERRUPTED


def explain(error: Exception, state: Mapping[str, Any]) -> int:
    """Say what is wrong; `state` may hold the screen of the command."""
    from cottonpalm.cli.screen.screen import Screen

    screen: Screen = state.get("screen") or Screen()
    if isinstance(error, Problem):
        screen.error(_with_file(str(error), state))
        return error.code
    if isinstance(error, CottonpalmError):  # a setting or a store cannot work; nothing was called yet
        from cottonpalm.cli.screen.wording import as_flags

        screen.error(_with_file(as_flags(str(error)), state))
        return Code.USAGE
    if type(error).__name__ == "NoArgsIsHelpError":  # no command; typer keeps the class to itself
        typer.echo(str(error), err=True)
        return Code.USAGE
    if hasattr(error, "format_message"):  # the parser's own error
        command = getattr(getattr(error, "ctx", None), "command_path", "cottonpalm")
        said = f"{_file_of(error)}{_said_of(error.format_message())}"
        screen.error(f"{said} ({command} --help shows what there is)")
        return Code.USAGE
    if isinstance(error, OSError) and (found := _of_a_file(error)) is not None:
        said, code = found
        screen.error(said)
        return code
    where = "" if screen.verbose else " (-v shows where)"
    screen.error(f"unexpected {type(error).__name__}: {error}{_too_few(error)}{where}")
    screen.traceback(error)
    return Code.UNEXPECTED


def _of_a_file(error: OSError) -> tuple[str, Code] | None:
    """What is wrong with a file whose name or contents the system cannot take, and the exit code."""
    if error.errno == errno.ENAMETOOLONG:
        return f"the name {error.filename} is too long for this file system: choose a shorter one", Code.USAGE
    if error.errno == errno.ENOSPC:
        place = shown(str(error.filename)) if error.filename else "to standard output"
        return f"cannot write {place}: {error.strerror}; free some, then say the same again", Code.STOPPED
    if error.errno == errno.ENOENT and error.filename is None and not _has_folder():
        return (
            "the folder that this shell is in was deleted: cd to one that is there, and say it again",
            Code.USAGE,
        )
    return None


def _has_folder() -> bool:
    """Whether the folder in which the command runs is still there."""
    try:
        return bool(Path.cwd())
    except OSError:
        return False


def _too_few(error: Exception) -> str:
    """What helps where the system lets the process open no more files, or start no more threads."""
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        return "; `ulimit -n 1000` in the shell that starts it lets it open more"
    if isinstance(error, RuntimeError) and str(error).startswith("can't start new thread"):
        return (
            "; the system allows no more: look at `ulimit -u` and `ulimit -v`, or the limits of the container"
        )
    return ""


def _file_of(error: Any) -> str:
    """Name the file of options, where the value that the parser refuses stands there."""
    context, option = getattr(error, "ctx", None), getattr(error, "param", None)
    if context is None or option is None or not _is_in_file(option, context):
        return ""
    return f"{_file(context)}: "


def _with_file(said: str, state: Mapping[str, Any]) -> str:
    """Say of the options that are named which stand in the file of options: nobody typed those."""
    if (context := state.get("context")) is None:
        return said
    flags = set(FLAG.findall(said))
    named = [
        max(option.opts, key=len).lstrip("-")
        for option in context.command.params
        if not flags.isdisjoint((*option.opts, *option.secondary_opts)) and _is_in_file(option, context)
    ]
    if not named:
        return said
    return f"{said} ({' and '.join(named)} {'stands' if len(named) == 1 else 'stand'} in {_file(context)})"


def _is_in_file(option: Any, context: Any) -> bool:
    source = context.get_parameter_source(option.name)
    return source is not None and source.name == "DEFAULT_MAP"


def _file(context: Any) -> str:
    from cottonpalm.cli.options.config_file import NAME

    return context.params.get("config") or NAME


def _said_of(usage: str) -> str:
    """What the parser says of wrong words; where an output is missing, also how one is named."""
    if usage.startswith("Missing option '--output'"):
        return "say where the answers go: -o answers.csv, or .jsonl, .xlsx, .parquet; -o - shows them"
    return usage
