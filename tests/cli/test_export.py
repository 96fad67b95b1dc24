"""`export`: what a run holds, as a file of any format, without a call."""

from __future__ import annotations

import csv
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow.parquet as pq
import pytest
from langchain_core.runnables import RunnableLambda

from cottonpalm import BatchProcessor
from tests.cli.conftest import lines, rows
from tests.support.replies import fails

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Command
    from tests.support.loopback import Loopback

pytestmark = pytest.mark.core


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def from_python(folder: Path, given: list[Any], **options: Any) -> None:
    processor = BatchProcessor(
        RunnableLambda(lambda row: str(row).upper()), store=folder / "cottonpalm.db", run="py", **options
    )
    processor.batch(given)


def test_a_run_is_exported_in_every_format_without_a_call(
    ask: Command, cottonpalm: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 3)
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0
    for name in ("a.csv", "a.parquet", "a.jsonl", "a.jsonl.gz", "a.csv.zst"):
        said = cottonpalm("export", "out", "-o", name)
        assert said.code == 0
        assert said.err == f"{name}: 3 rows of run out\n"
    wanted = [f"answer to: say row-{n}" for n in range(3)]
    assert [row["output"] for row in table(folder / "a.csv")] == wanted
    assert pq.read_table(folder / "a.parquet")["output"].to_pylist() == wanted
    assert lines(folder / "a.jsonl") == lines(folder / "out.jsonl")
    said = cottonpalm("export", "out", "-o", "-", "-q")
    assert [orjson.loads(line)["output"] for line in said.out.splitlines()] == wanted
    assert server.requests == 3


@pytest.mark.parametrize("separator", [";", "|", "~"])
def test_a_csv_has_the_separator_that_the_run_s_own_output_has(
    ask: Command, cottonpalm: Command, folder: Path, separator: str
) -> None:
    (folder / "in.csv").write_text("id,text\n1,a\n2,b\n".replace(",", separator))
    said = ("--delimiter", separator) if separator == "~" else ()
    assert ask("in.csv", "-o", "out.csv", *said).code == 0
    for name, also in (("a.csv", ()), ("b.csv", ("--all",))):
        assert cottonpalm("export", "out", "-o", name, *also).code == 0
        assert (folder / name).read_text() == (folder / "out.csv").read_text()
    assert cottonpalm("export", "out", "-o", "c.tsv").code == 0
    assert (folder / "c.tsv").read_text().startswith("id\ttext\toutput\t")


