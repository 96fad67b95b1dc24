"""Files as people have them: separators, encodings, Excel, CSV in a pipe, ragged rows; and a look at what goes on."""

from __future__ import annotations

import csv
import io
import os
import signal
import stat
import subprocess
from typing import TYPE_CHECKING

import openpyxl
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cottonpalm.stores import open_store
from tests.cli.conftest import lines, rows
from tests.support.programs import Cottonpalm, run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Command
    from tests.support.loopback import Loopback


def cells(path: Path, delimiter: str = ",", encoding: str = "utf-8") -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_text(encoding), newline=""), delimiter=delimiter))


@pytest.mark.core
@pytest.mark.parametrize(
    ("name", "mark", "said"),
    [
        ("in.csv", ";", ()), ("in.csv", "|", ()), ("in.csv", "\t", ()), ("in.tsv", "\t", ()),
        ("in.csv", "~", ("--delimiter", "~")),
    ],
)  # fmt: skip
def test_the_separator_is_found_and_kept(
    ask: Command, folder: Path, name: str, mark: str, said: tuple[str, ...]
) -> None:
    (folder / name).write_text(f"id{mark}text\n1{mark}a, b\n2{mark}c\n")
    assert ask(name, "-o", f"out{name[2:]}", *said).code == 0
    found = cells(folder / f"out{name[2:]}", mark)
    assert [line[:4] for line in found] == [
        ["id", "text", "output", "status"],
        ["1", "a, b", "answer to: say a, b", "ok"],
        ["2", "c", "answer to: say c", "ok"],
    ]


@pytest.mark.core
@pytest.mark.parametrize(
    ("encoding", "said"),
    [("utf-8-sig", ()), ("utf-16", ()), ("gbk", ("--encoding", "gbk")), ("utf-16-le", ("--encoding", "utf-16-le"))],
)  # fmt: skip
def test_an_input_is_read_in_its_encoding(
    ask: Command, folder: Path, encoding: str, said: tuple[str, ...]
) -> None:
    (folder / "in.csv").write_bytes("编号,text\n1,很好\n2,不行\n".encode(encoding))
    assert ask("in.csv", "-o", "out.csv", "--bom", *said).code == 0
    assert (folder / "out.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    assert [line[:3] for line in cells(folder / "out.csv", encoding="utf-8-sig")] == [
        ["编号", "text", "output"],
        ["1", "很好", "answer to: say 很好"],
        ["2", "不行", "answer to: say 不行"],
    ]


def test_a_wrong_encoding_names_the_byte(ask: Command, folder: Path, server: Loopback) -> None:
    (folder / "in.csv").write_bytes("text\nnaïve\n".encode("cp1252"))
    said = ask("in.csv", "-o", "out.csv").one_line
    assert "line 2: byte 3 (0xef) is not UTF-8" in said
    assert "--encoding cp1252" in said
    assert "byte 8 (0xef) is not ascii" in ask("in.csv", "-o", "out.csv", "--encoding", "ascii").one_line
    assert "no such encoding" in ask("in.csv", "-o", "out.csv", "--encoding", "utf8000").one_line
    assert server.requests == 0


@pytest.mark.core
def test_excel_goes_in_and_out_and_no_answer_is_a_formula(ask: Command, folder: Path) -> None:
    book = openpyxl.Workbook()
    for line in (["n", "text", None], [1, "=1+1 is two"], [], [2.5, None]):
        book.active.append(line)
    book.active["B2"].data_type = "s"
    book.save(folder / "in.xlsx")
    assert ask("in.xlsx", "-o", "out.xlsx", prompt="{text}").code == 0
    sheet = openpyxl.load_workbook(folder / "out.xlsx").active
    assert [[cell.value for cell in line][:4] for line in sheet.iter_rows()] == [
        ["n", "text", "output", "status"],
        [1, "=1+1 is two", "answer to: =1+1 is two", "ok"],
        [2.5, None, "answer to: ", "ok"],
    ]
    assert {cell.data_type for line in sheet.iter_rows() for cell in line} <= {"s", "n"}


