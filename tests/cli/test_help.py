"""Every command and every option can be understood by reading its help."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import typer

from cottonpalm import __version__
from cottonpalm.cli.app import app

if TYPE_CHECKING:
    from tests.cli.conftest import Command

pytestmark = pytest.mark.core


def test_every_command_and_every_option_says_what_it_does() -> None:
    group = typer.main.get_command(app)
    assert sorted(group.commands) == ["demo", "plan", "retry", "run", "status"]  # type: ignore[attr-defined]
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        assert command.help, name
        for option in command.params:
            assert option.help, f"{name} {option.name}"
            assert option.help.endswith("."), f"{name} {option.name}"


def test_version_and_help_are_data(cottonpalm: Command) -> None:
    said = cottonpalm("--version")
    assert (said.code, said.out, said.err) == (0, f"cottonpalm {__version__}\n", "")
    for words in (("--help",), ("run", "-h"), ("status", "--help")):
        said = cottonpalm(*words)
        assert (said.code, said.err) == (0, "")
        assert "Usage" in said.out


def test_no_command_at_all_shows_the_help(cottonpalm: Command) -> None:
    said = cottonpalm()
    assert said.code == 2
    assert "Usage" in said.out + said.err
    assert "cottonpalm: " not in said.err  # no line that says nothing
