"""What comes in goes out: nasty rows through every format, from the input file to the output file, equal."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import json
import os
import subprocess
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import fsspec
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cottonpalm.cli.app import main
from tests.cli.conftest import lines, rows

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Command


APP = """
from langchain_core.runnables import RunnableLambda

same = RunnableLambda(lambda row: row["text"])
whole = RunnableLambda(lambda row: row)
kinds = RunnableLambda(lambda row: {"n": row["n"], "tags": ["a"] * row["n"]} if row["n"] < 9 else "many")
"""
NASTY = [
    "{text} {0} {{x}} {text.__class__}",
    '<b onclick="x">[bold red]& *md* `x`',
    "\x00\x01\x07\x1b[31m\x7f\x9b2J",
    "\u202eright to left\u202c \u05e9\u05dc\u05d5\u05dd",
    "\U0001f469\u200d\U0001f4bb \ufeff \u2028 \u0085",
    '"quoted", commas\nlines\r\nlone\rreturns\t',
    "=1+1",
    "+A1",
    "-cmd|' /C calc'!A0",
    "@SUM(A1)",
    "\t=1",
    "'=1",
    " padded ",
    "long " * 200_000,
    "null",
    "1e3",
]
texts = st.one_of(
    st.sampled_from(NASTY[:12]), st.text(st.characters(exclude_categories=["Cs"])), st.text("\",\r\n'= \0")
)


@pytest.fixture
def app(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (folder / "echo.py").write_text(APP)
    return folder


def write(path: Path, table: list[dict[str, Any]]) -> None:
    """A file of rows, in the format of its name."""
    name = path.name
    if ".parquet" in name:
        pq.write_table(pa.Table.from_pylist(table), path)
        return
    if ".csv" in name:
        text = io.StringIO()
        writer = csv.writer(text, quoting=csv.QUOTE_ALL)
        writer.writerows([list(table[0]), *([row[name] for name in table[0]] for row in table)])
        data = text.getvalue().encode()
    else:
        data = b"".join(orjson.dumps(row) + b"\n" for row in table)
    path.write_bytes(packed(name, data))


def packed(name: str, data: bytes) -> bytes:
    if name.endswith(".gz"):
        return gzip.compress(data)
    return zstandard.compress(data) if name.endswith(".zst") else data


def read(path: Path) -> list[dict[str, Any]]:
    """An output as rows: the input's columns and `output`."""
    name, data = path.name, path.read_bytes()
    if name.endswith(".gz"):
        data = gzip.decompress(data)
    elif name.endswith(".zst"):
        data = zstandard.ZstdDecompressor().stream_reader(data).read()
    if ".parquet" in name:
        return pq.read_table(path).to_pylist()
    if ".csv" in name:
        return list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    found = sorted(map(orjson.loads, data.splitlines()), key=lambda line: line["index"])
    return [{**line["input"], "output": line["output"], "status": line["status"]} for line in found]


def run(source: Path, target: Path, *words: str, chain: str = "echo:same") -> int:
    return main(["run", str(source), "-o", str(target), "--chain", chain, "-q", *words])


FORMATS = ["jsonl", "csv", "parquet", "jsonl.gz", "csv.zst", "csv.gz"]


@pytest.mark.parametrize("ending", FORMATS)
def test_nasty_rows_come_out_as_they_went_in(app: Path, ending: str) -> None:
    table = [{"text": text, "n": str(n)} for n, text in enumerate(NASTY)]
    write(app / f"in.{ending}", table)
    assert run(app / f"in.{ending}", app / f"out.{ending}") == 0
    found = read(app / f"out.{ending}")
    assert [{"text": row["text"], "n": row["n"]} for row in found] == table
    assert [row["output"] for row in found] == NASTY
    assert {row["status"] for row in found} == {"ok"}


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet", "jsonl.zst"])
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=st.lists(st.fixed_dictionaries({"text": texts, "a b,{c}": texts}), min_size=1, max_size=6))
def test_any_text_comes_out_as_it_went_in(app: Path, ending: str, table: list[dict[str, str]]) -> None:
    write(app / f"in.{ending}", table)
    assert run(app / f"in.{ending}", app / f"out.{ending}", "--fresh") == 0
    found = read(app / f"out.{ending}")
    assert [{name: row[name] for name in table[0]} for row in found] == table
    assert [row["output"] for row in found] == [row["text"] for row in table]


