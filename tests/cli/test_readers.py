"""Input files: what is read, and what is said of what cannot be read."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from cottonpalm.cli.problems import Problem
from cottonpalm.cli.readers.encodings import HINT
from cottonpalm.cli.readers.open_rows import CHECKED, Reading, open_rows
from cottonpalm.engine.input.reader import Broken

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.core


def write(folder: Path, name: str, data: bytes | str) -> str:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


def read(path: str, need: tuple[str, ...] = ()) -> list[object]:
    rows = open_rows(path)
    rows.need(need)
    found = list(rows)
    rows.close()
    return [f"broken: {row.error.message}" if isinstance(row, Broken) else row for row in found]


def refusal(path: str) -> str:
    with pytest.raises(Problem) as caught:
        open_rows(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_json_lines_come_as_they_are_and_empty_lines_do_not_count(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '{"text": "a{b}", "n": 1}\n\n  \n{"text": "ü", "n": [null]}')
    assert read(path) == [{"text": "a{b}", "n": 1}, {"text": "ü", "n": [None]}]


def test_a_csv_cell_may_hold_commas_quotes_and_line_ends(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'id,text\r\n1,"a, ""b""\nc"\r\n2,d\r\n')
    assert read(path) == [{"id": "1", "text": 'a, "b"\nc'}, {"id": "2", "text": "d"}]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path, name: str) -> None:
    data = b'{"text": "x"}\n' if name == "a.jsonl" else b"text\nx\n"
    assert read(write(tmp_path, name, b"\xef\xbb\xbf" + data)) == [{"text": "x"}]


def test_a_later_broken_line_is_a_failed_row_that_names_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '{"text": "x"}\n\n{"text": \n[1]\n"s"\nNaN\n{"text": "y"}\n')
    found = read(path)
    assert found[0] == {"text": "x"}
    assert found[-1] == {"text": "y"}
    assert [
        str(row).startswith(f"broken: a.jsonl line {line}: ")
        for row, line in zip(found[1:5], (3, 4, 5, 6), strict=True)
    ]
    assert "not a JSON object" in str(found[1])
    assert "an array" in str(found[2])
    assert "a string" in str(found[3])


def test_a_later_undecodable_byte_is_a_failed_row_that_names_the_byte(tmp_path: Path) -> None:
    jsonl = write(tmp_path, "a.jsonl", b'{"text": "x"}\n{"text": "\xff"}\n{"text": "y"}\n')
    csv = write(tmp_path, "a.csv", b"text\nx\na\xffb\ny\n")
    assert read(jsonl)[1] == f"broken: a.jsonl line 2: byte 11 is not UTF-8; {HINT}"
    assert read(csv)[1] == f"broken: a.csv line 3: byte 2 (0xff) is not UTF-8; {HINT}"
    assert read(csv)[2] == {"text": "y"}


def test_what_could_be_read_of_a_row_with_an_undecodable_byte_is_kept(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", b"id,text\n1,x\n2,na\xefve\n3,\xff,z\n")
    with closing(open_rows(path)) as rows:
        _, undecodable, ragged_too = list(rows)
    assert isinstance(undecodable, Broken)
    assert isinstance(ragged_too, Broken)
    assert undecodable.row == {"id": "2", "text": "na\ufffdve"}
    assert ragged_too.row == {"id": "3", "text": "\ufffd", "cottonpalm_more": ["z"]}


def test_a_missing_column_is_a_failed_row_that_names_the_line_and_what_is_there(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '{"text": "x"}\n{"txt": "y"}\n')
    assert read(path, ("text",))[1] == "broken: a.jsonl line 2: no column 'text'; this row has 'txt'"


def test_a_csv_row_with_a_cell_too_many_is_a_failed_row_that_names_the_line_it_begins_on(
    tmp_path: Path,
) -> None:
    path = write(tmp_path, "a.csv", 'id,text\n1,"a\nb"\n2,c,d\n3,e\n')
    found = read(path)
    assert str(found[1]).startswith("broken: a.csv line 4: 3 cells, the header names 2")
    assert found[2] == {"id": "3", "text": "e"}


def test_a_quote_that_is_never_closed_is_refused_with_the_line_of_its_cell_before_any_row(
    tmp_path: Path,
) -> None:
    path = write(tmp_path, "a.csv", 'id,text\n1,"a\nb"\n2,"b\n3,c\n4,d\n')
    assert refusal(path) == (
        "a.csv line 4: a quoted cell begins here and never ends; it takes in the 2 lines after it: "
        "close the quote, or double it where it is text"
    )


@pytest.mark.parametrize("encoding", ["gbk", "utf-16"])
def test_a_quote_that_is_never_closed_is_seen_before_any_row_in_any_encoding(
    tmp_path: Path, encoding: str
) -> None:
    path = write(tmp_path, "a.csv", 'text\n好\n"没有\n完\n'.encode(encoding))
    how = Reading(encoding=encoding if encoding == "gbk" else None)
    with pytest.raises(Problem, match="line 3: a quoted cell begins here and never ends"):
        open_rows(path, how=how)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_byte_that_is_not_of_the_encoding_is_named_before_any_row_however_late_it_comes(
    tmp_path: Path, name: str
) -> None:
    line = b'{"text": "x"}\n' if name == "a.jsonl" else b"text\n"
    path = write(tmp_path, name, line * 100_000 + b"\xff\xff\n")
    with pytest.raises(Problem, match=f"byte {len(line) * 100_000 + 1:,} \\(0xff\\) is not gbk"):
        open_rows(path, how=Reading(encoding="gbk"))


def test_a_quote_that_is_never_closed_ends_the_reading_where_nobody_could_know(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv.gz", gzip.compress(b'text\na\n"b\nc\nd\n'))
    rows = open_rows(path)
    stream = iter(rows)
    assert next(stream) == {"text": "a"}
    with pytest.raises(Problem, match="line 3: a quoted cell begins here"):
        next(stream)
    rows.close()


def test_a_big_csv_is_not_read_to_its_end_before_its_first_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read = tmp_path / "a.csv", list[int]()
    path.write_bytes(b"a,b\n" + b"1,2\n" * 100_000 + b'3,"never closed\n4,5\n')
    os.truncate(path, CHECKED + 1)  # the rest is nothing but zeros, which take no room

    class Counted(io.FileIO):
        def readinto(self, buffer: Any) -> Any:
            read.append(super().readinto(buffer) or 0)
            return read[-1]

    monkeypatch.setattr(io, "FileIO", Counted)
    with closing(open_rows(str(path))) as rows:
        given = iter(rows)
        assert next(given) == {"a": "1", "b": "2"}
        assert sum(read) <= 2 << 18
        assert sum(1 for _ in islice(given, 99_999)) == 99_999, "up to the quote that is never closed"


def test_a_stray_quote_that_meets_another_is_a_failed_row_that_says_how_far_it_goes(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'id,text\n0,x\n1,"a\n2,b\n3,"c"\n4,d\n')
    found = read(path)
    assert str(found[1]).startswith("broken: a.csv line 3: not CSV")
    assert "goes on for 2 more lines" in str(found[1])
    assert found[2] == {"id": "4", "text": "d"}


def test_an_inch_sign_in_a_cell_without_quotes_is_text(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.csv", 'text\n5" pipe\n')) == [{"text": '5" pipe'}]


def test_integers_of_any_length_arrive_exactly(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '{"n": 123456789012345678901234567890, "text": "x"}\n')
    assert read(path) == [{"n": 123456789012345678901234567890, "text": "x"}]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.jsonl", b"", "holds no rows"),
        ("a.jsonl", b"\n\n", "holds no rows"),
        ("a.csv", b"", "is empty: its first line must name the columns"),
        ("a.csv", b"text\n", "holds no rows"),
        ("a.csv", b"a,b,a\n1,2,3\n", "line 1: the column 'a' is named twice"),
        ("a.csv", b"text\na,b\n", "line 2: 2 cells, the header names 1"),
        ("a.jsonl", b"[1]\n", "line 1: a row is a JSON object"),
        ("a.jsonl", b"\n{oops\n", "line 2: not a JSON object"),
        ("a.csv", b"t\xffxt\nx\n", "line 1: byte 2 (0xff) is not UTF-8"),
        ("a.csv", "text\nx\n".encode("utf-16-le"), "is UTF-16 text; save it as UTF-8, or name its encoding"),
        ("a.csv", b"PK\x03\x04....", "is a zip archive or an Excel file; name it .xlsx"),
        ("a.csv", gzip.compress(b"text\nx\n", mtime=0), "is gzip data; name it .gz"),
        ("a.csv", b"PAR1....", "is a Parquet file; name it .parquet"),
        ("a.jsonl", b"Salted__....", "is encrypted; decrypt it first"),
        ("a.csv.gz", b"text\nx\n", "is no .gz file"),
        ("a.csv.zst", b"text\nx\n", "is no .zst file"),
        ("a.csv.gz", b"", "is empty"),
        ("a.csv.gz", gzip.compress(b"text\nx\n", mtime=0)[:12], "is cut short: its gzip data ends too early"),
        (
            "a.csv.gz",
            gzip.compress(b"text\nx\n", mtime=0) + b"more",
            "is damaged: its gzip data cannot be unpacked",
        ),
        ("a.csv.zst", zstandard.compress(b"text\nx\n")[:-2], "is cut short: its zstd data ends too early"),
        ("a.csv.zst", b"\x28\xb5\x2f\xfd" + b"\xff" * 40, "is damaged: its zstd data cannot be unpacked"),
        ("a.parquet", b"", "is no Parquet file, or is cut short"),
        ("a.parquet", b"text\nx\n" * 9, "is no Parquet file, or is cut short"),
        ("a.parquet", b"PAR1" + b"x" * 50, "is no Parquet file, or is cut short"),
        ("a.parquet", b"PARE" + b"x" * 50 + b"PARE", "is an encrypted Parquet file"),
        ("a.parquet.gz", b"", "Parquet packs its own columns; leave .gz out"),
        ("a.csv", b"text\ra\rb", "stands alone in a cell without quotes"),
    ],
)
def test_what_is_wrong_at_the_beginning_is_said_before_anything_else(
    tmp_path: Path, name: str, data: bytes, said: str
) -> None:
    path = write(tmp_path, name, data)
    assert said in refusal(path)
    assert name in refusal(path)


def test_a_file_that_is_not_there_a_folder_and_a_strange_suffix_are_one_line_each(tmp_path: Path) -> None:
    assert (
        refusal(str(tmp_path / "no.csv")) == f"cannot read {tmp_path / 'no.csv'}: No such file or directory"
    )
    (tmp_path / "folder.csv").mkdir()
    assert "Is a directory; name a file in it" in refusal(str(tmp_path / "folder.csv"))
    assert ".jsonl, .ndjson, .csv" in refusal(write(tmp_path, "a.xls", b"x"))


def test_the_number_of_rows_is_guessed_by_bytes_and_exact_at_the_end(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '{"text": "0123456789"}\n' * 1000)
    rows = open_rows(path)
    stream = iter(rows)
    for _ in range(10):
        next(stream)
    assert rows.total() == (1000, False)
    list(stream)
    assert rows.total() == (1000, True)
    rows.close()


def test_columns_are_collected_in_the_order_they_appear(tmp_path: Path) -> None:
    rows = open_rows(write(tmp_path, "a.jsonl", '{"b": 1, "a": 1}\n{"a": 1, "c": 1}\n'))
    list(rows)
    assert rows.columns == ["b", "a", "c"]
    rows.close()


def test_standard_input_is_read_line_by_line_as_it_comes() -> None:
    program = (
        "from cottonpalm.cli.readers.open_rows import open_rows\n"
        "for row in open_rows('-'): print(row['n'], flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": "src"},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for n in range(3):
            process.stdin.write(b'{"n": %d}\n' % n)
            process.stdin.flush()
            assert process.stdout.readline() == b"%d\n" % n  # before the next line is sent
        process.stdin.write(b'{"n": 3}')  # no line end
        process.stdin.close()
        assert process.stdout.read() == b"3\n"
