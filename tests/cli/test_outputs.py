"""The outputs: derived from the store, and put right from it whatever has happened to them."""

from __future__ import annotations

import csv
import os
import stat
import threading
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from cottonpalm.cli.files.output_file import META, examine
from cottonpalm.cli.held_store import Ranges
from cottonpalm.cli.problems import Problem
from cottonpalm.cli.writers.atomic import Layout, WholeOutput
from cottonpalm.cli.writers.csv_table import guarded
from cottonpalm.cli.writers.jsonl import JsonlOutput
from cottonpalm.cli.writers.lines import text_of
from cottonpalm.cli.writers.open_output import whole_output
from cottonpalm.protocols import StoredRow
from cottonpalm.stores import open_store
from cottonpalm.stores.codec.records import pack, unpack
from cottonpalm.types import ErrorRecord, Kind, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from cottonpalm.protocols import RunStore

pytestmark = pytest.mark.core


class Bench:
    """A run in a real SQLite store and its output file."""

    def __init__(self, folder: Path) -> None:
        self.store = open_store(folder / "s.db")
        self.run: RunStore = self.store.open_run("r", None)
        self.path = folder / "out.jsonl"
        self.csv_path = folder / "out.csv"

    def outcome(self, index: int, text: str = "a", failed: bool = False, row: Any = None) -> Outcome:
        error = ErrorRecord(Kind.FAIL_ROW, "Oops", "no good") if failed else None
        status: Any = "failed" if failed else "ok"
        return Outcome(
            index, status, None if failed else text, error=error, input=row or {"n": index}, attempts=1
        )

    def put(self, slot: int, outcome: Outcome) -> Outcome:
        done = threading.Event()
        key = slot.to_bytes(16, "big")
        status = 1 if outcome.status == "ok" else 3
        self.run.write(
            [StoredRow(slot, key, key, status, pack(outcome, keep_input=True, types={}))],
            lambda _: done.set(),
        )
        assert done.wait(20)
        return outcome

    def jsonl(self, overwrite: bool = False) -> JsonlOutput:
        output = JsonlOutput(
            str(self.path), overwrite=overwrite, unpack=lambda record, index: unpack(record, index, {})
        )
        output.begin(self.run)
        return output

    def csv(self, overwrite: bool = False, columns: Sequence[str] = ("n",)) -> WholeOutput:
        output = whole_output(
            str(self.csv_path),
            lambda: Layout(columns, None, None),
            unpack=lambda record, index: unpack(record, index, {}),
            overwrite=overwrite,
            guard=False,
        )
        output.begin(self.run)
        return output

    def fill(self, rows: int) -> None:
        """A whole run of straight rows."""
        output = self.jsonl()
        for n in range(rows):
            output.write(self.put(n, self.outcome(n)), n)
        output.finish(Order(range(rows)), complete=True)
        output.close()

    def lines(self) -> list[Any]:
        with self.path.open("rb") as file:
            return [orjson.loads(line) for line in file]

    def numbers(self) -> list[int]:
        return [line["index"] for line in self.lines()]


class Order:
    def __init__(self, slots: Sequence[int]) -> None:
        self.slots = slots

    def __len__(self) -> int:
        return len(self.slots)

    def of(self, index: int) -> int:
        return self.slots[index]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.run.close()
    made.store.close()


def test_a_line_holds_every_field_and_the_file_is_private(bench: Bench) -> None:
    bench.fill(1)
    assert list(bench.lines()[0]) == [
        "index", "id", "status", "input", "output", "error", "attempts", "usage", "cost_usd", "cost_source",
        "latency_s", "cached", "lane", "model",
    ]  # fmt: skip
    assert stat.S_IMODE(bench.path.stat().st_mode) == 0o600


def test_a_torn_tail_is_cut_and_the_row_comes_back_from_the_store(bench: Bench) -> None:
    bench.fill(3)
    os.truncate(bench.path, bench.path.stat().st_size - 5)
    bench.jsonl().close()
    assert sorted(bench.numbers()) == [0, 1, 2]


def test_lines_after_the_mark_are_kept_and_the_torn_one_among_them_is_cut(bench: Bench) -> None:
    bench.fill(2)
    output = bench.jsonl()
    for n in (2, 3):
        output.write(bench.put(n, bench.outcome(n)), n)
    os.close(output._fd)  # a crash: no mark was set after these
    with bench.path.open("ab") as file:
        file.write(b'{"index":4,"id":nu')
    bench.put(5, bench.outcome(5))  # durable, its line never written
    bench.jsonl().close()
    assert bench.numbers() == [0, 1, 2, 3, 5]


def test_a_deleted_output_is_rebuilt(bench: Bench) -> None:
    bench.fill(5)
    bench.path.unlink()
    bench.jsonl().close()
    assert bench.numbers() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("keep", [0, 10, 300, 700])
