"""What the store holds, said so that it can be acted on; and how to be rid of it."""

from __future__ import annotations

import gc
import io
import json
import re
import sqlite3
import sys
import threading
import time
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest

from cottonpalm import BatchProcessor
from cottonpalm.cli.commands import status
from cottonpalm.protocols import OK, RETRYABLE, StoredRow
from cottonpalm.stores import open_store
from cottonpalm.stores.codec.records import pack
from cottonpalm.stores.sql.reader import Reader
from cottonpalm.testing import ScriptedChain
from cottonpalm.types import ErrorRecord, Kind, Outcome
from tests.cli.conftest import rows
from tests.support.replies import fails

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Command
    from tests.support.loopback import Loopback
    from tests.support.replies import Reply, Request


def some_fail(request: Request) -> Reply | None:
    number = int(request.text.rpartition("-")[2])
    return fails(500) if number % 5 == 3 else fails(400) if number % 5 == 1 else None


@pytest.fixture
def done(ask: Command, server: Loopback, folder: Path) -> None:
    """A run `out` of ten rows: six answers, two rows failed for good and two not."""
    server.script(some_fail)
    rows(folder / "in.jsonl", 10)
    assert ask("in.jsonl", "-o", "out.jsonl").code == 3


@pytest.mark.usefixtures("done")
def test_a_run_in_detail_shows_its_failures_by_kind_with_the_first_of_each(cottonpalm: Command) -> None:
    said = cottonpalm("status", "out")
    assert (said.code, said.err) == (0, "")
    shown = {line[:11].strip(): line[12:] for line in said.out.splitlines()}
    assert (shown["ok"], shown["failed"], shown["left"]) == ("6", "4 (2 may work when asked again)", "0")
    first = "2 (rejected, or the chain failed); the first, row 2 (index 1): "
    assert shown["fail_row"].startswith(f"{first}OpenAIInvalidRequestError: 400 Bad Request: ")
    first = "2 (a fault that may pass); the first, row 4 (index 3): "
    assert shown["transient"].startswith(f"{first}OpenAIAPIError: 500 Internal Server Error: ")
    assert shown["exit code"] == "3"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+", shown["begun"]), "local, and whose"


def test_of_a_run_from_python_that_was_stopped_it_says_how_many_rows_are_left(
    cottonpalm: Command, folder: Path
) -> None:
    processor = BatchProcessor(ScriptedChain(then=str.upper), store=folder / "cottonpalm.db", run="made")
    with processor.start([f"row {number}" for number in range(10)]) as run:
        list(islice(run, 4))
    [shown] = [json.loads(line) for line in cottonpalm("status", "--json").out.splitlines()]
    assert 4 <= shown["ok"] <= 10
    assert (shown["total"], shown["total_exact"], shown["left"]) == (10, True, 10 - shown["ok"])
    assert re.search(rf"^left +{10 - shown['ok']}$", cottonpalm("status", "made").out, re.MULTILINE)


def test_answers_of_rows_that_left_the_input_do_not_count_for_those_that_are_left(
    ask: Command, cottonpalm: Command, server: Loopback, folder: Path
) -> None:
    """Ten rows are done, eight of them leave the input, twelve come, and the third of these ends the run."""
    rows(folder / "in.jsonl", 10)
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0
    server.script(lambda request: fails(400) if request.text.endswith("-22") else None)
    rows(folder / "more.jsonl", 32)
    lines = (folder / "more.jsonl").read_text().splitlines(keepends=True)
    (folder / "in.jsonl").write_text("".join(lines[:2] + lines[20:]))
    said = ask("in.jsonl", "-o", "out.jsonl", "--max-failures", "0", "--concurrency", "1")
    assert "14 rows: 4 ok, 1 failed, 9 left" in said.err
    [shown] = [json.loads(line) for line in cottonpalm("status", "--json").out.splitlines()]
    assert (shown["ok"], shown["failed"], shown["total"], shown["left"]) == (12, 1, 14, 9)
    assert re.search(r"^left +9$", cottonpalm("status", "out").out, re.MULTILINE)
    assert "Stopped: 12 of 22 rows answered" in cottonpalm("report", "out", "-o", "-").out.replace(
        "\u00a0", " "
    )


