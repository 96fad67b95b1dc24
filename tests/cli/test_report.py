"""`report`, `run --report` and `--events`: a run's page from its store, two runs compared, events as lines."""

from __future__ import annotations

import io
import json
import os
import re
import sqlite3
import sys
from contextlib import closing
from shutil import rmtree
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.runnables import RunnableLambda

from cottonpalm import BatchProcessor
from cottonpalm.cli.commands.report import open_events
from cottonpalm.observers import kept
from cottonpalm.observers.report import text_of
from cottonpalm.observers.words.formatting import as_it_can_be_shown
from cottonpalm.stores import open_store
from tests.cli.conftest import lines, rows
from tests.report.stories import HOSTILE, long_story
from tests.report.test_page import Page
from tests.support.replies import fails

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Command
    from tests.support.loopback import Loopback
    from tests.support.replies import Request


def said(path: Path) -> str:
    return re.sub(r"\s+", " ", Page(path.read_text("utf-8")).said)


def test_a_run_writes_its_page_at_the_end_and_says_where(
    ask: Command, folder: Path, server: Loopback
) -> None:
    server.script(lambda request: fails(400) if "row-3" in request.text else None)
    rows(folder / "in.jsonl", 12)
    result = ask("in.jsonl", "-o", "out.jsonl", "--report", "page.html")
    assert result.code == 3
    assert "  report   page.html\n" in result.err
    shown = said(folder / "page.html")
    assert "11 of 12 rows answered in" in shown
    assert "Done, with failed rows" in shown
    assert "fail_row cannot be answered 1" in shown
    assert "cottonpalm retry out" in shown
    assert "row-3" in shown, "the input of the row that failed"
    assert "times 1" not in shown, "what was not asked for is no setting"


def test_any_other_process_draws_the_same_page_from_the_store_without_a_call(
    ask: Command, cottonpalm: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 30)
    assert ask("in.jsonl", "-o", "out.jsonl", "--report", "page.html", "--budget", "1").code == 0
    result = cottonpalm("report", "out", "-o", "again.html")
    assert (result.code, result.err) == (0, "again.html: report of run out\n")
    one, other = ((folder / name).read_text("utf-8") for name in ("page.html", "again.html"))
    without_time = [re.sub(r"written [^<]*", "", text) for text in (one, other)]
    assert without_time[0] == without_time[1]
    assert server.requests == 30


def test_the_summary_the_status_and_the_report_say_one_rate(ask: Command, folder: Path) -> None:
    """The time to write the output was in two of them: 10.7/s and 10.8/s on one screen."""
    rows(folder / "in.jsonl", 30)
    assert ask("in.jsonl", "-o", "out.csv").code == 0
    with closing(open_store(folder / "cottonpalm.db")) as store:
        [info] = store.runs()
    life = kept.read(info.meta[kept.META])
    assert life is not None
    assert info.meta["facts"]["rate"] == pytest.approx(life.report.rows_per_s, abs=0.002)


def test_of_a_run_whose_process_kept_no_report_or_an_early_one_it_says_what_the_store_holds(
    ask: Command, cottonpalm: Command, folder: Path
) -> None:
    rows(folder / "in.jsonl", 3)
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0
    with sqlite3.connect(folder / "cottonpalm.db") as db:
        meta = json.loads(db.execute("SELECT meta FROM run").fetchone()[0])
        early = json.loads(json.dumps(meta))
        early[kept.META]["report"]["counts"]["ok"] = 2
        db.execute("UPDATE run SET meta = ?", (json.dumps(early),))
    db.close()
    said = cottonpalm("report", "out").out
    assert said.startswith("stored     3 ok, 0 failed, $")
    assert "as its process kept it:\n\nrows       2 ok, 0 failed" in said
    del meta[kept.META]
    with sqlite3.connect(folder / "cottonpalm.db") as db:
        db.execute("UPDATE run SET meta = ?", (json.dumps(meta),))
    db.close()
    said = cottonpalm("report", "out").out
    assert "report     its process has kept none" in said
    assert "0 ok" not in said
    store = open_store("cottonpalm.db")
    store.open_run("begun", None).close()
    store.close()
    said = cottonpalm("report", "begun").out
    assert said.startswith("stored     0 ok, 0 failed\nreport     its process has kept none")


def test_without_a_file_the_report_is_printed(ask: Command, cottonpalm: Command, folder: Path) -> None:
    rows(folder / "in.jsonl", 5)
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0
    result = cottonpalm("report", "out")
    assert result.out.startswith("rows       5 ok, 0 failed\n")
    assert cottonpalm("report", "out", "-o", "-").out.startswith("<!DOCTYPE html>")