def test_a_cell_of_excel_without_a_name_above_it_fails_its_row_alone(
    ask: Command, folder: Path, server: Loopback
) -> None:
    book = openpyxl.Workbook()
    for line in (["id", "text", None], [1, "a", " "], [2, "b", None, "see below"], [3, "c"]):
        book.active.append(line)
    book.save(folder / "in.xlsx")
    assert ask("in.xlsx", "-o", "out.jsonl", prompt="{text}").code == 3
    lines = [orjson.loads(line) for line in (folder / "out.jsonl").read_bytes().splitlines()]
    (bad,) = [line for line in lines if line["status"] == "failed"]
    assert bad["error"]["message"].startswith(
        "in.xlsx row 3: a cell stands in column D, which has no name in row 1: name the column there, or empty the cell"
    )
    assert bad["input"] == {"id": 2, "text": "b", "cottonpalm_more": [None, "see below"]}
    assert server.counts == {"a": 1, "c": 1}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([["My report"], [], ["id", "text"], [1, "a"]], "row 3: a cell stands in column B, which has no name in row 1"),
        ([["id", None, None, "text"], [1, None, None, "a"]], "row 1: 2 columns have no name, the first of them is B"),
        ([[*map(str, range(30))], [*range(31)]], "row 2: a cell stands in column AE"),
    ],
)  # fmt: skip
def test_an_excel_file_whose_columns_have_no_names_is_refused_before_any_call(
    ask: Command, folder: Path, server: Loopback, rows: list[list[object]], said: str
) -> None:
    book = openpyxl.Workbook()
    for line in rows:
        book.active.append(line)
    book.save(folder / "in.xlsx")
    refused = ask("in.xlsx", "-o", "out.jsonl", prompt="{text}")
    assert (refused.code, refused.err.startswith(f"cottonpalm: in.xlsx {said}")) == (2, True), refused.err
    assert server.requests == 0


@pytest.mark.core
@pytest.mark.parametrize("name", ["in.csv", "in.xlsx", "in.parquet", "in.jsonl"])
@pytest.mark.parametrize("own", [False, True])
def test_an_empty_cell_is_asked_as_empty_text_whatever_the_file(
    ask: Command, cottonpalm: Command, folder: Path, server: Loopback, name: str, own: bool
) -> None:
    table = pa.table(
        {"text": ["a", None, "c"], "stars": pa.array([1.5, float("nan"), None], from_pandas=False)}
    )
    if name.endswith("parquet"):
        pq.write_table(table, folder / name)
    elif name.endswith("csv"):
        (folder / name).write_text("text,stars\na,1.5\n,\nc,\n")
    elif name.endswith("jsonl"):
        gap = (
            "null" if not own else '""'
        )  # a null in JSON was written by somebody: a chain of one's own gets it
        (folder / name).write_text(
            f'{{"text": "a", "stars": 1.5}}\n{{"text": {gap}, "stars": {gap}}}\n{{"text": "c", "stars": {gap}}}\n'
        )
    else:
        book = openpyxl.Workbook()
        for line in (["text", "stars"], ["a", 1.5], [None, None], ["c", None]):
            book.active.append(line)
        book.active.cell(3, 3, "x")  # so the row is not left out
        book.active.cell(1, 3, "more")
        book.save(folder / name)
    if own:
        (folder / "with_stars.py").write_text(
            "from langchain_core.prompts import ChatPromptTemplate\n"
            "from langchain_core.runnables import RunnableLambda\n"
            "chain = ChatPromptTemplate.from_template('{text}|{stars}') | RunnableLambda(lambda x: x.to_string())\n"
        )
        said = cottonpalm("run", name, "-o", "out.parquet", "--chain", "with_stars:chain")
    else:
        said = ask(name, "-o", "out.parquet", prompt="{text}|{stars}")
    assert said.code == 0, said.err
    found = [
        answer.rpartition(": ")[2] for answer in pq.read_table(folder / "out.parquet")["output"].to_pylist()
    ]
    assert found == ["a|1.5", "|", "c|"]
    assert cottonpalm("export", "out", "-o", "again.csv").code == 0, "the rows are known again"
    if name.endswith("parquet"):
        assert pq.read_schema(folder / "out.parquet").field("stars").type == pa.float64()