def test_a_long_run_shows_its_few_failures_without_reading_the_others_and_of_many_the_first(
    cottonpalm: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(str(folder / "cottonpalm.db"))
    run = store.open_run("long", None)
    key, written = bytes(16), threading.Event()
    good, bad = (
        Outcome(0, "ok", "x"),
        Outcome(0, "failed", error=ErrorRecord(Kind.TRANSIENT, "OSError", "broke")),
    )
    records = [pack(each, keep_input=False, types={}) for each in (good, bad)]
    failed = {7, 1_500, 2_999}
    rows = [
        StoredRow(n, key, key, RETRYABLE if n in failed else OK, records[n in failed], 0)
        for n in range(3_000)
    ]
    run.write(rows, lambda _: written.set())
    assert written.wait(20)
    run.close()
    store.close()
    fetched: list[int] = []

    def counting(self: Reader, *given: Any, real: Any = Reader.rows) -> list[Any]:
        found: list[Any] = real(self, *given)
        fetched.append(len(found))
        return found

    monkeypatch.setattr(Reader, "rows", counting)
    said = cottonpalm("status", "long")
    assert re.search(
        r"^transient +3 .a fault that may pass.; the first, row 8 .index 7.: OSError: broke$",
        said.out.replace("  transient", "transient"),
        re.M,
    )
    assert sum(fetched) < 20
    monkeypatch.setattr(status, "MOST", 2)
    assert (
        "2 of the first 2 failed (a fault that may pass); the first, row 8 (index 7): "
        in cottonpalm("status", "long").out
    )


@pytest.mark.usefixtures("done")
def test_a_run_in_use_is_shown_with_its_failures_and_not_removed(cottonpalm: Command, folder: Path) -> None:
    store = open_store(str(folder / "cottonpalm.db"))
    run = store.open_run("out", None)
    try:
        said = cottonpalm("status", "out")
        assert "fail_row" in said.out
        assert "held by     process " in said.out
        said = cottonpalm("rm", "out", "--yes")
        assert said.code == 2
        assert "run out is in use by process " in said.one_line
    finally:
        run.close()
        store.close()
    assert "6" in cottonpalm("status").out


@pytest.mark.usefixtures("done")
def test_a_run_is_forgotten_and_its_output_stays(cottonpalm: Command, folder: Path) -> None:
    before = (folder / "out.jsonl").read_bytes()
    said = cottonpalm("rm", "out", "--yes")
    assert (said.code, said.out, said.err) == (0, "", "run out is forgotten; out.jsonl stays as it is\n")
    assert (folder / "out.jsonl").read_bytes() == before
    assert "its runs: none" in cottonpalm("retry", "out").one_line
    assert "its runs: none" in cottonpalm("rm", "out", "--yes").one_line


@pytest.mark.usefixtures("done")
def test_nothing_is_forgotten_where_nobody_can_be_asked(
    cottonpalm: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    said = cottonpalm("rm", "out")
    assert said.code == 2
    assert "rm out would forget 6 answers and 4 failed rows, which cost $" in said.one_line
    assert said.one_line.endswith("; say --yes to do it")
    assert "out" in cottonpalm("status").out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("done")
@pytest.mark.parametrize(("answer", "gone"), [("y\n", True), ("Yes\n", True), ("n\n", False), ("", False)])
def test_somebody_at_a_terminal_is_asked(
    cottonpalm: Command, monkeypatch: pytest.MonkeyPatch, answer: str, gone: bool
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    said = cottonpalm("rm", "out")
    assert "forget 6 answers and 4 failed rows of run out, which cost $" in said.err
    assert "? [y/N] " in said.err
    assert said.code == (0 if gone else 2)
    assert ("run out is forgotten" if gone else "run out is kept") in said.err
    assert cottonpalm("status", "out").code == (2 if gone else 0)


def test_a_folder_without_a_store_is_told_so(cottonpalm: Command, folder: Path) -> None:
    for words in (("status",), ("status", "x"), ("retry", "x"), ("rm", "x", "--yes")):
        assert "there is no store cottonpalm.db here" in cottonpalm(*words).one_line
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("done")
@pytest.mark.parametrize(("width", "columns"), [(30, 4), (40, 6), (60, 8), (80, 8)])
def test_the_runs_fit_the_terminal(
    cottonpalm: Command, monkeypatch: pytest.MonkeyPatch, width: int, columns: int
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    plain = re.sub(r"\x1b\[[0-9;]*m", "", cottonpalm("status").out)
    head, first = plain.splitlines()
    assert len(head) <= width
    names = ["run", "ok", "failed", "left", "cost", "rate", "output", "held", "by"]
    assert head.split() == names[: columns + (columns == 8)]
    assert first.split()[:4] == ["out", "6", "4", "0"]


def test_two_outputs_of_one_name_in_two_folders_are_not_one_run(
    ask: Command, cottonpalm: Command, folder: Path, server: Loopback
) -> None:
    for name in ("A", "B"):
        (folder / name).mkdir()
        rows(folder / name / "in.jsonl", 3)
    assert ask("A/in.jsonl", "-o", "A/out.csv").code == 0
    for more in ((), ("--fresh",), ("--overwrite",)):
        said = ask("B/in.jsonl", "-o", "B/out.csv", *more)
        assert said.code == 2
        assert said.one_line.startswith(
            "cottonpalm: run out of this store writes A/out.csv, not B/out.csv: say --run "
        )
    planned = ("--model", "openai:gpt-4o-mini", "--base-url", server.openai_url, "--prompt", "say {text}")
    said = cottonpalm("plan", "B/in.jsonl", "-o", "B/out.csv", "--sample", "1", *planned)
    assert said.code == 2
    assert "run out of this store writes A/out.csv" in said.one_line
    assert cottonpalm("plan", "A/in.jsonl", "-o", "A/out.csv", *planned).code == 0
    assert server.requests == 3
    assert ask("B/in.jsonl", "-o", "B/out.csv", "--run=b", prompt="hear {text}").code == 0
    assert ask("A/in.jsonl", "-o", "A/out.jsonl").code == 0  # the same results in another form
    head, *found = cottonpalm("status").out.splitlines()
    at = head.index("output")
    assert [(line.split()[0], line[at:].split()[0]) for line in found] == [
        ("out", "A/out.jsonl"),
        ("b", "B/out.csv"),
    ]


@pytest.mark.core
def test_another_input_does_not_take_the_place_of_answers_in_a_file_without_a_word(
    ask: Command, cottonpalm: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "a.jsonl", 3)
    (folder / "b.jsonl").write_text('{"text": "b"}\n')
    assert ask("a.jsonl", "-o", "out.csv").code == 0
    before = (folder / "out.csv").read_bytes()
    said = ask("b.jsonl", "-o", "out.csv")
    assert (said.code, server.requests) == (2, 3)
    assert said.one_line == (
        "cottonpalm: out.csv holds answers to the rows of a.jsonl, which would leave it for those of b.jsonl: "
        "choose another -o, or say --run out where this is the same input under another name, or --overwrite to "
        "replace the file (the store keeps the answers)"
    )
    assert (folder / "out.csv").read_bytes() == before
    assert "holds answers" in ask("b.jsonl", "-o", "out.csv", "--dry-run").err
    (folder / "a.jsonl").rename(folder / "renamed.jsonl")
    assert ask("renamed.jsonl", "-o", "out.csv", "--run", "out").code == 0
    assert (server.requests, (folder / "out.csv").read_bytes()) == (3, before)
    said = ask("b.jsonl", "-o", "out.csv", "--overwrite")
    assert said.code == 0
    assert "3 answers of run out belong to rows that b.jsonl does not hold as they were asked" in said.err
    assert (folder / "out.csv").read_text().count("\n") == 2
    assert cottonpalm("export", "out", "--all", "-o", "all.csv").code == 0
    assert (folder / "all.csv").read_text().count("\n") == 5


def test_rows_that_left_the_input_leave_the_file_and_that_is_said_once(ask: Command, folder: Path) -> None:
    rows(folder / "in.jsonl", 3)
    ask("in.jsonl", "-o", "out.jsonl")
    rows(folder / "in.jsonl", 2)
    word = (
        "1 answer of run out belongs to a row that in.jsonl does not hold as it was asked; the store keeps it"
    )
    assert word in ask("in.jsonl", "-o", "out.jsonl").err
    assert word not in ask("in.jsonl", "-o", "out.jsonl").err
    with (folder / "in.jsonl").open("a") as rows_in:
        rows_in.write('{"text": "one more"}\n')
    assert word not in ask("in.jsonl", "-o", "out.jsonl").err  # what is asked meanwhile does not unsay it
    assert "belong" not in ask("in.jsonl", "-o", "out.jsonl", "--limit", "1").err


def test_two_inputs_of_one_name_whose_answers_go_to_standard_output_are_not_one_run(
    ask: Command, folder: Path
) -> None:
    for name in ("A", "B"):
        (folder / name).mkdir()
        rows(folder / name / "in.jsonl", 2)
    assert ask("A/in.jsonl", "-o", "-").code == 0
    said = ask("B/in.jsonl", "-o", "-")
    assert said.code == 2
    assert "run in of this store reads A/in.jsonl, not B/in.jsonl: say --run NAME" in said.err
    assert ask("B/in.jsonl", "-o", "-", "--run", "in").code == 0


def test_the_cost_of_a_run_is_the_same_word_in_the_table_and_in_detail(
    ask: Command, cottonpalm: Command, folder: Path
) -> None:
    rows(folder / "in.jsonl", 2)
    assert ask("in.jsonl", "-o", "free.jsonl", "--price", "gpt-4o-mini=0:0").code == 0
    store = open_store(str(folder / "cottonpalm.db"))
    store.open_run("python", None).close()
    store.close()
    for name, cost in (("free", "$0"), ("python", "?")):
        assert f"\ncost       {cost}\n" in cottonpalm("status", name).out
        [line] = [line for line in cottonpalm("status").out.splitlines() if line.startswith(name)]
        assert line.split()[4] == cost


@pytest.mark.usefixtures("done")
def test_a_store_that_cannot_be_written_can_be_looked_at_and_exported(
    cottonpalm: Command, folder: Path
) -> None:
    log = folder / "cottonpalm.db-wal"
    for _ in range(200):  # a connection of the command before may still be closing
        if not log.exists():
            break
        gc.collect()
        time.sleep(0.05)
        # where two close at the same moment, SQLite leaves the log to the next one
        with closing(sqlite3.connect(folder / "cottonpalm.db")) as last:
            last.execute("SELECT 1 FROM sqlite_master")
    log.mkdir()  # so that nobody can write, whatever his rights
    for words in (("status",), ("status", "out"), ("report", "out"), ("export", "out", "-o", "out.csv")):
        said = cottonpalm(*words)
        assert said.code == 0
        assert "note: cottonpalm.db cannot be written: a copy of it is read" in said.err
    assert len((folder / "out.csv").read_text().splitlines()) == 11
    said = cottonpalm("rm", "out", "--yes")
    assert said.code == 2
    assert "cottonpalm.db cannot be written (unable to open database file)" in said.one_line


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_a_locale_has_no_character_for_ends_no_command_and_data_is_utf8_in_any(
    ask: Command, cottonpalm: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    rows(folder / "in.jsonl", 2)
    assert ask("in.jsonl", "-o", "out.jsonl", prompt="sagé 日 {text}").code == 0

    def stdout_of(*words: str) -> bytes:
        out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", out)
        assert cottonpalm(*words).code == 0
        out.flush()
        return out.buffer.getvalue()  # type: ignore[attr-defined]

    assert "日".encode("unicode_escape") in stdout_of("status", "out")
    assert stdout_of("run", "--help")
    assert b"rows       2 ok" in stdout_of("report", "out")
    assert "日" in json.loads(stdout_of("status", "--json"))["prompt"]
    assert stdout_of("report", "out", "-o", "-").decode().endswith("</html>\n")