def test_lone_surrogates_pass_through_json_and_are_spelt_out_elsewhere(app: Path) -> None:
    (app / "in.jsonl").write_bytes(b'{"text": "a\\ud800b"}\n')
    for ending in ("jsonl", "csv", "parquet"):
        assert run(app / "in.jsonl", app / f"out.{ending}") == 0
    assert b'"output": "a\\ud800b"' in (app / "out.jsonl").read_bytes()
    for ending in ("csv", "parquet"):
        assert read(app / f"out.{ending}")[0]["output"] == r"a\ud800b"
    (app / "names.jsonl").write_bytes(b'{"text": {"\\ud800": 1}}\n')
    assert run(app / "names.jsonl", app / "names.parquet") == 0
    assert read(app / "names.parquet")[0]["output"] == r'{"\ud800": 1}'


def test_a_column_whose_name_has_half_a_pair_of_surrogates_is_kept_under_its_number(app: Path) -> None:
    (app / "in.jsonl").write_bytes(b'{"text": "a", "k\\ud800": "v"}\n')
    for ending in ("jsonl", "csv", "parquet"):
        assert run(app / "in.jsonl", app / f"out.{ending}", "--store", str(app / f"{ending}.db")) == 0
    assert b'"k\\ud800": "v"' in (app / "out.jsonl").read_bytes()
    for ending in ("csv", "parquet"):
        assert read(app / f"out.{ending}")[0][r"k\ud800"] == "v"
    store = str(app / "jsonl.db")
    assert main(["export", "out", "-o", str(app / "again.parquet"), "--store", store]) == 0
    assert main(["status", "out", "--store", store]) == 0
    assert read(app / "again.parquet")[0][r"k\ud800"] == "v"


def test_formulas_are_said_and_guarded_when_asked(app: Path, cottonpalm: Command) -> None:
    write(app / "in.csv", [{"text": "=1+1"}, {"text": "-5"}, {"text": "x"}])
    said = cottonpalm("run", "in.csv", "-o", "out.csv", "--chain", "echo:same", "--no-progress")
    assert said.code == 0
    assert "note: 1 answer begins like a formula" in said.err
    assert "--guard-formulas" in said.err
    assert run(app / "in.csv", app / "safe.csv", "--guard-formulas") == 0
    assert [row["output"] for row in read(app / "safe.csv")] == ["'=1+1", "-5", "x"]


def test_a_finished_table_is_written_again_when_it_is_wanted_in_another_form(app: Path) -> None:
    write(app / "in.csv", [{"text": "=1+1"}])
    (app / "parts.py").write_text(
        "from langchain_core.runnables import RunnableLambda\n"
        "chain = RunnableLambda(lambda row: {'said': row['text'], 'long': len(row['text'])})\n"
    )
    table = (app / "in.csv", app / "out.csv")
    for words, begins, said in (
        ((), b"text,output,", "=1+1"),
        (("--guard-formulas",), b"text,output,", "'=1+1"),
        (("--guard-formulas", "--bom"), b"\xef\xbb\xbftext,output,", "'=1+1"),
        (("--columns", "said"), b"text,said,status,", "=1+1"),
        (("--columns", "said,long"), b"text,said,long,", "=1+1"),
    ):
        assert run(*table, *words, chain="parts:chain") == 0
        assert (app / "out.csv").read_bytes().startswith(begins), words
        assert (app / "out.csv").read_text("utf-8-sig").splitlines()[1].startswith(f"{said},"), words
    at = (app / "out.csv").stat().st_mtime_ns
    assert run(*table, "--columns", "said,long", chain="parts:chain") == 0
    assert (app / "out.csv").stat().st_mtime_ns == at, "what is as it is wanted is left alone"