def test_the_input_as_it_is_now_decides_over_rows_and_order_and_all_adds_the_others(
    ask: Command, cottonpalm: Command, folder: Path
) -> None:
    rows(folder / "in.jsonl", 4)
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0
    found = (folder / "in.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "in.jsonl").write_bytes(found[3] + b'{"n": 9, "text": "not asked yet"}\n' + found[1])
    assert cottonpalm("export", "out", "-o", "now.csv").err == "now.csv: 2 rows of run out\n"
    assert [row["n"] for row in table(folder / "now.csv")] == ["3", "1"]
    assert cottonpalm("export", "out", "-o", "all.csv", "--all").code == 0
    assert [row["n"] for row in table(folder / "all.csv")] == ["3", "1", "0", "2"]
    assert [line["index"] for line in lines(folder / "out.jsonl")] == [0, 1, 2, 3]  # untouched


def test_rows_that_could_not_be_asked_are_exported_too(
    ask: Command, cottonpalm: Command, folder: Path
) -> None:
    (folder / "in.jsonl").write_text('{"text": "a"}\n{"txet": "b"}\nnot JSON\n')
    assert ask("in.jsonl", "-o", "out.jsonl").code == 3
    assert cottonpalm("export", "out", "-o", "a.jsonl").code == 0
    assert lines(folder / "a.jsonl") == sorted(lines(folder / "out.jsonl"), key=lambda line: line["index"])


def test_a_run_whose_input_was_moved_is_told_how_it_goes_on(
    ask: Command, cottonpalm: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 2)
    server.script([fails(400)])
    assert ask("in.jsonl", "-o", "out.jsonl").code == 3
    (folder / "in.jsonl").rename(folder / "moved.jsonl")
    for command in ("retry", "collect", "cancel"):
        said = cottonpalm(command, "out")
        assert said.code == 2
        assert "cannot read in.jsonl: No such file or directory" in said.one_line
        assert "give the run's command with its new place and --run out" in said.one_line
    assert ask("moved.jsonl", "-o", "out.jsonl", "--run", "out").code == 3
    assert cottonpalm("retry", "out").code == 0


def test_an_input_that_is_gone_can_be_named_again_or_done_without(
    ask: Command, cottonpalm: Command, folder: Path
) -> None:
    rows(folder / "in.jsonl", 2)
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0
    (folder / "in.jsonl").rename(folder / "moved.jsonl")
    said = cottonpalm("export", "out", "-o", "a.csv")
    assert said.code == 2
    assert "cannot read in.jsonl: No such file or directory" in said.one_line
    assert "cottonpalm export out INPUT -o" in said.one_line
    assert cottonpalm("export", "out", "moved.jsonl", "-o", "a.csv").code == 0
    assert cottonpalm("export", "out", "-o", "b.csv", "--all").code == 0
    assert table(folder / "a.csv") == table(folder / "b.csv")
    (folder / "other.jsonl").write_text('{"text": "x"}\n')
    said = cottonpalm("export", "out", "other.jsonl", "-o", "c.csv")
    assert said.one_line == "cottonpalm: no row of other.jsonl is stored in run out"


def test_a_run_made_from_python_is_exported_too(cottonpalm: Command, folder: Path) -> None:
    from_python(folder, [{"text": "a", "n": 1}, {"text": "b", "m": 2}, "c"])
    assert cottonpalm("export", "py", "-o", "a.csv").code == 0
    assert list(table(folder / "a.csv")[0]) == [
        "text",
        "n",
        "m",
        "input",
        "output",
        "status",
        "error",
        "cost_usd",
    ]
    assert [row["input"] for row in table(folder / "a.csv")] == ["", "", "c"]


def test_a_run_that_keeps_no_inputs_needs_them_again(cottonpalm: Command, folder: Path) -> None:
    from_python(folder, [{"text": "a"}, {"text": "b"}], store_inputs=False)
    said = cottonpalm("export", "py", "-o", "a.csv")
    assert said.code == 2
    assert "run py keeps no inputs; give them again: cottonpalm export py INPUT -o …" in said.one_line
    (folder / "in.jsonl").write_text('{"text": "b"}\n{"text": "a"}\n')
    assert cottonpalm("export", "py", "in.jsonl", "-o", "a.csv").code == 0
    assert [row["text"] for row in table(folder / "a.csv")] == ["b", "a"]
    assert cottonpalm("export", "py", "in.jsonl", "-o", "a.parquet").code == 0
    assert pq.read_table(folder / "a.parquet")["text"].to_pylist() == ["b", "a"]


def test_what_cannot_be_exported_is_one_line(ask: Command, cottonpalm: Command, folder: Path) -> None:
    assert "there is no store" in cottonpalm("export", "out", "-o", "a.csv").one_line
    rows(folder / "in.jsonl", 1)
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0
    assert "has no run 'no'; its runs: out" in cottonpalm("export", "no", "-o", "a.csv").one_line
    said = cottonpalm("export", "out", "-o", "out.jsonl")
    assert "out.jsonl is the run's own output" in said.one_line
    said = cottonpalm("export", "out", "-o", "in.jsonl", "--overwrite")
    assert "in.jsonl is the input itself" in said.one_line
    (folder / "precious.csv").write_text("precious\n")
    said = cottonpalm("export", "out", "-o", "precious.csv")
    assert said.code == 2
    assert "precious.csv exists and was not written by this run" in said.one_line
    assert cottonpalm("export", "out", "-o", "precious.csv", "--overwrite").code == 0
    assert cottonpalm("export", "out", "-o", "precious.csv").code == 0  # ours now


def test_an_exported_file_can_become_the_output(
    ask: Command, cottonpalm: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 3)
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0
    assert cottonpalm("export", "out", "-o", "b.jsonl").code == 0
    rows(folder / "in.jsonl", 4)
    assert ask("in.jsonl", "-o", "b.jsonl", "--run", "out").code == 0
    assert [line["index"] for line in lines(folder / "b.jsonl")] == [0, 1, 2, 3]
    assert server.requests == 4


def test_a_stored_row_that_is_damaged_is_named_in_whatever_reads_it(
    cottonpalm: Command, folder: Path
) -> None:
    from_python(folder, ["a", "b", "c"])
    with closing(sqlite3.connect(folder / "cottonpalm.db")) as opened, opened:
        opened.execute("UPDATE record SET body = substr(body, 1, 5) WHERE id = (SELECT id + 1 FROM record)")
    told = "what the store holds of row 2 (index 1) is damaged ("
    for words in (("export", "py", "-o", "a.jsonl"), ("report", "py", "-o", "page.html")):
        said = cottonpalm(*words)
        assert (said.code, told in said.one_line) == (2, True), words
    processor = BatchProcessor(
        RunnableLambda(lambda row: str(row).upper()), store=folder / "cottonpalm.db", run="py"
    )
    one, two, three = processor.batch(["a", "b", "c"], return_exceptions=True)
    assert (one, three) == ("A", "C")
    assert told in str(two)
