"""What cannot work is one line that names the file, the line and the mend, and no call is made."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING
from zipfile import ZipFile

import openpyxl
import pytest

from tests.cli.conftest import lines, rows
from tests.support.replies import fails, ok

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Command
    from tests.support.loopback import Loopback

pytestmark = pytest.mark.core


def refused(said: object, *parts: str) -> None:
    assert said.code == 2  # type: ignore[attr-defined]
    for part in parts:
        assert part in said.one_line  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("in.jsonl", b"", "in.jsonl holds no rows"),
        ("in.csv", b"", "in.csv is empty"),
        ("in.csv", b"text\n", "in.csv holds no rows"),
        ("in.jsonl", b"{oops\n", "in.jsonl line 1: not a JSON object"),
        ("in.jsonl", b'"text"\n', "in.jsonl line 1: a row is a JSON object"),
        ("in.jsonl", b'{"text": "\xff"}\n', "in.jsonl line 1: byte 11 is not UTF-8"),
        ("in.csv", b"text,text\na,b\n", "in.csv line 1: the column 'text' is named twice"),
        (
            "in.csv",
            b"id,text,,\n1,a,,\n",
            "in.csv line 1: 2 columns have no name, the first of them is number 3 of 4: name them, or delete them",
        ),
        ("in.csv", b"text\na,b\n", "in.csv line 2: 2 cells, the header names 1"),
        (
            "in.jsonl",
            b'{"txt": "a"}\n',
            "the prompt names {text}, which is no column of in.jsonl; did you mean {txt}?",
        ),
        ("in.jsonl", b'{"text":\n', "in.jsonl line 1: not a JSON object: unexpected end of data (column 9)"),
        ("in.jsonl", b'{"a": 1234567890123456, "b": ' + b"[" * 100_000 + b"\n", "nested too deeply"),
        ("in.jsonl", b"{}\n", "name one of its columns (the first row has none)"),
        ("in.csv", b"id~text\n1~a\n", "did you mean {id~text}?"),
        ("in.xls", b"PK", "save it as one of these, or use - for JSONL"),
        ("in.json", b"[]", "jq -c '.[]' rows.json > rows.jsonl"),
        ("in.jsonl", b'[\n{"text": "a"}]', "the JSON goes on over several lines; write one object a line"),
        ("in.jsonl", b'[{"text": "a"}]', "this is an array; write one object a line"),
        ("in.jsonl", b"id,text\n", "looks like the header of a CSV: name the file .csv"),
        (
            "in.jsonl",
            b"text\nfoo\n",
            "if it names a column of texts, name the file .csv, or say --input-format csv",
        ),
        ("in.tsv", b"id,text\n1,a\n", "in.tsv line 1: the header holds no tab, but ',': it is a .csv"),
        ("in.csv", b'{"text": "a"}\n{"text": "b"}\n', "holds lines of JSON, no CSV: name it .jsonl"),
        ("in.csv", b"# from a tool\nid,text\n", "line 1, '# from a tool', is taken for the header"),
        ("in.csv", b"text\nHello, you\n", "if each line is one text, name the file .tsv"),
        ("in.xlsx", b"PK", "in.xlsx is no Excel file that can be read"),
    ],
)
def test_a_bad_beginning_of_the_input_is_refused(
    ask: Command, folder: Path, server: Loopback, name: str, data: bytes, said: str
) -> None:
    (folder / name).write_bytes(data)
    refused(ask(name, "-o", "out.jsonl"), said)
    assert server.requests == 0
    assert not (folder / "out.jsonl").exists()
    assert not (folder / "cottonpalm.db").exists()


def test_a_name_that_is_too_long_for_the_file_system_is_refused(
    ask: Command, folder: Path, server: Loopback
) -> None:
    (folder / "in.jsonl").write_text('{"text": "a"}\n')
    refused(
        ask("in.jsonl", "-o", f"{'x' * 300}.jsonl"), "too long for this file system: choose a shorter one"
    )
    assert server.requests == 0


def test_an_input_that_is_not_there_or_a_folder_is_refused(ask: Command, folder: Path) -> None:
    refused(ask("no.jsonl", "-o", "out.jsonl"), "cannot read no.jsonl: No such file or directory")
    (folder / "dir.jsonl").mkdir()
    refused(ask("dir.jsonl", "-o", "out.jsonl"), "cannot read dir.jsonl: Is a directory; name a file in it")
    (folder / "reviews.jsonl").write_text("{}")
    refused(ask("reveiws.jsonl", "-o", "out.jsonl"), "did you mean reviews.jsonl?")
    refused(ask("reviews.jsn", "-o", "out.jsonl"), "No such file or directory; did you mean reviews.jsonl?")
    refused(ask("data/reviews.jsonl", "-o", "out.jsonl"), "there is no folder data")
    refused(ask("*.jsonl", "-o", "out.jsonl"), "a pattern stands for Parquet files alone")


def test_a_pipe_that_has_a_name_is_written_to_and_as_an_input_is_refused_by_that_name(
    ask: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 2)
    reads, writes = os.pipe()
    try:
        name = f"/dev/fd/{reads}"  # as a shell's `<(...)`
        refused(ask(name, "-o", "out.jsonl"), f"input {name}: cottonpalm knows", "use - for JSONL")
        assert server.requests == 0
        assert ask("in.jsonl", "-o", f"/dev/fd/{writes}", "--run", "piped").code == 0
        assert os.read(reads, 1 << 16).count(b"\n") == 2
    finally:
        os.close(reads)
        os.close(writes)


@pytest.mark.parametrize("words", [["run", "in.jsonl", "-o", "out.jsonl"], ["status"]], ids=" ".join)
def test_a_folder_that_was_deleted_under_the_shell_is_named(
    cottonpalm: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    (folder / "gone").mkdir()
    monkeypatch.chdir(folder / "gone")
    (folder / "gone").rmdir()
    refused(cottonpalm(*words), "the folder that this shell is in was deleted: cd to one that is there")


def test_a_foreign_output_is_refused_and_overwrite_replaces_it(
    ask: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 2)
    for name in ("out.jsonl", "out.csv"):
        (folder / name).write_text("precious\n")
        refused(ask("in.jsonl", "-o", name), f"{name} exists and was not written by this run", "--overwrite")
        assert (folder / name).read_text() == "precious\n"
    assert server.requests == 0
    assert ask("in.jsonl", "-o", "out.jsonl", "--overwrite").code == 0
    assert len(lines(folder / "out.jsonl")) == 2


def test_a_place_that_cannot_be_written_is_refused(ask: Command, folder: Path, server: Loopback) -> None:
    rows(folder / "in.jsonl", 2)
    refused(ask("in.jsonl", "-o", "no/out.jsonl"), "there is no folder", "make it first")
    refused(ask("in.jsonl", "-o", "in.jsonl"), "is the input itself")
    (folder / "linked.jsonl").hardlink_to(folder / "in.jsonl")
    refused(ask("in.jsonl", "-o", "linked.jsonl", "--overwrite"), "is the input itself")
    refused(ask("in.jsonl", "-o", "out.txt"), "-o out.txt: cottonpalm knows")
    (folder / "dir.jsonl").mkdir()
    refused(ask("in.jsonl", "-o", "dir.jsonl"), "dir.jsonl is a folder; name a file in it")
    refused(ask("in.jsonl", "-o", "/proc/out.jsonl"), "cannot write /proc/out.jsonl")
    assert server.requests == 0
    assert not (folder / "cottonpalm.db").exists()


def test_of_rows_that_could_not_be_read_it_says_to_mend_the_input_and_of_others_to_retry(
    ask: Command, folder: Path, server: Loopback
) -> None:
    server.script(lambda request: fails(400) if request.text.endswith("row-1") else None)
    rows(folder / "in.jsonl", 3)
    with (folder / "in.jsonl").open("a") as more:
        more.write("{\n")
    said = ask("in.jsonl", "-o", "out.jsonl")
    assert said.code == 3
    assert "mend     the input (1 row could not be read), and give the same command again" in said.err
    assert "retry    cottonpalm retry out" in said.err


def test_answers_without_text_are_counted(ask: Command, folder: Path, server: Loopback) -> None:
    server.script(lambda request: ok(" ") if request.text.endswith("row-1") else None)
    rows(folder / "in.jsonl", 3)
    said = ask("in.jsonl", "-o", "out.jsonl")
    assert said.code == 0
    assert "empty    1 answer has no text; the first, row 2 (index 1)" in said.err


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_folder_is_refused(ask: Command, folder: Path) -> None:
    rows(folder / "in.jsonl", 2)
    (folder / "ro").mkdir(mode=0o500)
    refused(ask("in.jsonl", "-o", "ro/out.jsonl"), "cannot write ro/out.jsonl: Permission denied")


def test_a_full_disk_stops_the_run_with_4_and_the_store_keeps_what_was_answered(
    ask: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 3)
    said = ask("in.jsonl", "-o", "/dev/full", "--run", "r")
    assert said.code == 4
    assert (
        "cannot write to /dev/full: No space left on device; the results are safe in cottonpalm.db"
        in said.err
    )
    said = ask("in.jsonl", "-o", "out.jsonl", "--run", "r")
    assert said.code == 0
    assert server.requests == 3
    assert len(lines(folder / "out.jsonl")) == 3


def test_a_database_of_others_and_a_file_that_is_none_are_refused(
    ask: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 2)
    with sqlite3.connect(folder / "theirs.db") as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    refused(ask("in.jsonl", "-o", "out.jsonl", "--store", "theirs.db"), "theirs.db")
    (folder / "text.db").write_text("not a database at all, but long enough to look at " * 40)
    refused(ask("in.jsonl", "-o", "out.jsonl", "--store", "text.db"), "text.db")
    refused(ask("in.jsonl", "-o", "out.jsonl", "--store", "no/s.db"), "s.db")
    refused(ask("in.jsonl", "-o", "out.jsonl", "--store", "redis://x"), "redis")
    assert server.requests == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--prompt", "{text}", "--chain", "a:b"),
            "--chain brings its own model and prompt; leave out --prompt",
        ),
        ((), "say what to do with each row"),
        (("--prompt", " "), "the prompt is empty"),
        (("--prompt", "{text}", "--prompt-file", "p"), "--prompt or --prompt-file, not both"),
        (("--prompt-file", "no.txt"), "cannot read no.txt"),
        (("--prompt", "{text}", "--model", "nosuch:x"), "unknown provider 'nosuch'"),
        (("--prompt", "{text}", "--model", "openai:x"), "export OPENAI_API_KEY="),
        (("--prompt", "{text}", "--model", "openai:x", "--base-url", "localhost"), "write the whole address"),
        (("--prompt", "{text}", "--model-option", "temperature"), "write KEY=VALUE"),
        (("--chain", "nowhere_at_all:chain"), "no module 'nowhere_at_all'"),
        (("--chain", "json:loads"), "is no Runnable but a function"),
        (("--prompt", "{text}", "-q", "-v"), "say -q or -v, not both"),
        (("--prompt", "{text}", "--retries", "-1"), "--retries"),
        (("--prompt", "{text}", "--nonsense"), "--nonsense"),
        (("--prompt", "{text}", "--run", ""), "a run's name needs a letter"),
        (("--prompt", "{text}", "--events", ""), "--events is empty: name a file, or leave it out"),
        (("--prompt", "{text}", "--report", ""), "--report is empty: name a file, or leave it out"),
        (("--prompt", "{text}", "--store", ""), "--store is empty: name a file, or leave it out"),
        (
            ("--chain", "a:b", "--temperature", "0"),
            "leave out --model-option, --temperature and --max-tokens",
        ),
    ],
)
def test_words_that_cannot_work_are_refused(
    cottonpalm: Command, folder: Path, words: tuple[str, ...], said: str
) -> None:
    rows(folder / "in.jsonl", 2)
    refused(cottonpalm("run", "in.jsonl", "-o", "out.jsonl", *words), said)
    assert [path.name for path in folder.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--concurrency", "many"), "--concurrency many: say auto, or a number from 1 on"),
        (("--concurrency", "0"), "say auto, or a number from 1 on"),
        (("--concurrency", "9", "--max-concurrency", "3"), "is above --max-concurrency 3"),
        (("--timeout", "0"), "--timeout"),
    ],
)
def test_numbers_that_cannot_work_are_refused(
    ask: Command, folder: Path, server: Loopback, words: tuple[str, ...], said: str
) -> None:
    rows(folder / "in.jsonl", 2)
    refused(ask("in.jsonl", "-o", "out.jsonl", *words), said)
    assert server.requests == 0


def test_a_run_or_store_that_is_not_there_is_refused_and_none_is_made(
    cottonpalm: Command, folder: Path
) -> None:
    for words in (("status",), ("status", "x"), ("retry", "x")):
        refused(cottonpalm(*words), "there is no store cottonpalm.db")
    assert list(folder.iterdir()) == []


def test_retry_names_the_runs_there_are_and_leaves_those_of_python_alone(
    ask: Command, cottonpalm: Command, folder: Path
) -> None:
    from cottonpalm.stores import open_store

    rows(folder / "in.jsonl", 2)
    ask("in.jsonl", "-o", "out.jsonl")
    refused(cottonpalm("retry", "oot"), "has no run 'oot'; its runs: out")
    store = open_store(folder / "cottonpalm.db")
    store.open_run("py", None).close()
    store.close()
    refused(cottonpalm("retry", "py"), "run py was made from Python", "give that command again")


def test_a_row_of_megabytes_braces_and_control_characters_arrives_unharmed(
    ask: Command, folder: Path, server: Loopback
) -> None:
    import orjson

    text = "{text} {{}} {0} %s \x00\x1b[31m\r\n" + "ü" * 2_000_000
    (folder / "in.jsonl").write_bytes(orjson.dumps({"text": text}) + b"\n")
    assert ask("in.jsonl", "-o", "out.jsonl", "-q").code == 0
    assert lines(folder / "out.jsonl")[0]["output"] == f"answer to: say {text}"


def test_a_wrong_word_about_a_csv_is_refused_and_excels_own_is_taken(ask: Command, folder: Path) -> None:
    (folder / "in.csv").write_text("id;text\n1;a\n")
    refused(
        ask("in.csv", "-o", "out.csv", "--delimiter", ","), "does not hold it, but ';'; leave --delimiter out"
    )
    refused(
        ask("in.csv", "-o", "out.csv", "--encoding", "utf-16"),
        "in.csv is not utf-16",
        "say another --encoding",
    )
    (folder / "excel.csv").write_text("sep=|\r\nid|text, here\r\n1|a\r\n2\r\n")
    said = ask("excel.csv", "-o", "out.csv", prompt="{text, here}")
    assert said.code == 3
    assert "excel.csv line 4: 1 cell, the header names 2 (a cell is missing" in said.err
    assert (folder / "out.csv").read_text().splitlines()[1].startswith("1|a|answer to: a|ok")


def test_what_is_asked_again_of_a_file_is_told_before(
    ask: Command, folder: Path, server: Loopback, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "in.csv").write_text("id,text\n1,a\n2,b\n3,c\n")
    assert ask("in.csv", "-o", "out.csv").code == 0
    assert ask("in.csv", "-o", "out.csv", "--id-field", "id").code == 0
    assert "3 of 3 rows were answered in run 'out' under another id, or under none" in caplog.text
    caplog.clear()
    (folder / "in.csv").write_text("id,text\n1,a\n2,B\n3,c\n4,d\n")
    assert ask("in.csv", "-o", "out.csv", "--id-field", "id").code == 0
    assert "1 of 4 rows were edited since run 'out' asked them" in caplog.text
    assert server.requests == 8
    caplog.clear()
    assert ask("in.csv", "-o", "out.csv", "--id-field", "id").code == 0
    assert "again" not in caplog.text


@pytest.mark.parametrize("rows", [1, 2, 255, 256, 257, 700])
def test_rows_that_were_looked_at_before_the_run_are_each_given_once(
    ask: Command, folder: Path, rows: int
) -> None:
    made = [f"{n},text {n}" for n in range(rows)]
    (folder / "in.csv").write_text(
        "\n".join(["id,text", *made[:-1], ""]) if rows > 1 else "id,text\n0,text 0\n"
    )
    assert ask("in.csv", "-o", "out.csv", "--limit", "1").code == 0
    bad = ["only one cell"]
    (folder / "in.csv").write_text("\n".join(["id,text", *made, *bad, ""]))
    assert ask("in.csv", "-o", "out.csv").code == 3
    written = (folder / "out.csv").read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in written] == [*map(str, range(rows)), *bad]
    assert written[-1].startswith(f'only one cell,,,failed,"fail_row: BadRow: in.csv line {rows + 2}: 1 cell')


def sheet(path: Path, *lines: list[object]) -> None:
    book = openpyxl.Workbook()
    for line in lines:
        book.active.append(line)
    book.save(path)


def test_a_formula_of_excel_that_was_never_computed_is_said_before_anything_is_asked(
    ask: Command, folder: Path, server: Loopback
) -> None:
    sheet(folder / "in.xlsx", ["id", "text"], ["1", '="a"&"b"'], ["2", "plain"])
    refused(ask("in.xlsx", "-o", "out.jsonl"), "in.xlsx row 2: the formula in cell B2 has no value")
    sheet(folder / "in.xlsx", ["id", '="te"&"xt"'], ["1", "plain"])
    refused(ask("in.xlsx", "-o", "out.jsonl"), "in.xlsx row 1: the formula in cell B1 has no value")
    assert server.requests == 0


def test_a_later_formula_that_was_never_computed_fails_its_row_alone(
    ask: Command, folder: Path, server: Loopback
) -> None:
    sheet(folder / "in.xlsx", ["id", "text"], ["1", "one"], ["2", '="a"&"b"'], [None, "=B2"], ["4", "four"])
    assert ask("in.xlsx", "-o", "out.jsonl").code == 3
    assert server.counts == {"say one": 1, "say four": 1}
    written = sorted(lines(folder / "out.jsonl"), key=lambda line: line["index"])
    errors = [line["error"] and line["error"]["message"] for line in written]
    assert [errors[0], errors[3]] == [None, None]
    assert "in.xlsx row 3: the formula in cell B3 has no value" in errors[1]
    assert "in.xlsx row 4: the formula in cell B4 has no value" in errors[2]


def test_a_formula_that_was_never_computed_harms_no_row_whose_question_does_not_use_its_column(
    ask: Command, folder: Path, server: Loopback
) -> None:
    sheet(folder / "in.xlsx", ["text", "sum"], ["one", "=1+1"], ["two", "=1+1"], ["three", None])
    assert ask("in.xlsx", "-o", "out.csv").code == 0
    assert server.counts == {"say one": 1, "say two": 1, "say three": 1}
    assert (folder / "out.csv").read_text().splitlines()[1].startswith("one,,answer to: say one,ok")
    refused(
        ask("in.xlsx", "-o", "x.csv", prompt="say {sum}"),
        "in.xlsx row 2: the formula in cell B2 has no value",
    )
    refused(ask("in.xlsx", "-o", "y.csv", "--id-field", "sum"), "in.xlsx row 2: the id in 'sum' is empty")


def test_a_chain_of_ones_own_uses_all_columns_and_so_every_formula_has_to_have_a_value(
    cottonpalm: Command, folder: Path
) -> None:
    sheet(folder / "in.xlsx", ["text", "sum"], ["one", "=1+1"])
    (folder / "app_of_sums.py").write_text(
        "from langchain_core.runnables import RunnableLambda\nsame = RunnableLambda(str)\n"
    )
    said = cottonpalm("run", "in.xlsx", "-o", "out.csv", "--chain", "app_of_sums:same")
    refused(said, "in.xlsx row 2: the formula in cell B2 has no value")


def test_a_formula_of_excel_whose_value_is_empty_text_is_empty_text(
    ask: Command, folder: Path, server: Loopback
) -> None:
    sheet(folder / "made.xlsx", ["id", "text", "more"], ["1", "one", '=""'], ["2", "two", None])
    with ZipFile(folder / "made.xlsx") as made, ZipFile(folder / "in.xlsx", "w") as saved:
        for name in made.namelist():
            cell = b'<c r="C2" t="str"><f>""</f><v></v>' if name == "xl/worksheets/sheet1.xml" else b""
            assert not cell or b'<c r="C2"><f>""</f><v />' in made.read(name)
            saved.writestr(name, made.read(name).replace(b'<c r="C2"><f>""</f><v />', cell))
    assert ask("in.xlsx", "-o", "out.jsonl").code == 0
    assert server.counts == {"say one": 1, "say two": 1}