def test_a_report_needs_no_utf_8(
    ask: Command, cottonpalm: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = text_of(long_story().report)
    assert "█" in text
    assert as_it_can_be_shown(text, "UTF-8") == text
    assert as_it_can_be_shown(text, "ascii").isascii()
    rows(folder / "in.jsonl", 20)
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0
    assert "· call" in cottonpalm("report", "out").out
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert cottonpalm("report", "out").code == 0
    sys.stdout.flush()
    assert b"- call" in written.getvalue()
    assert b"\\u" not in written.getvalue()


def test_two_runs_are_compared_as_a_page_and_as_text(ask: Command, cottonpalm: Command, folder: Path) -> None:
    rows(folder / "in.jsonl", 8)
    for name in ("a", "b"):
        assert ask("in.jsonl", "-o", f"{name}.jsonl").code == 0
    result = cottonpalm("report", "a", "b", "-o", "ab.html")
    assert result.err == "ab.html: runs a and b, compared\n"
    shown = said(folder / "ab.html")
    assert "Two runs of 8 rows" in shown
    assert "output" in shown, "a setting that differs"
    text = cottonpalm("report", "a", "b").out
    assert text.startswith("A is a, B is b.\nB took ")
    assert "Failed rows" not in text, "neither had any"
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "mend"),
    [
        (("none", "-o", "x.html"), "has no run 'none'"),
        (("out", "-o", "nowhere/x.html"), "there is no folder nowhere"),
        (
            ("out", "-o", "in.jsonl"),
            "in.jsonl is there and is no report; name another file, or say --overwrite",
        ),
        (("out", "--store", "other.db"), "there is no store other.db"),
        (("out", "-o", "."), ". is a folder; name a file, as in report.html"),
        (("out", "-o", "./cottonpalm.db", "--overwrite"), "is the store itself; name another file"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line_and_harms_nothing(
    ask: Command, cottonpalm: Command, folder: Path, words: tuple[str, ...], mend: str
) -> None:
    rows(folder / "in.jsonl", 2)
    before = (folder / "in.jsonl").read_bytes()
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0
    result = cottonpalm("report", *words)
    assert result.code == 2
    assert mend in result.err
    assert result.err.count("\n") == 1
    assert (folder / "in.jsonl").read_bytes() == before
    assert cottonpalm("status").code == 0, "the store is still one"


def test_a_report_that_cannot_be_written_is_refused_before_any_call(
    ask: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 2)
    result = ask("in.jsonl", "-o", "out.jsonl", "--report", "nowhere/x.html")
    assert result.code == 2
    assert "there is no folder nowhere" in result.err
    assert server.requests == 0
    result = ask("in.jsonl", "-o", "out.jsonl", "--events", "nowhere/e.jsonl")
    assert (result.code, server.requests) == (2, 0)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("-o out.jsonl --events in.jsonl", "--events in.jsonl is the input"),
        ("-o out.jsonl --events ./out.jsonl", "--events out.jsonl is the output"),
        ("-o out.jsonl --report out.jsonl", "--report out.jsonl is the output"),
        ("-o out.jsonl --events cottonpalm.db", "--events cottonpalm.db is the store"),
        ("-o out.jsonl --store out.jsonl --overwrite", "-o out.jsonl is the store"),
        ("-o out.jsonl --report x.html --events x.html", "--events x.html is the report"),
    ],
)
def test_one_file_in_two_places_is_refused(
    ask: Command, folder: Path, server: Loopback, words: str, what: str
) -> None:
    rows(folder / "in.jsonl", 2)
    result = ask("in.jsonl", *words.split())
    assert result.code == 2
    assert f"cottonpalm: {what} itself; name another file" in result.one_line
    assert server.requests == 0
    assert [path.name for path in folder.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("-o - --report -", "--report - and the output"),
        ("-o - --events -", "--events - and the output"),
        ("-o out.jsonl --report - --events -", "--events - and the report"),
        ("-o - --events /dev/stdout", "--events /dev/stdout and the output"),
        ("-o - --events /proc/self/fd/1", "--events /proc/self/fd/1 and the output"),
        ("-o /dev/fd/1 --events -", "--events - and the output"),
    ],
)
def test_two_things_on_standard_output_are_refused(
    ask: Command, folder: Path, server: Loopback, words: str, what: str
) -> None:
    rows(folder / "in.jsonl", 2)
    result = ask("in.jsonl", *words.split())
    assert (result.code, server.requests, result.out) == (2, 0, "")
    assert f"cottonpalm: {what} would be one text on standard output; name a file" in result.one_line