def test_a_shortened_output_is_rebuilt(bench: Bench, keep: int) -> None:
    bench.fill(5)
    os.truncate(bench.path, keep)
    bench.jsonl().close()
    assert bench.numbers() == [0, 1, 2, 3, 4]


def test_a_file_that_this_run_did_not_write_is_refused_and_untouched(bench: Bench) -> None:
    with bench.path.open("w") as file:
        file.write("precious\n")
    with pytest.raises(Problem, match=r"was not written by this run.*--overwrite"):
        bench.jsonl()
    with bench.path.open() as file:
        assert file.read() == "precious\n"
    bench.put(0, bench.outcome(0))
    bench.jsonl(overwrite=True).close()
    assert bench.numbers() == [0]


def test_an_output_that_somebody_edited_is_refused(bench: Bench) -> None:
    bench.fill(3)
    with bench.path.open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"X")
    with pytest.raises(Problem, match="was changed since this run wrote it"):
        bench.jsonl()


def test_lines_that_somebody_added_are_not_cut_off_but_refused(bench: Bench) -> None:
    bench.fill(3)
    with bench.path.open("a") as file:
        file.write("a note of mine\n")
    with pytest.raises(Problem, match="was changed since this run wrote it"):
        bench.jsonl()
    assert bench.path.read_text().endswith("a note of mine\n")


@pytest.mark.parametrize("added", ["mine,,,,\n", "torn"])
def test_what_somebody_added_to_the_csv_is_refused(bench: Bench, added: str) -> None:
    bench.put(0, bench.outcome(0))
    output = bench.csv()
    output.finish(Order(range(1)), complete=True)
    with bench.csv_path.open("a") as file:
        file.write(added)
    with pytest.raises(Problem, match="was changed since this run wrote it"):
        bench.csv()


def test_a_foreign_file_put_in_place_before_the_first_line_is_refused(bench: Bench) -> None:
    bench.jsonl().close()  # begun, and killed before the first row
    with bench.path.open("w") as file:
        file.write("precious\n")
    with pytest.raises(Problem):
        bench.jsonl()


def test_an_empty_file_may_be_written_to(bench: Bench) -> None:
    with bench.path.open("w"):
        pass
    bench.fill(1)
    assert bench.numbers() == [0]


def test_a_newer_outcome_supersedes_the_older_line(bench: Bench) -> None:
    bench.fill(2)
    output = bench.jsonl()
    output.write(bench.put(0, bench.outcome(0, "better")), 0)
    output.finish(Order(range(2)), complete=True)
    output.close()
    assert [(line["index"], line["output"]) for line in bench.lines()] == [(1, "a"), (0, "better")]


def test_superseded_lines_are_dropped_at_the_next_start_if_the_process_was_killed(bench: Bench) -> None:
    bench.fill(3)
    output = bench.jsonl()
    output.write(bench.put(1, bench.outcome(1, "better")), 1)
    os.close(output._fd)  # a crash
    bench.jsonl().close()
    assert [(line["index"], line["output"]) for line in bench.lines()] == [(0, "a"), (2, "a"), (1, "better")]


def test_a_crash_between_the_replacing_and_its_mark_does_no_harm(bench: Bench) -> None:
    bench.fill(3)
    mark = bench.run.meta()[META + str(bench.path)]
    bench.run.set_meta(**{META + str(bench.path): {**mark, "replacing": True, "size": 7, "tail": 1}})
    bench.jsonl().close()
    assert sorted(bench.numbers()) == [0, 1, 2]


def test_rows_that_are_no_more_in_the_input_leave_the_output(bench: Bench) -> None:
    bench.fill(4)
    output = bench.jsonl()
    output.finish(Order(range(2)), complete=True)
    output.close()
    assert bench.numbers() == [0, 1]


def test_rows_beyond_what_was_read_stay_while_the_input_was_not_read_to_its_end(bench: Bench) -> None:
    bench.fill(4)
    output = bench.jsonl()
    output.finish(Order(range(2)), complete=False)
    output.close()
    assert bench.numbers() == [0, 1, 2, 3]


def test_moved_rows_get_their_new_numbers(bench: Bench) -> None:
    bench.fill(3)
    output = bench.jsonl()
    output.write(bench.put(3, bench.outcome(0, "new", row={"n": "new"})), 3)
    output.finish(Order([3, 0, 1, 2]), complete=True)
    output.close()
    assert [(line["index"], line["input"]["n"]) for line in bench.lines()] == [
        (0, "new"),
        (1, 0),
        (2, 1),
        (3, 2),
    ]
    before = bench.path.stat()
    again = bench.jsonl()
    again.finish(Order([3, 0, 1, 2]), complete=True)
    again.close()
    assert bench.path.stat().st_mtime_ns == before.st_mtime_ns  # nothing had changed


def test_a_moved_input_put_back_is_straight_again(bench: Bench) -> None:
    bench.fill(3)
    for slots in ([2, 0, 1], [0, 1, 2]):
        output = bench.jsonl()
        output.finish(Order(slots), complete=True)
        output.close()
        assert [line["input"]["n"] for line in bench.lines()] == slots
        assert bench.numbers() == [0, 1, 2]
    assert bench.run.meta()[META + str(bench.path)]["moved"] is False


