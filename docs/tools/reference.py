"""The command line's reference, made from the command line itself."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from cottonpalm.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "cli-reference.md"
HEAD: Final = """# Command line reference

Written by `python -m docs.tools` from the command line itself: what `--help` says, on one page. How to use it, with
examples, is in [Command line](command-line.md).
"""


@cache
def commands() -> dict[str, Any]:
    """Each command by its name, the program itself under "cottonpalm"."""
    group: Any = typer.main.get_command(app)
    return {"cottonpalm": group, **group.commands}


def options(command: str) -> list[Any]:
    """The options of a command, in the order of its help."""
    return [option for option in commands()[command].params if option.param_type_name == "option"]


def flag(option: Any) -> str:
    """The name an option goes by."""
    return str(max(option.opts, key=len))


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(line for name in commands() for line in _command(name))])


def _command(name: str) -> Iterator[str]:
    command = commands()[name]
    yield f"## {name if name == 'cottonpalm' else f'cottonpalm {name}'}\n"
    yield f"{command.help.strip()}\n"
    arguments = [option for option in command.params if option.param_type_name == "argument"]
    words = [option.metavar if option.required else f"[{option.metavar}]" for option in arguments]
    tail = ["COMMAND", "…"] if name == "cottonpalm" else words
    called = ["cottonpalm"] if name == "cottonpalm" else ["cottonpalm", name]
    yield f"```text\n{' '.join([*called, '[OPTIONS]', *tail])}\n```\n"
    if arguments:
        yield _table("argument", ((f"`{option.metavar}`", option) for option in arguments))
    panels: dict[str, list[Any]] = {}
    for option in options(name):
        panels.setdefault(getattr(option, "rich_help_panel", None) or "Options", []).append(option)
    for panel, members in panels.items():
        yield f"**{panel}**\n"
        yield _table("option", ((_spelled(option), option) for option in members))


def _table(head: str, rows: Any) -> str:
    lines = [f"| {head} | what it does | default |", "|---|---|---|"]
    lines += [f"| {name} | {_cell(option.help)} | {_default(option)} |" for name, option in rows]
    return "\n".join(lines) + "\n"


def _spelled(option: Any) -> str:
    names = [*sorted(option.opts, key=len), *option.secondary_opts]
    value = f" {option.metavar}" if option.metavar else ""
    return ", ".join(f"`{name}`" for name in names) + _cell(value)


def _default(option: Any) -> str:
    value = option.default
    if option.required:
        return "required"
    if option.secondary_opts:
        return f"`{option.opts[0] if value else option.secondary_opts[0]}`"
    return "" if value in (None, False, [], ()) or callable(value) else f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