def test_parquet_keeps_the_types_of_the_input(app: Path) -> None:
    table = pa.table(
        {
            "text": pa.array(["a", "b"]).dictionary_encode(),
            "small": pa.array([1, None], pa.int8()),
            "at": pa.array([1, None], pa.timestamp("ns", "Europe/Berlin")),
            "day": pa.array([dt.date(2024, 2, 29), None]),
            "price": pa.array([Decimal("1.20"), None], pa.decimal128(9, 2)),
            "raw": pa.array([b"\xff\x00", None]),
            "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
            "who": pa.array([{"name": "x", "age": 3}, None]),
            "tags": pa.array([["a", None], []]),
            "half": pa.array([1.5, None], pa.float32()),
        }
    )
    pq.write_table(table, app / "in.parquet")
    assert run(app / "in.parquet", app / "out.parquet") == 0
    found = pq.read_table(app / "out.parquet")
    assert found.select(table.column_names).equals(table.cast(found.select(table.column_names).schema))
    assert [field.type for field in found.schema if field.name in table.column_names] == table.schema.types
    assert found.schema.names[len(table.schema.names) :] == ["output", "status", "error", "cost_usd"]


def test_parquet_keeps_what_python_has_no_type_for(app: Path) -> None:
    kind, clock = pa.timestamp("ns"), pa.time64("ns")
    day = [86_399_000_000_001, 1_000]
    table = pa.table(
        {
            "text": ["a", "b"],
            "clock": pa.array(day, clock),
            "map": pa.array([[("k", 1)], [("k", 1_000)]], pa.map_(pa.string(), kind)),
            "pair": pa.array([[1, None], None], pa.list_(kind, 2)),
            "vector": pa.fixed_shape_tensor(pa.int32(), [2]).wrap_array(
                pa.array([[1, 2], [3, 4]], pa.list_(pa.int32(), 2))
            ),
        }
    )
    pq.write_table(table, app / "in.parquet")
    assert run(app / "in.parquet", app / "out.parquet") == 0
    assert pq.read_table(app / "out.parquet").select(table.column_names).equals(table)
    nested = table.append_column("clocks", pa.array([[n] for n in day], pa.list_(clock)))
    pq.write_table(nested, app / "nested.parquet")
    assert run(app / "nested.parquet", app / "nested_out.parquet") == 0
    found = pq.read_table(app / "nested_out.parquet")
    assert found["text"].to_pylist() == ["a", "b"]
    assert found["clocks"].to_pylist() == ['["23:59:59.000000001"]', '["00:00:00.000001"]'], "no way back"


def test_parquet_answers_are_typed_where_they_are_of_one_type_and_else_json(app: Path) -> None:
    write(app / "in.jsonl", [{"n": n, "text": "x"} for n in range(3)])
    assert run(app / "in.jsonl", app / "out.parquet", chain="echo:kinds") == 0
    found = pq.read_table(app / "out.parquet")
    assert found.schema.field("output").type == pa.struct(
        [("n", pa.int64()), ("tags", pa.list_(pa.string()))]
    )
    assert found["n"].type == pa.int64()
    assert found["output"].to_pylist()[2] == {"n": 2, "tags": ["a", "a"]}
    write(app / "in.jsonl", [{"n": n, "text": "x"} for n in (1, 10)])
    assert run(app / "in.jsonl", app / "mixed.parquet", chain="echo:kinds") == 0
    assert pq.read_table(app / "mixed.parquet")["output"].to_pylist() == ['{"n":1,"tags":["a"]}', '"many"']


def test_a_failed_row_has_its_error_in_every_table(app: Path) -> None:
    write(app / "in.jsonl", [{"text": "a"}, {"txt": "b"}])
    for ending in ("csv", "parquet", "csv.gz"):
        assert run(app / "in.jsonl", app / f"out.{ending}") == 3
        failed = read(app / f"out.{ending}")[1]
        assert failed["status"] == "failed"
        assert failed["error"].startswith("fail_row: KeyError")
        assert failed["txt"] == "b"
        assert not failed["output"]


def test_ten_thousand_columns_come_out(app: Path) -> None:
    row = {"text": "x", **{f"c{n}": str(n) for n in range(10_000)}}
    write(app / "in.csv", [row])
    for ending in ("csv", "parquet"):
        assert run(app / "in.csv", app / f"out.{ending}") == 0
        assert read(app / f"out.{ending}")[0].items() >= row.items()