def test_many_gaps_are_read_from_the_file_again(bench: Bench) -> None:
    bench.fill(3)
    mark = bench.run.meta()[META + str(bench.path)]
    bench.run.set_meta(**{META + str(bench.path): {**mark, "written": None}})
    bench.put(3, bench.outcome(3))
    bench.jsonl().close()
    assert bench.numbers() == [0, 1, 2, 3]


# -- CSV --------------------------------------------------------------------------------------------------------------


def table(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_csv_keeps_the_columns_and_the_order_of_the_input(bench: Bench) -> None:
    output = bench.csv()
    output.write(bench.put(1, bench.outcome(1, 'b,\n"c"')), 1)
    output.write(bench.put(0, bench.outcome(0, failed=True)), 0)
    output.finish(Order(range(2)), complete=True)
    assert table(bench.csv_path) == [
        ["n", "output", "status", "error", "cost_usd"],
        ["0", "", "failed", "fail_row: Oops: no good", ""],
        ["1", 'b,\n"c"', "ok", "", ""],
    ]
    assert stat.S_IMODE(bench.csv_path.stat().st_mode) == 0o600


def test_csv_result_columns_do_not_hide_the_inputs_own(bench: Bench) -> None:
    bench.put(0, bench.outcome(0, row={"n": 1, "status": "mine"}))
    output = bench.csv(columns=("n", "status"))
    output.finish(Order([0]), complete=True)
    assert table(bench.csv_path)[0] == ["n", "status", "output", "cottonpalm_status", "error", "cost_usd"]
    assert table(bench.csv_path)[1][1] == "mine"


def test_csv_is_written_again_when_it_is_gone_or_the_rows_differ_and_else_left_alone(bench: Bench) -> None:
    for n in range(3):
        bench.put(n, bench.outcome(n))
    bench.csv().finish(Order(range(3)), complete=True)
    inode = bench.csv_path.stat().st_ino
    bench.csv().finish(Order(range(3)), complete=True)
    assert bench.csv_path.stat().st_ino == inode
    bench.csv().finish(Order(range(2)), complete=True)
    assert len(table(bench.csv_path)) == 3
    bench.csv_path.unlink()
    bench.csv().finish(Order(range(3)), complete=True)
    assert len(table(bench.csv_path)) == 4
    assert examine(str(bench.csv_path), None, overwrite=True) == "new"


@pytest.mark.parametrize(
    "text", ["=1+1", "+A1", "-A1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1", "--1", "+-1"]
)
def test_a_guarded_cell_that_would_be_a_formula_begins_with_an_apostrophe(text: str) -> None:
    assert guarded(text) == f"'{text}"


@pytest.mark.parametrize("text", ["-1", "+3.5", "-.5e3", "a=1", "", "'=1"])
def test_numbers_and_other_text_are_left_alone(text: str) -> None:
    assert guarded(text) == text


def test_a_cell_of_another_kind_is_json() -> None:
    assert text_of({"a": [1, None]}) == '{"a":[1,null]}'
    assert text_of(None) == ""
    assert text_of(True) == "true"
    assert text_of(-3) == "-3"


# -- ranges -----------------------------------------------------------------------------------------------------------


def test_ranges_are_a_set_of_numbers() -> None:
    import random

    rng = random.Random(7)
    numbers = list(range(300))
    rng.shuffle(numbers)
    ranges, plain = Ranges(), set[int]()
    for number in [*numbers[:200], *numbers[50:100]]:
        assert ranges.add(number) == (number not in plain)
        plain.add(number)
        assert [n for n in range(-1, 301) if n in ranges] == sorted(plain)
        assert [n for first, end in ranges.pairs() for n in range(first, end)] == sorted(plain)
        assert ranges.first_gap == next(n for n in range(301) if n not in plain)
        assert ranges.end == max(plain) + 1
    assert Ranges(ranges.pairs()).pairs() == ranges.pairs()


def test_a_table_may_have_a_column_for_each_field_of_the_answers(bench: Bench) -> None:
    bench.put(0, Outcome(0, "ok", output={"label": "good", "status": "new"}, input={"label": "x"}))
    bench.put(1, bench.outcome(1, failed=True, row={"label": "y"}))
    output = whole_output(
        str(bench.csv_path),
        lambda: Layout(["label"], None, ["label", "status"]),
        unpack=lambda record, index: unpack(record, index, {}),
        overwrite=False,
        guard=False,
    )
    output.begin(bench.run)
    output.finish(Order(range(2)), complete=True)
    assert table(bench.csv_path) == [
        ["label", "cottonpalm_label", "status", "cottonpalm_status", "error", "cost_usd"],
        ["x", "good", "new", "ok", "", ""],
        ["y", "", "", "failed", "fail_row: Oops: no good", ""],
    ]
