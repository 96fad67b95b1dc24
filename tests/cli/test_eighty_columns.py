"""On a terminal of 80 columns all is there that a wide one shows: lines are wrapped, never cut."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
from collections import Counter
from typing import TYPE_CHECKING

import pytest
import typer

from cottonpalm.cli.app import app
from tests.cli.conftest import rows
from tests.support.programs import Cottonpalm

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Command
    from tests.support.loopback import Loopback

COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
PROMPT = "Is this review of one of our own products positive, or rather not, in one word only? {text}"
LONG = "a-folder-with-a-long-name/and-another-one-in-it/reviews-of-november-with-labels-2026.csv"


def text_of(shown: str) -> Counter[str]:
    """How often each character is there, wherever lines end."""
    return Counter(re.sub(r"[\s╭╮╰╯─│]", "", CONTROL.sub("", shown)))


@pytest.mark.parametrize(
    "words", [[], *([name] for name in COMMANDS)], ids=lambda words: " ".join(words) or "-"
)
def test_the_help_of_every_command_is_whole(
    cottonpalm: Command, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    seen = []
    for columns in ("80", "1000"):
        monkeypatch.setenv("COLUMNS", columns)
        seen.append(cottonpalm(*words, "--help").out)
    assert max(map(len, seen[0].splitlines())) <= 80
    assert text_of(seen[0]) == text_of(seen[1])


def on_a_terminal(words: list[str], folder: Path, columns: int) -> list[str]:
    """What a terminal of this width shows, line by line."""
    inside, outside = pty.openpty()
    fcntl.ioctl(outside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    done = Cottonpalm(
        words,
        cwd=folder,
        env={**env, "TERM": "xterm", "OPENAI_API_KEY": "sk-x"},
        stdin=outside,
        stdout=outside,
        stderr=outside,
    )
    os.close(outside)
    said = b""
    while True:
        try:
            piece = os.read(inside, 1 << 16)
        except OSError:  # the last one that held it has ended
            break
        if not piece:
            break
        said += piece
    done.wait()
    os.close(inside)
    return CONTROL.sub("", said.decode()).splitlines()


@pytest.fixture
def filled(folder: Path, server: Loopback) -> list[str]:
    """A folder with a long name, and how a run over it is asked for."""
    (folder / LONG).parent.mkdir(parents=True)
    (folder / LONG).write_text("id,text\n1,good\n2,bad,and more\n")
    model = ["--model", "openai:gpt-4o-mini-with-a-name-of-its-own", "--base-url", server.openai_url]
    return [LONG, *model, "--prompt", PROMPT]


# where a summary, a table, a plan and one line end differs with time and width; what is in them does not
CHANGING = re.compile(r"[\d.]+ ?(?:ms|s|min|/s|/min|/h)\b|\d\d:\d\d(?::\d\d)?")


def test_what_a_run_and_its_status_say_is_whole(folder: Path, filled: list[str]) -> None:
    output, name = LONG.replace(".csv", "-labelled.csv"), "reviews-of-november-with-labels-2026-labelled"
    typo = "{txet} of a review that is longer than a line of a terminal is wide, as this one"
    typed = {
        "run": ["run", *filled, "-o", output, "--no-progress", "--fresh", "--retries", "0"],
        "status": ["status"],
        "one": ["status", name],
        "plan": ["plan", *filled],
        "report": ["report", name],
        "typo": ["run", *filled[:-1], typo, "-o", "x.csv"],
    }
    seen = {"run": ["\n".join(on_a_terminal(typed["run"], folder, columns)) for columns in (80, 1000)]}
    for what in [*typed][1:]:
        seen[what] = ["\n".join(on_a_terminal(typed[what], folder, columns)) for columns in (80, 1000)]
    for what, (narrow, wide) in seen.items():
        assert len(wide) > 40, what
        narrower, wider = (text_of(CHANGING.sub("", shown)) for shown in (narrow, wide))
        assert narrower == wider, f"{what}:\n{narrow}\n--- and of a wide one:\n{wide}"
        assert "…" not in narrow, f"{what}: {narrow}"


def test_the_names_of_many_runs_are_whole(folder: Path, cottonpalm: Command, ask: Command) -> None:
    rows(folder / "in.jsonl", 1)
    name = "a-run-whose-name-is-as-long-as-this-one-is-and-then-some-more"
    assert ask("in.jsonl", "-o", f"{name}.jsonl", "--run", name).code == 0
    shown = on_a_terminal(["status"], folder, 80)
    assert max(map(len, shown)) <= 80
    assert re.findall(r"\b(?:ok|failed|left|cost|rate|output|held by)\b", shown[0]) == [
        "ok", "failed", "left", "cost", "rate", "output", "held by"
    ]  # fmt: skip
    # once as the run, once in its output's name
    assert not (text_of(name) + text_of(name)) - text_of("".join(shown[1:])), (
        shown
    )  # once as the run, once in its output's name