@pytest.mark.parametrize("page", ["pages/run.html", "/dev/full"])
def test_a_page_that_cannot_be_written_at_the_end_is_told_to_the_shell_and_the_run_is_none_the_worse(
    ask: Command, cottonpalm: Command, folder: Path, server: Loopback, page: str
) -> None:
    """The command ended with 0, and a script went on to a page that was not there."""
    rows(folder / "in.jsonl", 2)
    (folder / "pages").mkdir()

    def gone(_: Request) -> None:
        rmtree(folder / "pages", ignore_errors=True)

    server.script(gone)
    said = ask("in.jsonl", "-o", "out.jsonl", "--report", page)
    assert said.code == 4
    assert f"{page}: No" in said.err
    assert "the results are safe, and cottonpalm report out -o FILE makes it of them" in said.err
    assert "resume" not in said.err
    assert len(lines(folder / "out.jsonl")) == 2
    assert json.loads(cottonpalm("status", "out", "--json").out)["exit_code"] == 0
    assert cottonpalm("report", "out", "-o", "again.html").code == 0
    assert "2 of 2 rows answered" in (folder / "again.html").read_text("utf-8")


def test_what_goes_nowhere_may_go_there_at_once(ask: Command, folder: Path) -> None:
    rows(folder / "in.jsonl", 2)
    assert ask("in.jsonl", "-o", "/dev/null", "--events", "/dev/null").code == 0


def test_a_report_of_ours_is_replaced_without_asking(ask: Command, cottonpalm: Command, folder: Path) -> None:
    rows(folder / "in.jsonl", 2)
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0
    for _ in range(2):
        assert cottonpalm("report", "out", "-o", "x.html").code == 0
    (folder / "mine.html").write_text("<html>mine</html>")
    assert cottonpalm("report", "out", "-o", "mine.html").code == 2
    assert cottonpalm("report", "out", "-o", "mine.html", "--overwrite").code == 0


def test_a_run_in_two_lives_is_one_report_with_all_its_rows(
    ask: Command, cottonpalm: Command, folder: Path, server: Loopback
) -> None:
    server.script(lambda request: fails(500) if "row-7" in request.text else None)
    rows(folder / "in.jsonl", 10)
    assert ask("in.jsonl", "-o", "out.jsonl").code == 3
    server.script(None)
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0, "a life that does nothing leaves the report as it is"
    assert cottonpalm("report", "out", "-o", "x.html").code == 0
    shown = said(folder / "x.html")
    assert "10 of 10 rows answered" in shown
    assert "1 row in this life of the run" in shown
    assert "lives 2; the earlier ones did 10 rows" in shown


