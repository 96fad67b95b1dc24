"""Every command and every option can be understood by reading its help."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import typer

from cottonpalm import __version__
from cottonpalm.cli.app import app
from cottonpalm.cli.chains import models as models_of
from cottonpalm.cli.chains.compatible import BY_LANGCHAIN

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Command


def test_every_command_and_every_option_says_what_it_does() -> None:
    group = typer.main.get_command(app)
    named = [
        "cancel",
        "collect",
        "dashboard",
        "demo",
        "export",
        "init",
        "plan",
        "report",
        "retry",
        "rm",
        "run",
        "status",
    ]
    assert sorted(group.commands) == named  # type: ignore[attr-defined]
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


def test_a_word_that_is_not_understood_names_the_help_of_its_command(cottonpalm: Command) -> None:
    assert "(cottonpalm run --help shows" in cottonpalm("run", "in.jsonl", "--modle", "x").one_line
    assert "(cottonpalm --help shows" in cottonpalm("runn").one_line


def test_the_help_of_a_flag_says_nothing_of_its_type(cottonpalm: Command) -> None:
    for words in (("--help",), ("run", "--help"), ("rm", "--help"), ("demo", "--help")):
        assert "<bool>" not in cottonpalm(*words).out


def test_the_panels_of_run_come_in_the_order_in_which_one_thinks(cottonpalm: Command) -> None:
    panels = [
        line.split()[1:] for line in cottonpalm("run", "--help").out.splitlines() if line.startswith("╭─")
    ]
    order = ["What to do", "Rows", "Speed", "Faults", "Money", "Equal rows", "What is kept", "What is shown"]
    shown = [" ".join(words) for words in panels]
    found = [next(number for number, panel in enumerate(shown) if panel.startswith(name)) for name in order]
    assert found == sorted(found)


def typed(*words: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    plain = {
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"
    }  # what shell runs the tests is not the point
    return subprocess.run(
        [sys.executable, "-m", "cottonpalm.cli.app", *words],
        cwd=folder,
        env={**os.environ, **plain, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def completed(line: str, folder: Path) -> list[str]:
    """What a shell offers for the last word of a line."""
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    return typed(folder=folder, _COTTONPALM_COMPLETE="complete_bash", **asked).stdout.split()


def test_a_shell_completes_commands_options_and_the_names_of_runs(cottonpalm: Command, folder: Path) -> None:
    (folder / "in.jsonl").write_text('{"text": "a"}\n')
    (folder / "cp_done.py").write_text(
        "from langchain_core.runnables import RunnableLambda\nchain = RunnableLambda(lambda row: 'x')\n"
    )
    for name in ("night-1", "night-2", "day"):
        words = ("--chain", "cp_done:chain", "--run", name, "-q")
        assert cottonpalm("run", "in.jsonl", "-o", f"{name}.jsonl", *words).code == 0
    assert completed("cottonpalm retry ni", folder) == ["night-1", "night-2"]
    assert completed("cottonpalm rm d", folder) == ["day"]
    assert completed("cottonpalm status nobody", folder) == []
    assert {"--max-concurrency", "--max-failures"} <= set(completed("cottonpalm run --max-", folder))
    assert {"run", "retry", "rm"} <= set(completed("cottonpalm r", folder))


def test_a_shell_completes_the_words_that_an_option_takes(folder: Path) -> None:
    assert completed("cottonpalm run --executor ", folder) == ["local", "processes", "ray"]
    assert completed("cottonpalm plan --mode b", folder) == ["batch"]
    assert completed("cottonpalm run --concurrency ", folder) == []
    models = [name if name == "local" else f"{name}:" for name in (*models_of.PROVIDERS, *BY_LANGCHAIN)]
    assert completed("cottonpalm run --model ", folder) == models
    assert completed("cottonpalm run --fallback anth", folder) == ["anthropic:"]


def test_who_types_a_command_that_only_goes_on_is_told_what_does(cottonpalm: Command) -> None:
    said = cottonpalm("resume", "night-1")
    assert said.code == 2
    assert "No such command 'resume': the same `cottonpalm run …` again goes on with a run" in said.one_line


def test_completion_in_a_folder_without_a_store_makes_none(folder: Path) -> None:
    assert completed("cottonpalm retry ni", folder) == []
    assert list(folder.iterdir()) == []


def test_the_script_for_a_shell_is_shown(folder: Path) -> None:
    assert "_COTTONPALM_COMPLETE=complete_bash" in typed("--show-completion", "bash", folder=folder).stdout


def test_completion_is_installed_for_the_shell_that_is_named(folder: Path) -> None:
    said = typed("--install-completion", "bash", folder=folder, HOME=str(folder))
    assert said.returncode == 0, said.stderr
    assert "bash completion installed in" in said.stdout
    assert "cottonpalm" in (folder / ".bashrc").read_text()