def test_a_file_that_is_written_at_the_end_is_left_alone_when_nothing_changed(app: Path) -> None:
    rows(app / "in.jsonl", 3)
    for ending in ("parquet", "jsonl.gz", "csv.zst"):
        target = app / f"out.{ending}"
        assert run(app / "in.jsonl", target) == 0
        before = target.stat()
        assert run(app / "in.jsonl", target) == 0
        assert target.stat().st_mtime_ns == before.st_mtime_ns
        target.write_bytes(target.read_bytes() + b"x")
        assert run(app / "in.jsonl", target) == 2
        assert run(app / "in.jsonl", target, "--overwrite") == 0
        assert target.stat().st_size == before.st_size
        assert target.stat().st_mode & 0o777 == before.st_mode & 0o777


# -- addresses --------------------------------------------------------------------------------------------------------


def test_an_output_at_an_address_is_sent_when_the_run_ends(app: Path, cottonpalm: Command) -> None:
    rows(app / "in.jsonl", 3)
    there, system = "memory://results/out.csv", fsspec.filesystem("memory")
    command = ("run", "in.jsonl", "-o", there, "--chain", "echo:same", "-q")
    assert cottonpalm(*command).code == 0
    assert system.cat("/results/out.csv").splitlines()[1] == b"0,row-0,row-0,ok,,"
    assert cottonpalm(*command).code == 0
    system.pipe("/results/out.csv", b"of others")
    said = cottonpalm(*command)
    assert said.code == 2
    assert "memory://results/out.csv was changed since this run wrote it" in said.one_line
    assert cottonpalm(*command, "--overwrite").code == 0
    assert len(system.cat("/results/out.csv").splitlines()) == 4
    system.pipe("/results/foreign.csv", b"of others")
    assert (
        cottonpalm("run", "in.jsonl", "-o", "memory://results/foreign.csv", "--chain", "echo:same").code == 2
    )
    system.rm("/results", recursive=True)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("https://127.0.0.1:9/out.csv", "https:// can be read, but not written to; name a file"),
        ("memory://x/out.xls", "cottonpalm knows .jsonl"),
        ("s3://key:s3cret@bucket/out.csv", "it may hold no password and no signature"),
        ("s3://bucket/out.csv", "s3:// needs a package: pip install s3fs"),
        ("out.parquet.gz", "Parquet packs its own columns"),
        ("no/out.parquet", "there is no folder"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_anything_is_called(
    app: Path, cottonpalm: Command, target: str, said: str
) -> None:
    rows(app / "in.jsonl", 1)
    found = cottonpalm("run", "in.jsonl", "-o", target, "--chain", "echo:same")
    assert found.code == 2
    assert said in found.one_line
    assert "s3cret" not in found.err


def test_a_signed_address_is_neither_kept_nor_shown(
    app: Path, cottonpalm: Command, site: tuple[Path, str]
) -> None:
    served, url = site
    (served / "in.jsonl").write_bytes(b'{"text": "a"}\n{"txt": "b"}\n')
    said = cottonpalm("run", f"{url}/in.jsonl?signature=s3cret", "-o", "out.jsonl", "--chain", "echo:same")
    assert said.code == 3
    assert [line["status"] for line in lines(app / "out.jsonl")] == ["ok", "failed"]
    (served / "in.jsonl").unlink()
    again = cottonpalm("retry", "out")  # from the store: the address alone would not do
    assert again.code == 3
    assert "s3cret" not in said.err + again.err
    assert all(b"s3cret" not in file.read_bytes() for file in app.iterdir() if file.is_file())


@pytest.mark.parametrize(
    ("said", "used"), [({}, "system"), ({"ARROW_DEFAULT_MEMORY_POOL": "mimalloc"}, "mimalloc")]
)
def test_the_command_gives_memory_back_that_arrow_has_freed_unless_the_user_chose_a_pool(
    folder: Path, said: dict[str, str], used: str
) -> None:
    (folder / "pools.py").write_text(
        "import pyarrow\n"
        "from langchain_core.runnables import RunnableLambda\n"
        "chain = RunnableLambda(lambda row: pyarrow.default_memory_pool().backend_name)\n"
    )
    rows(folder / "in.jsonl", 1)
    words = [sys.executable, "-m", "cottonpalm", "run", "in.jsonl", "-o", "-", "--chain", "pools:chain"]
    env = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    done = subprocess.run(words, cwd=folder, env={**env, **said}, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["output"] == used