def test_hostile_rows_harm_neither_the_page_nor_the_terminal(
    ask: Command, cottonpalm: Command, folder: Path, server: Loopback
) -> None:
    server.script(lambda request: fails(400) if "red" in request.text or "evil" in request.text else None)
    given = [{"text": text.encode("utf-8", "replace").decode()[:200_000]} for text in HOSTILE]
    (folder / "in.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in given), "utf-8")
    result = ask("in.jsonl", "-o", "out.jsonl", "--report", "x.html", "--events", "e.jsonl", "-v")
    assert result.code == 3
    text = (folder / "x.html").read_text("utf-8")
    assert len(Page(text).all("script")) == 1
    for shown in (text, result.err, cottonpalm("report", "out").out, (folder / "e.jsonl").read_text("utf-8")):
        assert not any(char in shown for char in "\x1b\x07\x00\x08\u202e\u202c\u2066")
    assert len(text) < 300_000


def test_a_run_made_from_python_has_a_page_too(cottonpalm: Command, folder: Path) -> None:
    def answer(row: Any) -> str:
        if row == "row 3":
            raise ValueError("no answer for this one")
        return str(row)

    processor = BatchProcessor(
        RunnableLambda(answer), store=folder / "cottonpalm.db", run="py", fingerprint="1"
    )
    processor.batch([f"row {n}" for n in range(9)], return_exceptions=True)
    assert cottonpalm("report", "py", "-o", "py.html").code == 0
    shown = said(folder / "py.html")
    assert "8 of 9 rows answered" in shown
    assert "ValueError: no answer for this one" in shown
    assert processor.last_run is not None
    alone = processor.last_run.report.to_html()
    assert "no answer for this one" not in alone
    whole = processor.last_run.report.to_html(processor.last_run.outcomes(), name="py")
    assert "no answer for this one" in whole
    assert "row 3" in Page(whole).said


def test_a_run_that_was_killed_before_its_report_was_kept_is_told_from_its_rows(
    ask: Command, cottonpalm: Command, folder: Path
) -> None:
    rows(folder / "in.jsonl", 6)
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0
    store = open_store("cottonpalm.db")
    run = store.open_run("out", None)
    assert kept.read(run.meta()[kept.META]) is not None
    run.set_meta(**{kept.META: {"version": 7, "strange": True}})
    run.close()
    store.close()
    assert cottonpalm("report", "out", "-o", "x.html").code == 0
    shown = said(folder / "x.html")
    assert "6 of 6 rows answered" in shown
    assert "0.0 s" not in shown.split("What to change")[0]
    assert "The course of this run was not kept, only its rows." in shown


# -- events


def test_every_event_is_a_line_with_its_name_its_time_and_its_fields(
    ask: Command, folder: Path, server: Loopback
) -> None:
    server.script(lambda request: fails(400) if "row-3" in request.text else None)
    rows(folder / "in.jsonl", 12)
    assert ask("in.jsonl", "-o", "out.jsonl", "--events", "e.jsonl").code == 3
    events = [json.loads(line) for line in (folder / "e.jsonl").read_bytes().splitlines()]
    assert events[0]["event"] == "RunStarted"
    assert events[-1] == {"v": 1, "at": events[-1]["at"], "event": "RunEnded", "reason": None}
    finished = {event["index"]: event for event in events if event["event"] == "RowFinished"}
    assert len(finished) == 12
    assert finished[3]["status"] == "failed"
    assert finished[3]["error"]["kind"] == "fail_row"
    assert finished[0]["cost_usd"] > 0
    assert finished[0]["usage"].keys() == {"input_tokens", "output_tokens"}
    answers = {line["index"]: line["output"] for line in lines(folder / "out.jsonl")}
    text = (folder / "e.jsonl").read_text()
    assert not any(answer in text for answer in answers.values() if answer), "no answers"
    assert ask("in.jsonl", "-o", "out.jsonl", "--events", "e.jsonl").code == 3
    assert len((folder / "e.jsonl").read_bytes().splitlines()) > len(events), "lines are added"


def test_events_go_to_standard_output_where_that_is_said(ask: Command, folder: Path) -> None:
    rows(folder / "in.jsonl", 2)
    said = ask("in.jsonl", "-o", "out.jsonl", "--events", "-", "-q")
    events = [json.loads(line)["event"] for line in said.out.splitlines()]
    assert (events[0], events[-1]) == ("RunStarted", "RunEnded")
    assert not (folder / "-").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_that_nobody_reads_is_told_to_keep_the_run_waiting(folder: Path) -> None:
    pipe, told, read = folder / "events", Event(), list[bytes]()
    os.mkfifo(pipe)

    def reads_later() -> None:
        told.wait(30)
        read.append(pipe.read_bytes())

    def say(text: str) -> None:
        told.set()
        assert text.endswith("events is a pipe that nobody reads: the run begins when somebody does")

    reader = Thread(target=reads_later, daemon=True)
    reader.start()
    with open_events(str(pipe), say) as file:
        file.write(b"{}\n")
    reader.join(30)
    assert read == [b"{}\n"]

    told.clear()
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with open_events(str(pipe), say) as file:
        file.write(b"{}\n")
    assert os.read(reading, 10) == b"{}\n"
    os.close(reading)
    assert not told.is_set(), "somebody read it"


def test_events_begin_a_line_of_their_own_behind_one_that_was_cut(ask: Command, folder: Path) -> None:
    rows(folder / "in.jsonl", 2)
    (folder / "e.jsonl").write_bytes(b'{"v":1,"at":12.5,"event":"RowSta')  # killed, or the disk was full
    assert ask("in.jsonl", "-o", "out.jsonl", "--events", "e.jsonl").code == 0
    cut, *whole = (folder / "e.jsonl").read_bytes().splitlines()
    assert cut.endswith(b"RowSta")
    assert json.loads(whole[0])["event"] == "RunStarted"


def test_a_retry_tells_its_events_and_draws_the_page_of_both_lives(
    ask: Command, cottonpalm: Command, folder: Path, server: Loopback
) -> None:
    server.script(lambda request: fails(400) if "row-3" in request.text and request.nth == 1 else None)
    rows(folder / "in.jsonl", 12)
    assert ask("in.jsonl", "-o", "out.jsonl").code == 3
    again = cottonpalm("retry", "out", "--events", "e.jsonl", "--report", "page.html")
    assert again.code == 0
    events = [json.loads(line) for line in (folder / "e.jsonl").read_bytes().splitlines()]
    finished = [event["status"] for event in events if event["event"] == "RowFinished"]
    assert finished == ["ok"]
    assert "12 of 12 rows answered" in said(folder / "page.html")


def test_a_quiet_report_writes_its_page_and_says_nothing(
    ask: Command, cottonpalm: Command, folder: Path
) -> None:
    rows(folder / "in.jsonl", 3)
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0
    result = cottonpalm("report", "out", "-o", "page.html", "--quiet")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert "3 of 3 rows answered" in said(folder / "page.html")
