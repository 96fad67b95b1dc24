"""`cottonpalm run --stream`: the same rows and answers, and a few of them seen while they come."""

from __future__ import annotations

import os
import pty
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import lines, rows
from tests.support.programs import Cottonpalm
from tests.support.replies import Reply, Request

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Command
    from tests.support.loopback import Loopback


def test_a_streamed_run_writes_what_a_run_writes(ask: Command, folder: Path, server: Loopback) -> None:
    streams: list[bool] = []

    def broken(request: Request) -> Reply | None:
        streams.append(request.stream)
        return Reply(ending="cut") if "row-2" in request.text and request.nth == 2 else None

    rows(folder / "in.jsonl", 5)
    assert ask("in.jsonl", "-o", "plain.jsonl").code == 0
    server.script(broken)
    said = ask("in.jsonl", "-o", "out.jsonl", "--stream", "--events", "events.jsonl", retries="2")
    assert said.code == 0, said.err
    assert [row["output"] for row in lines(folder / "out.jsonl")] == [
        row["output"] for row in lines(folder / "plain.jsonl")
    ]
    assert streams == [True] * 6  # one of them broke off
    assert ask("in.jsonl", "-o", "out.jsonl", "--stream").err.count("has done all its rows") == 1
    hint = "--model-option stream_usage=true lets streams say it"
    assert hint in " ".join(said.err.split())  # else each of them is booked at its bound
    again = ask("in.jsonl", "-o", "b.jsonl", "--stream", "--model-option", "stream_usage=true")
    assert again.code == 0
    assert "uncertain" not in again.err


def test_what_cannot_stream_is_refused_before_any_call(ask: Command, folder: Path, server: Loopback) -> None:
    rows(folder / "in.jsonl", 1)
    for option, value in (("--mode", "batch"), ("--executor", "processes")):
        said = ask("in.jsonl", "-o", "out.jsonl", "--stream", option, value)
        assert said.code == 2
        assert f"leave out {option} {value}" in said.one_line
    assert server.requests == 0


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_a_terminal_shows_the_last_words_of_answers_while_they_come(folder: Path, server: Loopback) -> None:
    server.script(lambda _: Reply(text="one two three " * 30, chunks=60, chunk_gap_s=0.02))
    rows(folder / "in.jsonl", 6)
    words = ["run", "in.jsonl", "-o", "out.jsonl", "--stream"]
    words += ["--model", "openai:gpt-4o-mini", "--base-url", server.openai_url, "--prompt", "say {text}"]
    outside, inside = pty.openpty()
    with Cottonpalm(
        words, cwd=folder, stdin=inside, stdout=inside, stderr=inside, env={**os.environ, "COLUMNS": "80"}
    ) as process:
        os.close(inside)
        shown = _all_of(outside)
    assert process.returncode == 0, shown
    seen = re.findall(
        r"  row (\d) +…?[a-z ]*?(?:one|two|three)", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    )
    assert len(set(seen)) >= 4, shown
    assert [row["output"] for row in lines(folder / "out.jsonl")] == ["one two three " * 30] * 6


def _all_of(terminal: int) -> str:
    said = b""
    with suppress(OSError):  # the other side is closed
        while part := os.read(terminal, 65536):
            said += part
    os.close(terminal)
    return said.decode()
