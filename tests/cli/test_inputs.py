"""Inputs of all formats, packed, far away or piped: the same rows arrive."""

from __future__ import annotations

import collections
import datetime as dt
import gzip
import os
import subprocess
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from cottonpalm.cli.problems import Problem
from cottonpalm.cli.readers.open_rows import open_rows
from cottonpalm.engine.input.reader import Broken
from cottonpalm.urls import absolute

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.core

JSONL = b'{"text": "a"}\n{"text": "b"}\n'
CSV = b"text\na\nb\n"
ROWS = [{"text": "a"}, {"text": "b"}]


def read(path: str, limit: int | None = None) -> list[Any]:
    rows = open_rows(path, limit)
    try:
        return [f"broken: {row.error.message}" if isinstance(row, Broken) else row for row in rows]
    finally:
        rows.close()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl.gz", gzip.compress(JSONL, mtime=0)),
        ("a.ndjson.zst", zstandard.compress(JSONL)),
        ("a.csv.gz", gzip.compress(CSV, mtime=0)),
        ("a.csv.zst", zstandard.compress(CSV)),
        ("a.CSV.GZ", gzip.compress(CSV[:6], mtime=0) + gzip.compress(CSV[6:], mtime=0) + b"\0" * 512),
        ("a.csv.zst", zstandard.compress(CSV[:6]) + zstandard.compress(CSV[6:])),
    ],
    ids=["jsonl.gz", "ndjson.zst", "csv.gz", "csv.zst", "gz of two parts, padded", "zst of two parts"],
)
def test_packed_files_hold_the_same_rows(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert read(str(tmp_path / name)) == ROWS


def test_a_packed_file_that_is_cut_short_gives_its_rows_and_then_says_so(tmp_path: Path) -> None:
    wanted = [{"n": n * 2654435761 % 2**40} for n in range(20_000)]  # hard to pack: several blocks
    data = b"".join(b'{"n": %d}\n' % row["n"] for row in wanted)
    for name, packed in (("a.jsonl.gz", gzip.compress(data)), ("a.jsonl.zst", zstandard.compress(data))):
        (tmp_path / name).write_bytes(packed[: len(packed) * 9 // 10])
        rows, found = open_rows(str(tmp_path / name)), list[Any]()
        with pytest.raises(Problem, match="is cut short"):
            collections.deque(map(found.append, rows), maxlen=0)
        rows.close()
        assert 0 < len(found) < len(wanted)
        assert found == wanted[: len(found)]


@pytest.mark.parametrize(
    "data", [gzip.compress(JSONL), zstandard.compress(JSONL), JSONL], ids=["gz", "zst", "plain"]
)
@pytest.mark.parametrize("piped", [True, False])
def test_standard_input_may_be_packed(tmp_path: Path, data: bytes, piped: bool) -> None:
    program = (
        "import asyncio\nfrom cottonpalm.cli.readers.open_rows import open_rows\nrows = open_rows('-')\n"
        "async def main(): return [row async for row in rows]\n"
        "print(asyncio.run(main()) if hasattr(rows, '__aiter__') else list(rows))"
    )
    (tmp_path / "in").write_bytes(data)
    with (tmp_path / "in").open("rb") as file:
        given: dict[str, Any] = {"input": data} if piped else {"stdin": file}
        done = subprocess.run(
            [sys.executable, "-c", program],
            **given,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": "src"},
            check=True,
        )
    assert done.stdout == f"{ROWS}\n".encode()


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.csv.gz", "a.parquet"])
def test_a_file_at_an_address_is_read(site: tuple[Path, str], name: str) -> None:
    folder, url = site
    fill(folder / name)
    assert read(f"{url}/{name}") == ROWS
    assert read(f"{url}/{name}?signature=secret#top") == ROWS


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv.gz", "a.parquet"])
def test_a_file_in_any_file_system_of_fsspec_is_read(tmp_path: Path, name: str) -> None:
    fill(tmp_path / name)
    with fsspec.open(f"memory://folder/{name}", "wb") as file:
        file.write((tmp_path / name).read_bytes())
    assert read(f"memory://folder/{name}") == ROWS
    assert read(absolute(f"file://{tmp_path}/{name}")) == ROWS


def fill(path: Path) -> None:
    if path.name.endswith("parquet"):
        pq.write_table(pa.table({"text": ["a", "b"]}), path)
    else:
        data = JSONL if "json" in path.name else CSV
        path.write_bytes(gzip.compress(data) if path.name.endswith("gz") else data)


def test_what_is_not_at_an_address_is_one_line_without_secrets(site: tuple[Path, str]) -> None:
    _, url = site
    for address, said in {
        f"{url}/no.csv?key=s3cret": f"cannot read {url}/no.csv: there is no such file",
        "http://user:s3cret@127.0.0.1:9/a.csv": "cannot read http://127.0.0.1:9/a.csv: Cannot connect to host",
        "memory://no.csv": "cannot read memory://no.csv: there is no such file",
        "s3://bucket/a.csv": "s3:// needs a package: pip install s3fs",
        "abc://x/a.csv": "cannot read abc://x/a.csv: Protocol not known: abc",
    }.items():
        with pytest.raises(Problem) as caught:
            open_rows(address)
        assert str(caught.value).startswith(said)
        assert "\n" not in str(caught.value)
        assert "s3cret" not in str(caught.value)


# -- Parquet ----------------------------------------------------------------------------------------------------------


def parquet(folder: Path, table: Any, **options: Any) -> str:
    pq.write_table(table, folder / "a.parquet", **options)
    return str(folder / "a.parquet")


def test_parquet_values_arrive_as_python_has_them(tmp_path: Path) -> None:
    moment = dt.datetime(2024, 2, 29, 12, 30, tzinfo=dt.UTC)
    row = {
        "text": 'a{b}\0\x1b[31m"',
        "n": 2**63 - 1,
        "x": 0.5,
        "yes": True,
        "day": dt.date(2024, 2, 29),
        "at": moment,
        "local": moment.replace(tzinfo=None),
        "clock": dt.time(1, 2, 3),
        "price": Decimal("12.50"),
        "raw": b"\x00\xff",
        "tags": ["a", None],
        "who": {"name": "x", "age": None},
        "none": None,
    }
    found = read(parquet(tmp_path, pa.Table.from_pylist([row, dict.fromkeys(row)])))
    assert found == [row, dict.fromkeys(row)]


def test_nanoseconds_become_microseconds_or_where_that_would_lose_something_text(tmp_path: Path) -> None:
    kind = pa.timestamp("ns")
    whole = pa.table({"at": pa.array([1_000, None], kind), "all": pa.array([[2_000], []], pa.list_(kind))})
    epoch = dt.datetime.fromtimestamp(0, dt.UTC).replace(tzinfo=None)
    assert read(parquet(tmp_path, whole)) == [
        {"at": epoch.replace(microsecond=1), "all": [epoch.replace(microsecond=2)]},
        {"at": None, "all": []},
    ]
    assert read(parquet(tmp_path, pa.table({"at": pa.array([1], kind)}))) == [
        {"at": "1970-01-01 00:00:00.000000001"}
    ]


def test_nanoseconds_within_maps_and_lists_of_one_length_are_no_others(tmp_path: Path) -> None:
    kind = pa.timestamp("ns")
    table = pa.table(
        {
            "map": pa.array([[("k", 1_000)], [("k", 1)]], pa.map_(pa.string(), kind)),
            "pair": pa.array([[1_000, None], [1, 1_000]], pa.list_(kind, 2)),
        }
    )
    early = dt.datetime.fromtimestamp(0, dt.UTC).replace(tzinfo=None, microsecond=1)
    texts = "1970-01-01 00:00:00.000000001", "1970-01-01 00:00:00.000001000"
    assert read(parquet(tmp_path, table)) == [
        {"map": [("k", early)], "pair": [early, None]},
        {"map": [("k", texts[0])], "pair": [*texts]},
    ]


def test_what_a_row_says_does_not_depend_on_the_nanoseconds_of_those_beside_it(tmp_path: Path) -> None:
    kind = pa.timestamp("ns")
    columns = {"at": pa.array([1_000, 1_000], kind), "other": pa.array([2_000, 1], kind)}
    alone = read(parquet(tmp_path, pa.table(columns).slice(0, 1)))
    assert read(parquet(tmp_path, pa.table(columns)))[:1] == alone


def test_a_parquet_value_that_python_cannot_hold_is_a_failed_row_that_names_row_and_column(
    tmp_path: Path,
) -> None:
    far = pa.array([0, 10**17, 0], pa.timestamp("ms"))
    found = read(parquet(tmp_path, pa.table({"n": [1, 2, 3], "at": far})))
    assert found[0]["n"] == 1
    assert found[1].startswith("broken: a.parquet row 2: the value of 'at' cannot be read")
    assert found[2]["n"] == 3


def test_a_parquet_file_of_many_groups_is_read_whole_and_its_rows_are_counted_before(tmp_path: Path) -> None:
    path = parquet(tmp_path, pa.table({"n": list(range(5000))}), row_group_size=700)
    rows = open_rows(path)
    assert rows.total() == (5000, True)
    assert [row["n"] for row in rows] == list(range(5000))  # type: ignore[index]
    rows.close()


def test_a_parquet_file_that_is_damaged_inside_ends_the_reading_there(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"row {n}" for n in range(9000)]}), path, row_group_size=3000)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = b"\xff" * 400
    path.write_bytes(data)
    rows = open_rows(str(path))
    with pytest.raises(Problem, match=r"cannot read a\.parquet: "):
        list(rows)
    rows.close()


def test_an_empty_parquet_file_has_nothing_to_do(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="holds no rows"):
        open_rows(parquet(tmp_path, pa.table({"text": pa.array([], pa.string())})))


def test_ten_thousand_columns_are_read(tmp_path: Path) -> None:
    row = {f"c{n}": n for n in range(10_000)}
    (tmp_path / "a.csv").write_text(",".join(row) + "\n" + ",".join(map(str, row.values())) + "\n")
    assert read(str(tmp_path / "a.csv")) == [{name: str(value) for name, value in row.items()}]
    assert read(parquet(tmp_path, pa.Table.from_pylist([row]))) == [row]


def test_limit_reads_no_more_rows_than_that_and_the_total_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(CSV + b"broken,\n" * 3)
    rows = open_rows(str(tmp_path / "a.csv"), 3)
    assert len(list(rows)) == 3
    assert rows.total() == (3, True)
    rows.close()
    assert len(read(str(tmp_path / "a.csv"), 10)) == 5