def test_csv_comes_on_standard_input_row_by_row(folder: Path, server: Loopback) -> None:
    words = ["run", "-", "-o", "-", "--input-format", "csv", "--model", "openai:gpt-4o-mini", "--base-url"]
    words += [server.openai_url, "--prompt", "say {text}", "-q"]
    with Cottonpalm(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write(b"id;text\n1;a\n")
        running.stdin.flush()
        first = orjson.loads(running.stdout.readline())  # while the pipe is open
        running.stdin.write(b"2;b\n")
        running.stdin.close()
        second = orjson.loads(running.stdout.readline())
    assert running.returncode == 0
    assert [line["output"] for line in (first, second)] == ["answer to: say a", "answer to: say b"]


@pytest.mark.parametrize(
    "said", [b"id,text\n1,a\n", b"\xef\xbb\xbfid;text\n1;a\n", b"id\ttext\n1\ta\n", b'{"text": "a"}\n']
)
@pytest.mark.parametrize("piped", [True, False])
def test_standard_input_is_taken_for_what_its_first_line_is(
    folder: Path, server: Loopback, said: bytes, piped: bool
) -> None:
    (folder / "in").write_bytes(said)
    words = (
        f"run - -o out.jsonl --model openai:gpt-4o-mini --base-url {server.openai_url} --prompt {{text}} -q"
    )
    with (folder / "in").open("rb") as file:
        how = {"given": said} if piped else {"stdin": file}
        done = run(words.split(), cwd=folder, **how)
    assert done.returncode == 0
    assert lines(folder / "out.jsonl")[0]["output"] == "answer to: a"


@pytest.mark.core
def test_a_row_that_cannot_be_asked_keeps_what_could_be_read_of_it(ask: Command, folder: Path) -> None:
    (folder / "in.csv").write_text("id,text,more\n1,a,x\n2,b\n3,c,y,z\n")
    assert ask("in.csv", "-o", "out.csv").code == 3
    assert [line[:3] for line in cells(folder / "out.csv")[1:]] == [
        ["1", "a", "x"],
        ["2", "b", ""],
        ["3", "c", "y"],
    ]
    (folder / "in.jsonl").write_text('{"id": 1, "text": "a"}\n{"id": 2, "txt": "b"}\nnonsense\n')
    assert ask("in.jsonl", "-o", "out.jsonl").code == 3
    assert [line["input"] for line in lines(folder / "out.jsonl")] == [
        {"id": 1, "text": "a"},
        {"id": 2, "txt": "b"},
        {"cottonpalm_line": "nonsense"},
    ]


def test_a_broken_row_from_standard_input_stays_failed_when_failed_rows_are_retried(
    folder: Path, cottonpalm: Command, server: Loopback
) -> None:
    words = ["run", "-", "-o", "out.jsonl", "--run", "r", "--model", "openai:gpt-4o-mini", "--base-url"]
    words += [server.openai_url, "--prompt", "say {text}", "-q"]
    given = b'{"text": "a"}\n{"txt": "b"}\n'
    assert run(words, given=given, cwd=folder).returncode == 3
    assert cottonpalm("retry", "r").code == 3
    assert server.requests == 1
    assert lines(folder / "out.jsonl")[1]["input"] == {"txt": "b"}


@pytest.mark.core
@pytest.mark.parametrize("output", ["out.csv", "out.jsonl"])
def test_a_later_limit_does_not_shrink_a_finished_output(
    ask: Command, cottonpalm: Command, folder: Path, output: str
) -> None:
    rows(folder / "in.jsonl", 5)
    assert ask("in.jsonl", "-o", output).code == 0
    before = (folder / output).read_bytes()
    assert ask("in.jsonl", "-o", output, "--limit", "1").code == 0
    assert (folder / output).read_bytes() == before
    assert "5 rows" in cottonpalm("export", "out", "-o", "other.jsonl").err
    assert len(lines(folder / "other.jsonl")) == 5


def test_results_have_the_folders_usual_permissions_and_a_replaced_file_keeps_its_own(
    ask: Command, folder: Path
) -> None:
    before = os.umask(0o027)
    try:
        rows(folder / "in.jsonl", 2)
        for output in ("out.csv", "out.jsonl"):
            assert ask("in.jsonl", "-o", output).code == 0
            assert stat.S_IMODE((folder / output).stat().st_mode) == 0o640
        (folder / "out.csv").chmod(0o604)
        rows(folder / "in.jsonl", 3)
        assert ask("in.jsonl", "-o", "out.csv").code == 0
        assert stat.S_IMODE((folder / "out.csv").stat().st_mode) == 0o604
        assert stat.S_IMODE((folder / "cottonpalm.db").stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_a_run_that_is_being_worked_on_can_be_exported(
    ask: Command, cottonpalm: Command, folder: Path
) -> None:
    rows(folder / "in.jsonl", 3)
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0
    store = open_store("cottonpalm.db")
    held = store.open_run("out", None)  # as another process would hold it
    said = cottonpalm("export", "out", "-o", "now.csv")
    held.close()
    store.close()
    assert said.code == 0
    assert "is being worked on" in said.err
    assert [line[1] for line in cells(folder / "now.csv")] == ["text", "row-0", "row-1", "row-2"]


def test_status_speaks_json_and_watches_until_nobody_works(
    ask: Command, cottonpalm: Command, folder: Path
) -> None:
    rows(folder / "in.jsonl", 3)
    assert ask("in.jsonl", "-o", "out.jsonl", "--limit", "2").code == 0
    (line,) = cottonpalm("status", "--json", "--watch").out.splitlines()
    found = orjson.loads(line)
    assert (found["run"], found["ok"], found["failed"], found["left"]) == ("out", 2, 0, 0)
    assert found["cost_usd"] > 0
    assert found["held_by"] is None
    assert orjson.loads(cottonpalm("status", "out", "--json").out) == found


def test_who_watches_leaves_by_an_interrupt_without_a_word_of_it(folder: Path) -> None:
    store = open_store("cottonpalm.db")
    held = store.open_run("night", None)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Cottonpalm(["status", "night", "--watch"], cwd=folder, **pipes) as watching:
        assert watching.stdout is not None
        while b"failed" not in watching.stdout.readline():
            pass
        watching.send_signal(signal.SIGINT)
        _, said = watching.communicate(timeout=60)
    held.close()
    store.close()
    assert (watching.returncode, said) == (0, b"")


def test_status_says_what_runs_have_found_of_limits(ask: Command, cottonpalm: Command, folder: Path) -> None:
    rows(folder / "in.jsonl", 3)
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0
    said = cottonpalm("status", "--limits")
    assert said.code == 0, said.err
    assert " in flight fitted, perhaps more do; found " in said.out
    assert "#" not in said.out


def test_a_column_that_the_prompt_does_not_name_costs_nothing_and_stands_in_the_output(
    ask: Command, folder: Path, server: Loopback
) -> None:
    (folder / "in.csv").write_text("text\na\nb\n")
    assert ask("in.csv", "-o", "out.csv").code == 0
    (folder / "in.csv").write_text("text,note\na,new\nb,newer\n")
    assert ask("in.csv", "-o", "out.csv").code == 0
    assert server.requests == 2
    assert [line[:3] for line in cells(folder / "out.csv")] == [
        ["text", "note", "output"],
        ["a", "new", "answer to: say a"],
        ["b", "newer", "answer to: say b"],
    ]


def test_a_plan_reads_the_input_as_the_run_would(
    cottonpalm: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    (folder / "in.csv").write_bytes("编号~text\n1~很好\n".encode("gbk"))
    model = ("--model", "openai:gpt-4o-mini", "--model-option", "max_tokens=5")
    said = cottonpalm(
        "plan", "in.csv", *model, "--prompt", "{text} {braced}", "--literal-braces", "--delimiter", "~",
        "--encoding", "gbk",
    )  # fmt: skip
    assert "in.csv: 1 row" in said.out
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"id\ttext\n1\ta\n2\tb\n")))
    said = cottonpalm("plan", "-", *model, "--prompt", "{text}", "--input-format", "tsv")
    assert "-: 2 rows" in said.out


def test_braces_that_are_meant_are_sent_as_they_stand(ask: Command, folder: Path) -> None:
    rows(folder / "in.jsonl", 1)
    assert "names {braced}" in ask("in.jsonl", "-o", "out.jsonl", prompt="{text} {braced}").one_line
    assert ask("in.jsonl", "-o", "out.jsonl", "--literal-braces", prompt="{text} {braced}").code == 0
    assert ask("in.jsonl", "-o", "two.jsonl", prompt="{text} {{braced}}").code == 0
    for output in ("out.jsonl", "two.jsonl"):
        assert lines(folder / output)[0]["output"] == "answer to: row-0 {braced}"


def test_an_export_may_begin_with_the_mark_that_excel_wants(
    ask: Command, cottonpalm: Command, folder: Path
) -> None:
    rows(folder / "in.jsonl", 1)
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0
    assert cottonpalm("export", "out", "-o", "out.csv", "--bom").code == 0
    assert (folder / "out.csv").read_bytes().startswith(b"\xef\xbb\xbf")
