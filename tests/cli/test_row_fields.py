"""--id-field, --priority-field and --limit: what they do, and what is said where a row has none."""

from __future__ import annotations

import tempfile
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from cottonpalm.cli.problems import Problem
from cottonpalm.cli.readers.first_places import FULL, PARTS, FirstPlaces
from tests.cli.conftest import lines, rows

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Command
    from tests.support.loopback import Loopback


def test_an_edited_row_keeps_its_place_and_is_the_only_one_paid_again(
    ask: Command, folder: Path, server: Loopback
) -> None:
    source = folder / "in.csv"
    source.write_text("id,text\n1,one\n2,two\n3,three\n")
    assert ask("in.csv", "-o", "out.jsonl", "--id-field", "id").code == 0
    assert [line["id"] for line in lines(folder / "out.jsonl")] == ["1", "2", "3"]
    source.write_text("id,text\n3,three\n2,TWO\n1,one\n")
    assert ask("in.csv", "-o", "out.jsonl", "--id-field", "id").code == 0
    assert server.requests == 4
    assert [(line["id"], line["output"]) for line in lines(folder / "out.jsonl")] == [
        ("3", "answer to: say three"),
        ("2", "answer to: say TWO"),
        ("1", "answer to: say one"),
    ]


def test_a_doubled_or_missing_id_is_a_failed_row_that_names_both_lines(ask: Command, folder: Path) -> None:
    (folder / "in.jsonl").write_text(
        '{"id": 1, "text": "a"}\n{"id": "x", "text": "b"}\n{"id": "1", "text": "c"}\n{"text": "d"}\n'
        '{"id": null, "text": "e"}\n{"id": [1], "text": "f"}\n'
    )
    assert ask("in.jsonl", "-o", "out.jsonl", "--id-field", "id").code == 3
    errors = [(line["error"] or {}).get("message") for line in lines(folder / "out.jsonl")]
    assert errors == [
        None,
        None,
        "in.jsonl line 3: the id '1' is the one of line 1 already",
        "in.jsonl line 4: no column 'id'; this row has 'text'",
        "in.jsonl line 5: the id in 'id' is empty; it must be text or a number",
        "in.jsonl line 6: the id in 'id' is [1]; it must be text or a number",
    ]


def test_a_column_that_is_not_there_is_refused_and_the_columns_are_named(
    ask: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 2)
    for option in ("--id-field", "--priority-field"):
        said = ask("in.jsonl", "-o", "out.jsonl", option, "N")
        assert said.code == 2
        assert said.one_line == f"cottonpalm: {option} N: in.jsonl has no such column; it has 'n', 'text'"
    said = ask("in.jsonl", "-o", "out.jsonl", "--priority-field", "text")
    assert "in.jsonl line 1: the priority in 'text' is 'row-0', not a number" in said.one_line
    assert server.requests == 0


def test_higher_priorities_start_first_and_a_bad_one_is_a_failed_row(
    ask: Command, folder: Path, server: Loopback
) -> None:
    (folder / "in.csv").write_text(
        "p,text\n1,low\n" + "".join(f"{n},t{n}\n" for n in range(2, 8)) + "x,bad\nnan,bad\n9,top\n"
    )
    said = ask("in.csv", "-o", "out.jsonl", "--priority-field", "p", "-c", "1")
    assert said.code == 3
    failed = [line["error"]["message"] for line in lines(folder / "out.jsonl") if line["error"]]
    assert failed == [
        "in.csv line 9: the priority in 'p' is 'x', not a number",
        "in.csv line 10: the priority in 'p' is 'nan', not a number",
    ]
    assert server.requests == 8


def test_limit_does_the_first_rows_and_the_same_command_without_it_the_others(
    ask: Command, folder: Path, server: Loopback
) -> None:
    rows(folder / "in.jsonl", 6)
    assert ask("in.jsonl", "-o", "out.jsonl", "--limit", "2").code == 0
    assert [line["input"]["n"] for line in lines(folder / "out.jsonl")] == [0, 1]
    assert ask("in.jsonl", "-o", "out.jsonl").code == 0
    assert [line["input"]["n"] for line in lines(folder / "out.jsonl")] == list(range(6))
    assert server.requests == 6


def test_the_first_place_of_each_text_is_remembered() -> None:
    places = FirstPlaces()
    for n in range(1, 5001):
        assert places.met(f"id {n}", n) is None
    assert [places.met(f"id {n}", 9999) for n in range(1, 5001)] == list(range(1, 5001))


def test_the_places_of_many_texts_take_little_memory_also_while_they_grow() -> None:
    tracemalloc.start()
    try:
        places = FirstPlaces()
        for n in range(1, 100_001):
            places.met(f"a rather long id, so that it would show: {n:060}", n)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak / 100_000 < 26
    assert places.met(f"a rather long id, so that it would show: {77:060}", 5) == 77


def test_a_place_beyond_what_can_be_noted_is_still_a_place() -> None:
    places = FirstPlaces()
    assert places.met("a", 2**40) is None
    assert places.met("a", 2**40 + 1) == 2**32 - 1


def test_texts_that_have_left_the_memory_are_still_known_with_their_places() -> None:
    places, many = FirstPlaces(), 3 * PARTS * FULL // 2
    assert all(places.met(f"id {n}", n) is None for n in range(1, many + 1))
    for n in range(1, many + 1, 501):
        assert places.met(f"id {n}", many + n) == n
        assert places.met(f"other {n}", n) is None


def test_a_folder_of_temporary_files_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
    places = FirstPlaces()
    with pytest.raises(Problem, match="cannot write to /nowhere/at/all: No such file or directory"):
        assert not [n for n in range(1, PARTS * FULL * 2) if places.met(f"id {n}", n)]
