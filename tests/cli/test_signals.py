"""Ctrl-C, SIGTERM, and standard input and output that end before we do: real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.cli.conftest import lines, rows
from tests.cli.killing import environment
from tests.support.replies import held

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.loopback import Loopback


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path, server: Loopback) -> Iterator[Start]:
    """`run` as a process of its own; none outlives the test."""
    with ExitStack() as stack:

        def command(*words: str, **options: Any) -> subprocess.Popen[str]:
            run = [sys.executable, "-m", "cottonpalm.cli.app", "run", *words, "--model", "openai:gpt-4o-mini"]
            process = subprocess.Popen(
                [*run, "--base-url", server.openai_url, "--prompt", "say {text}"],
                cwd=tmp_path,
                env=environment(),
                stderr=subprocess.PIPE,
                text=True,
                **options,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield command


def stderr_line(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.readline()


def rest_of(process: subprocess.Popen[str]) -> str:
    return process.communicate(timeout=60)[1]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_finishes_what_is_in_flight_and_says_how_to_go_on(
    start: Start, tmp_path: Path, server: Loopback, number: signal.Signals, code: int
) -> None:
    rows(tmp_path / "in.jsonl", 100)
    server.script(lambda request: held())
    process = start("in.jsonl", "-o", "out.jsonl", "--concurrency", "4")
    server.wait(requests=4, in_flight=4, timeout_s=60)
    process.send_signal(number)
    assert "stopping: what is in flight is finished and kept" in stderr_line(process)
    server.release()
    rest = rest_of(process)
    assert process.returncode == code, rest
    assert "resume   cottonpalm run in.jsonl -o out.jsonl" in rest
    assert "100 rows: 4 ok, 0 failed, 96 left" in rest
    assert (len(lines(tmp_path / "out.jsonl")), server.requests) == (4, 4)


def test_the_second_signal_leaves_at_once(start: Start, tmp_path: Path, server: Loopback) -> None:
    rows(tmp_path / "in.jsonl", 100)
    server.script(lambda request: held() if request.seq >= 2 else None)
    process = start("in.jsonl", "-o", "out.jsonl", "--concurrency", "4")
    server.wait(requests=6, in_flight=4, timeout_s=60)
    process.send_signal(signal.SIGINT)
    assert "stopping" in stderr_line(process)
    process.send_signal(signal.SIGINT)
    rest = rest_of(process)  # nothing was released
    assert process.returncode == 130, rest
    assert "leaving" in rest
    assert len(lines(tmp_path / "out.jsonl")) == 2


def test_standard_input_to_standard_output_gets_a_name_and_can_be_retried(
    start: Start, server: Loopback
) -> None:
    server.script(lambda request: held())
    process = start("-", "-o", "-", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write('{"text": "first"}\n')
    process.stdin.flush()
    server.wait(requests=1, timeout_s=60)  # before the input's end is known
    name = stderr_line(process).split()[-1]
    server.release()
    out, rest = _finish(process, server)
    assert process.returncode == 3, rest
    assert [
        row["status"] for row in sorted(map(orjson.loads, out.splitlines()), key=lambda row: row["index"])
    ] == [
        "ok",
        "ok",
        "failed",
    ]
    assert f"cottonpalm retry {name}" in rest


def _finish(process: subprocess.Popen[str], server: Loopback) -> tuple[str, str]:
    server.script(None)
    return process.communicate('{"text": "second"}\n{"txt": 2}\n', timeout=60)


def test_a_reader_that_goes_away_stops_the_run_cleanly(
    start: Start, tmp_path: Path, server: Loopback
) -> None:
    rows(tmp_path / "in.jsonl", 200)
    process = start("in.jsonl", "-o", "-", "--concurrency", "2", stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None  # it is gone for good
    said = rest_of(process)
    assert process.returncode == 4, said
    assert "cannot write to standard output: Broken pipe; the results are safe in cottonpalm.db" in said
    assert "Traceback" not in said


def test_a_stop_while_standard_input_is_silent_ends_the_process(
    start: Start, tmp_path: Path, server: Loopback
) -> None:
    read_end, write_end = os.pipe()
    process = start("-", "-o", "out.jsonl", stdin=read_end)
    os.write(write_end, b'{"text": "a"}\n')
    server.wait(requests=1, timeout_s=60)
    process.send_signal(signal.SIGINT)
    said = rest_of(process)  # the input is still open
    os.close(write_end)
    os.close(read_end)
    assert process.returncode == 130, said
    assert "Fatal" not in said
    assert "resume   … | cottonpalm run - -o out.jsonl" in said
