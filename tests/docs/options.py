"""The commands and options that the command line really has."""

from __future__ import annotations

from functools import cache
from typing import Any

import typer

from cottonpalm.cli.app import app


@cache
def commands() -> dict[str, Any]:
    """Each command by its name, the program itself under "cottonpalm"."""
    group: Any = typer.main.get_command(app)
    return {"cottonpalm": group, **group.commands}


def spellings(command: str) -> dict[str, list[str]]:
    """Each option of a command, by its longest spelling: all its spellings, `-h` and arguments aside."""
    found: dict[str, list[str]] = {}
    for option in commands()[command].params:
        if option.param_type_name == "option":
            names = [*option.opts, *option.secondary_opts]
            found[max(option.opts, key=len)] = sorted(names)
    return found


def options_of(command: str | None) -> set[str]:
    """Every spelling that a command takes."""
    names = spellings(command or "cottonpalm")
    return {name for spelled in names.values() for name in spelled} | {"-h", "--help"}
