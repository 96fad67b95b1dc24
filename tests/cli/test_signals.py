"""Ctrl-C, SIGTERM, and standard input and output that end before we do: real processes."""

from __future__ import annotations

import fcntl
import os
import pty
import resource
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
import pytest
from pyarrow import parquet

from cottonpalm import clock
from cottonpalm.cli.app import main
from cottonpalm.cli.screen.explained import explain
from cottonpalm.cli.signals import ONE_S, Signals
from tests.cli.conftest import Command, lines, rows
from tests.cli.killing import environment
from tests.support.programs import Cottonpalm, run
from tests.support.replies import context_too_long, held

if TYPE_CHECKING:
    from tests.support.loopback import Loopback


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path, server: Loopback) -> Iterator[Start]:
    """`run` as a process of its own; none outlives the test."""
    with ExitStack() as stack:

        def command(*words: str, **options: Any) -> subprocess.Popen[str]:
            model = ["--model", "openai:gpt-4o-mini"]
            process = Cottonpalm(
                ["run", *words, *model, "--base-url", server.openai_url, "--prompt", "say {text}"],
                cwd=tmp_path,
                env=environment(),
                text=True,
                **{"stderr": subprocess.PIPE, **options},
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield command


StartChain = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start_chain(tmp_path: Path) -> Iterator[StartChain]:
    """`run` of one row, to standard output, with a chain that these lines define as a function `block`."""
    with ExitStack() as stack:

        def command(*code: str) -> subprocess.Popen[str]:
            head = "from langchain_core.runnables import RunnableLambda"
            (tmp_path / "app.py").write_text("\n".join([head, *code, "chain = RunnableLambda(block)", ""]))
            rows(tmp_path / "in.jsonl", 1)
            process = Cottonpalm(
                ["run", "in.jsonl", "-o", "-", "--chain", "app:chain"],
                cwd=tmp_path,
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield command


def stderr_line(process: subprocess.Popen[str]) -> str:
    """The next line but those of progress, which come at their own times: on a slow machine, one may come first."""
    assert process.stderr is not None
    while " failed, " in (line := process.stderr.readline()):
        pass
    return line


def rest_of(process: subprocess.Popen[str]) -> str:
    return process.communicate(timeout=60)[1]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
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
    time.sleep(ONE_S)
    process.send_signal(signal.SIGINT)
    rest = rest_of(process)  # nothing was released
    assert process.returncode == 130, rest
    assert "leaving" in rest
    assert len(lines(tmp_path / "out.jsonl")) == 2


@pytest.fixture
def clock_by_hand() -> Iterator[list[float]]:
    """The time in seconds, as the one item of a list."""
    seconds = [0.0]
    clock.replace(lambda: seconds[0])
    yield seconds
    clock.replace()


def test_a_signal_that_comes_twice_at_once_is_one(clock_by_hand: list[float]) -> None:
    """As from `timeout`, which sends it to the command, and then to all that the command began."""
    said: list[str] = []
    with Signals(said.append) as signals:
        for times in (1, 2):
            signal.raise_signal(signal.SIGTERM)
            clock_by_hand[0] += 0.9 * ONE_S
            signal.raise_signal(signal.SIGTERM)
            clock_by_hand[0] += ONE_S
            assert (signals.code, len(said)) == (143, times)
    assert [word.partition(":")[0] for word in said] == ["stopping", "leaving"]


def test_a_terminal_that_is_closed_stops_the_run_as_one_ctrl_c_does(
    start: Start, tmp_path: Path, server: Loopback
) -> None:
    rows(tmp_path / "in.jsonl", 100)
    server.script(lambda request: held())
    inside, outside = pty.openpty()
    process = start(
        "in.jsonl",
        *("-o", "out.csv", "--concurrency", "4"),
        stdin=outside,
        stdout=outside,
        stderr=outside,
        preexec_fn=owns_terminal,
    )
    os.close(outside)
    server.wait(requests=4, in_flight=4, timeout_s=60)
    os.close(inside)  # the system says it once, the shell may say it again
    process.send_signal(signal.SIGHUP)
    server.release()
    assert process.wait(timeout=60) == 129
    assert (len((tmp_path / "out.csv").read_text().splitlines()), server.requests) == (5, 4)


def owns_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_under_nohup_the_run_goes_on(start: Start, tmp_path: Path, server: Loopback) -> None:
    rows(tmp_path / "in.jsonl", 10)
    server.script(lambda request: held() if request.seq < 4 else None)
    nohup = partial(signal.signal, signal.SIGHUP, signal.SIG_IGN)
    process = start("in.jsonl", "-o", "out.jsonl", "--concurrency", "4", preexec_fn=nohup)
    server.wait(requests=4, in_flight=4, timeout_s=60)
    process.send_signal(signal.SIGHUP)
    server.release()
    rest = rest_of(process)
    assert process.returncode == 0, rest
    assert len(lines(tmp_path / "out.jsonl")) == 10


def test_standard_input_to_standard_output_gets_a_name_and_says_what_to_mend(
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
    assert f"{name}: 3 rows: 2 ok, 1 failed" in rest
    assert "mend     the input, and give the same command again" in rest, "its row could not be read"


def _finish(process: subprocess.Popen[str], server: Loopback) -> tuple[str, str]:
    server.script(None)
    return process.communicate('{"text": "second"}\n{"txt": 2}\n', timeout=60)


def test_an_interrupt_while_the_command_is_loaded_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt\n")
    done = subprocess.run(
        [sys.executable, "-m", "cottonpalm", "--version"],
        env=environment() | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "cottonpalm: interrupted before anything was done\n")


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
    assert "results  in cottonpalm.db alone" in said
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


def test_a_run_from_standard_input_is_retried_from_the_store(
    start: Start, tmp_path: Path, server: Loopback
) -> None:
    server.script(lambda request: context_too_long() if request.text == "say b" else None)
    process = start("-", "-o", "out.jsonl", stdin=subprocess.PIPE)
    said = process.communicate('{"text": "a"}\n{oops\n{"text": "b"}\n{"text": "c"}\n', timeout=60)[1]
    assert process.returncode == 3, said
    server.script(None)
    again = run(
        ["retry", "out"],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert again.returncode == 3, again.stderr  # the broken line stays one
    found = lines(tmp_path / "out.jsonl")
    assert [line["output"] for line in found] == [
        "answer to: say a",
        None,
        "answer to: say b",
        "answer to: say c",
    ]
    assert server.counts == {"say a": 1, "say b": 2, "say c": 1}


def test_an_input_that_breaks_off_keeps_what_was_done_and_ends_with_2(
    start: Start, tmp_path: Path, server: Loopback
) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    ours = socket.create_connection(listening.getsockname())
    theirs, _ = listening.accept()
    process = start("-", "-o", "out.jsonl", stdin=theirs.fileno())
    theirs.close()
    ours.sendall(b'{"text": "a"}\n')
    server.wait(requests=1, timeout_s=60)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    ours.close()  # with a reset
    listening.close()
    said = rest_of(process)
    assert process.returncode == 2, said
    assert "cannot read standard input: Connection reset by peer" in said
    assert len(lines(tmp_path / "out.jsonl")) == 1


def small_disk() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))


@pytest.mark.parametrize("output", ["/dev/null", "out.jsonl"])
def test_a_store_that_cannot_grow_stops_the_run_with_4(
    start: Start, tmp_path: Path, server: Loopback, output: str
) -> None:
    # Too many for the store's file, and few enough for the three that may keep what it does not take.
    count = 300
    (tmp_path / "in.jsonl").write_bytes(
        b"".join(b'{"text": "%d %s"}\n' % (n, b"x" * 2000) for n in range(count))
    )
    process = start("in.jsonl", "-o", output, "--run", "r", preexec_fn=small_disk)
    said = rest_of(process)
    assert process.returncode == 4, said
    assert "cottonpalm: the run stopped: the store" in said
    assert "could not be stored: they are kept in " in said
    assert "nor can it be kept" not in said
    assert "  resume   cottonpalm run in.jsonl" in said
    assert "Traceback" not in said
    process = start("in.jsonl", "-o", output, "--run", "r")
    said = rest_of(process)
    assert process.returncode == 0, said
    assert len(server.arrivals) == count, "what was paid for is not asked again"
    if output == "out.jsonl":
        assert len(lines(tmp_path / output)) == count


def test_a_store_that_cannot_grow_stops_the_run_of_a_folder_with_4_too(start: Start, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for part in range(2):
        texts = [f"{part} {number} {'x' * 2000}" for number in range(250)]
        parquet.write_table(pa.table({"text": texts}), tmp_path / f"in/part-{part}.parquet")
    process = start("in", "-o", "out", "--executor", "processes", "--workers", "2", preexec_fn=small_disk)
    said = rest_of(process)
    assert process.returncode == 4, said
    assert "cottonpalm: the run stopped: the store" in said
    assert "2 files: 0 done, 2 left" in said
    assert said.splitlines()[-1].startswith("  cottonpalm run in -o out"), "how to go on is said last"
    assert "Traceback" not in said


def test_a_store_that_refuses_a_note_of_the_output_loses_no_row(
    start: Start, tmp_path: Path, server: Loopback
) -> None:
    (tmp_path / "in.jsonl").write_bytes(b"".join(b'{"text": "%d"}\n' % n for n in range(300)))
    words = ("in.jsonl", "-o", "out.jsonl", "--run", "r")
    other = start("in.jsonl", "-o", "-", "--run", "other", "--limit", "1", stdout=subprocess.DEVNULL)
    assert other.wait(60) == 0, rest_of(other)
    with closing(sqlite3.connect(tmp_path / "cottonpalm.db")) as db, db:
        db.execute(
            "CREATE TRIGGER no BEFORE UPDATE OF meta ON run WHEN (SELECT count(*) FROM item) > 1"
            " BEGIN SELECT RAISE(ABORT, 'no room'); END"
        )
    refused = start(*words)
    said = rest_of(refused)
    assert (refused.returncode, server.requests) == (4, 301), said
    assert "no room" in said
    with closing(sqlite3.connect(tmp_path / "cottonpalm.db")) as db, db:
        db.execute("DROP TRIGGER no")
    again = start(*words)
    assert (again.wait(60), server.requests) == (0, 301), rest_of(again)
    assert len(lines(tmp_path / "out.jsonl")) == 300


def test_a_chain_that_blocks_the_loop_is_left_by_the_third_signal(start_chain: StartChain) -> None:
    process = start_chain(
        "import os, time",
        "async def block(row):",
        "    os.write(1, b'blocks\\n')",
        "    time.sleep(600)",
    )
    assert process.stdout is not None
    process.stdout.readline()
    for word in ("stopping", "leaving"):
        process.send_signal(signal.SIGINT)
        assert word in stderr_line(process)
        time.sleep(ONE_S)
    process.send_signal(signal.SIGINT)
    assert rest_of(process).startswith("cottonpalm: left at once")
    assert process.returncode == 130


def test_an_interrupt_before_the_first_row_is_said_too(start_chain: StartChain) -> None:
    process = start_chain("import os, time", "os.write(1, b'slow\\n')", "time.sleep(600)", "block = None")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert rest_of(process).startswith("cottonpalm: interrupted; what is done is kept")
    assert process.returncode == 130


def test_an_interrupt_of_a_command_that_is_at_its_end_ends_it_without_a_traceback(
    start_chain: StartChain,
) -> None:
    process = start_chain(
        "import atexit, os, time",
        "def slow():",
        "    os.write(1, b'leaves\\n')",
        "    time.sleep(600)",
        "atexit.register(slow)",
        "block = None",
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    said = rest_of(process)
    assert process.returncode == -signal.SIGINT, "a shell shows 130"
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("words", "closed", "said"),
    [
        (("-", "-o", "out.jsonl"), 0, "cottonpalm: standard input is closed"),
        (("in.jsonl", "-o", "-"), 1, "cottonpalm: -o -: standard output is closed; name a file"),
    ],
)
def test_a_standard_stream_that_is_closed_is_said_in_one_line(
    start: Start, tmp_path: Path, words: tuple[str, ...], closed: int, said: str
) -> None:
    rows(tmp_path / "in.jsonl", 1)
    process = start(*words, preexec_fn=partial(os.close, closed))
    lines_said = rest_of(process).splitlines()
    assert process.returncode == 2
    assert lines_said[-1].startswith(said)
    assert len(lines_said) == 1


def test_a_closed_standard_error_harms_nothing(start: Start, tmp_path: Path) -> None:
    rows(tmp_path / "in.jsonl", 3)
    process = start("in.jsonl", "-o", "-", stdout=subprocess.PIPE, preexec_fn=partial(os.close, 2))
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert len(out.splitlines()) == 3


def test_a_standard_error_that_is_full_leaves_the_exit_code(tmp_path: Path, server: Loopback) -> None:
    rows(tmp_path / "in.jsonl", 2)
    words = ["run", "in.jsonl", "-o", "out.jsonl", "--model", "openai:gpt-4o-mini", "--prompt", "say {text}"]
    with Path("/dev/full").open("w") as full:  # a process of its own, to its very end
        done = subprocess.run(
            [sys.executable, "-m", "cottonpalm", *words, "--base-url", server.openai_url],
            cwd=tmp_path,
            env={**environment(), "PYTHONUNBUFFERED": ""},
            stderr=full,
            check=False,
            timeout=60,
        )
    assert done.returncode == 0, "and not Python's own 120"
    assert len(lines(tmp_path / "out.jsonl")) == 2


def test_a_standard_output_that_is_full_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with suppress(OSError), Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["--version"]) == 4
        assert capsys.readouterr().err == (
            "cottonpalm: cannot write to standard output: No space left on device; free some, then say the same again\n"
        )


def test_a_system_that_allows_no_more_threads_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(RuntimeError("can't start new thread"), {}) == 1
    assert "`ulimit -u`" in capsys.readouterr().err
    assert explain(RuntimeError("something else"), {}) == 1
    assert "`ulimit -u`" not in capsys.readouterr().err


def test_what_a_chain_prints_while_it_is_imported_stays_out_of_the_data(start_chain: StartChain) -> None:
    process = start_chain("print('hello')", "def block(row):", "    return 1")
    out, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert orjson.loads(out)["output"] == 1
    assert said.startswith("hello")


def test_a_server_that_is_not_there_is_named_at_once_in_status_and_after_ctrl_c(
    tmp_path: Path, cottonpalm: Command
) -> None:
    rows(tmp_path / "in.jsonl", 100)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: refused
        reason = f"connection refused at 127.0.0.1:{nobody.getsockname()[1]}"
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"
        words = ["--model", "openai:m", "--base-url", url, "--prompt", "say {text}"]
        with Cottonpalm(
            ["run", "in.jsonl", "-o", "out.jsonl", *words],
            cwd=tmp_path,
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert reason in stderr_line(process)
                assert f"trouble    {reason}" in cottonpalm("status", "out").out
                process.send_signal(signal.SIGINT)
                rest = rest_of(process)
            finally:
                process.kill()
    assert process.returncode == 130
    assert f"trouble  {reason}" in rest
