"""The outputs: derived from the store, and put right from it whatever has happened to them."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from cottonpalm.cli.files.output_file import META, examine, probe, replacing
from cottonpalm.cli.problems import Problem
from cottonpalm.cli.store.held_store import HeldStore, Ranges
from cottonpalm.cli.store.owed import Owed
from cottonpalm.cli.writers.atomic import Layout, WholeOutput
from cottonpalm.cli.writers.csv_table import guarded
from cottonpalm.cli.writers.jsonl import JsonlOutput
from cottonpalm.cli.writers.open_output import CsvForm, whole_output
from cottonpalm.protocols import StoredRow
from cottonpalm.stores import open_store
from cottonpalm.stores.codec.as_json import text_of
from cottonpalm.stores.codec.records import pack, unpack
from cottonpalm.types import ErrorRecord, Kind, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class Bench:
    """A run in a real SQLite store and its output file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.store = HeldStore(open_store(folder / "s.db"), "s.db")
        self.run = self.store.open_run("r", None)
        self.path = folder / "out.jsonl"
        self.csv_path = folder / "out.csv"

    def outcome(self, index: int, text: str = "a", failed: bool = False, row: Any = None) -> Outcome:
        error = ErrorRecord(Kind.FAIL_ROW, "Oops", "no good") if failed else None
        status: Any = "failed" if failed else "ok"
        return Outcome(
            index, status, None if failed else text, error=error, input=row or {"n": index}, attempts=1
        )

    def _take_over(self) -> None:
        """As a new process does, which owes the output nothing yet."""
        self.store.release()
        self.store = HeldStore(open_store(self.folder / "s.db"), "s.db")
        self.run = self.store.open_run("r", None)

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
        """The output, begun by a new process."""
        self._take_over()
        output = JsonlOutput(
            str(self.path), overwrite=overwrite, unpack=lambda record, index: unpack(record, index, {})
        )
        output.begin(self.run)
        return output

    def csv(self, overwrite: bool = False, columns: Sequence[str] = ("n",)) -> WholeOutput:
        """The output, begun by a new process."""
        self._take_over()
        output = whole_output(
            str(self.csv_path),
            lambda: Layout(columns, None, None),
            unpack=lambda record, index: unpack(record, index, {}),
            overwrite=overwrite,
            csv=CsvForm(),
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
    made.store.release()


def test_a_line_holds_every_field(bench: Bench) -> None:
    bench.fill(1)
    assert list(bench.lines()[0]) == [
        "index", "id", "status", "input", "output", "error", "attempts", "usage", "cost_usd", "cost_source",
        "latency_s", "cached", "lane", "model",
    ]  # fmt: skip


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


@pytest.mark.parametrize(
    "tail", [b"\0" * 4_000, b"\0" * 50 + b"\n", b'{"index":4,' + b"\0" * 99, b"\0\n\0\n"]
)
def test_a_tail_of_zeros_as_a_power_cut_leaves_it_is_cut(bench: Bench, tail: bytes) -> None:
    bench.fill(2)
    output = bench.jsonl()
    output.write(bench.put(2, bench.outcome(2)), 2)
    os.close(output._fd)
    with bench.path.open("ab") as file:
        file.write(tail)
    bench.put(3, bench.outcome(3))
    bench.jsonl().close()
    assert bench.numbers() == [0, 1, 2, 3]
    assert b"\0" not in bench.path.read_bytes()


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


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("written", [0, 1])
def test_a_file_that_another_run_is_writing_is_refused_until_it_ends(
    bench: Bench, overwrite: bool, written: int
) -> None:
    """The other one may have another store, so that no lease tells of it, and no line yet."""
    first, others = bench.jsonl(), Bench(bench.path.parent / "other")
    others.path = bench.path
    for n in range(written):
        first.write(bench.put(n, bench.outcome(n)), n)
    for _ in range(2):
        with pytest.raises(Problem, match="is being written by another run: wait for it or stop it"):
            others.jsonl(overwrite)
        first.finish(Order(range(written)), complete=True)
    first.write(bench.put(2, bench.outcome(2)), 2)
    first.finish(Order([2]), complete=True)  # the file is replaced, and the new one no less claimed
    with pytest.raises(Problem, match="is being written by another run: wait for it or stop it"):
        others.jsonl(overwrite)
    first.close()
    assert bench.numbers() == [0]
    others.jsonl(overwrite=True).close()
    assert bench.numbers() == []
    others.store.release()


def test_a_table_that_another_run_has_written_meanwhile_is_refused_at_the_end(bench: Bench) -> None:
    output = bench.csv()
    output.write(bench.put(0, bench.outcome(0)), 0)
    bench.csv_path.write_text("n,output\n7,precious\n")
    with pytest.raises(Problem, match="exists and was not written by this run"):
        output.finish(Order(range(1)), complete=True)
    assert "precious" in bench.csv_path.read_text()
    bench.csv(overwrite=True).finish(Order(range(1)), complete=True)
    assert table(bench.csv_path)[1][0] == "0"


def test_a_newer_outcome_supersedes_the_older_line(bench: Bench) -> None:
    bench.fill(2)
    output = bench.jsonl()
    output.write(bench.put(0, bench.outcome(0, "better")), 0)
    output.finish(Order(range(2)), complete=True)
    output.close()
    assert [(line["index"], line["output"]) for line in bench.lines()] == [(1, "a"), (0, "better")]


def test_a_line_with_half_a_character_stays_where_others_are_superseded_or_the_file_is_read_again(
    bench: Bench,
) -> None:
    output = bench.jsonl()
    for n, text in enumerate(["cut here \ud83d", "a", "a"]):
        output.write(bench.put(n, bench.outcome(n, text)), n)
    output._set_mark()
    output.write(bench.put(1, bench.outcome(1, "better")), 1)
    os.close(output._fd)  # a crash
    bench.jsonl().close()
    found = [json.loads(line) for line in bench.path.read_bytes().splitlines()]
    assert [(line["index"], line["output"]) for line in found] == [
        (0, "cut here \ud83d"),
        (2, "a"),
        (1, "better"),
    ]


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


# -- a second pass, and a crash in it ---------------------------------------------------------------------------------


def failed_first(bench: Bench, rows: int = 4) -> None:
    """A whole run whose row 1 failed."""
    output = bench.jsonl()
    for n in range(rows):
        output.write(bench.put(n, bench.outcome(n, failed=n == 1)), n)
    output.finish(Order(range(rows)), complete=True)
    output.close()


def statuses(bench: Bench) -> dict[int, str]:
    found = [(line["index"], line["status"]) for line in bench.lines()]
    assert len(dict(found)) == len(found), "a row has two lines"
    return dict(found)


def test_a_row_answered_later_and_lost_between_the_store_and_its_line_is_put_right(bench: Bench) -> None:
    failed_first(bench)
    output = bench.jsonl()
    bench.put(1, bench.outcome(1, "at last"))  # durable, and killed before its line
    os.close(output._fd)
    bench.jsonl().close()
    assert statuses(bench) == dict.fromkeys(range(4), "ok")
    written = bench.path.stat()
    output = bench.jsonl()
    output.finish(Order(range(4)), complete=True)
    output.close()
    assert bench.path.stat().st_ino == written.st_ino
    assert bench.path.stat().st_mtime_ns == written.st_mtime_ns  # nothing to mend any more


def test_a_row_that_was_answered_for_another_output_is_put_right_too(bench: Bench) -> None:
    failed_first(bench)
    output = bench.jsonl()
    output.write(bench.put(1, bench.outcome(1, failed=True)), 1)  # again in vain; its line is behind the mark
    os.close(output._fd)
    bench.path.with_name("x.csv").touch()
    bench.csv()
    bench.put(1, bench.outcome(1, "at last"))
    bench.jsonl().close()
    assert statuses(bench) == dict.fromkeys(range(4), "ok")


def test_lines_behind_the_mark_are_not_written_twice_nor_the_file_anew(bench: Bench) -> None:
    bench.fill(3)
    output = bench.jsonl()
    for n in range(3, 50):
        output.write(bench.put(n, bench.outcome(n)), n)
    os.close(output._fd)
    before = bench.path.stat()
    bench.jsonl().close()
    assert bench.numbers() == list(range(50))
    assert (bench.path.stat().st_ino, bench.path.stat().st_size) == (before.st_ino, before.st_size)


@pytest.mark.parametrize("marked", [False, True])
def test_a_crash_while_the_second_pass_is_written_leaves_one_line_a_row_the_newest(
    bench: Bench, marked: bool
) -> None:
    failed_first(bench)
    output = bench.jsonl()
    output.write(bench.put(1, bench.outcome(1, "at last")), 1)
    bench.put(2, bench.outcome(2, "newer"))  # its line never came
    if marked:
        output._set_mark()
    os.close(output._fd)
    bench.jsonl().close()
    assert statuses(bench) == dict.fromkeys(range(4), "ok")
    assert {line["index"]: line["output"] for line in bench.lines()} == {
        0: "a",
        1: "at last",
        2: "newer",
        3: "a",
    }


@pytest.mark.parametrize("slots", [[3, 0, 1, 2], [0, 1, 2, 3]])
def test_after_an_input_was_edited_too_a_lost_line_is_put_right(bench: Bench, slots: list[int]) -> None:
    failed_first(bench)
    order = Order([3, 0, 1, 2])
    output = bench.jsonl()
    output.finish(order, complete=True)
    output.close()
    output = bench.jsonl()
    bench.put(1, bench.outcome(1, "at last"))
    os.close(output._fd)
    output = bench.jsonl()
    output.finish(Order(slots), complete=True)
    output.close()
    assert statuses(bench) == dict.fromkeys(range(4), "ok")
    assert [line["input"]["n"] for line in sorted(bench.lines(), key=lambda line: line["index"])] == slots


def test_lines_numbered_by_an_edit_that_was_taken_back_after_a_crash_do_not_stay(bench: Bench) -> None:
    bench.fill(3)
    for slots in ([2, 0, 1], [0, 1, 2]):  # so that the layout of the straight file is known
        output = bench.jsonl()
        output.finish(Order(slots), complete=True)
        output.close()
    output = bench.jsonl()
    output.write(
        bench.put(3, bench.outcome(0, "new", row={"n": "new"})), 3
    )  # a row was put before the others
    os.close(output._fd)
    output = bench.jsonl()
    output.finish(Order([0, 1, 2]), complete=True)
    output.close()
    assert [(line["index"], line["input"]["n"]) for line in bench.lines()] == [(0, 0), (1, 1), (2, 2)]


def test_outcomes_that_were_stored_but_never_handed_out_are_written_at_the_end(bench: Bench) -> None:
    failed_first(bench)
    output = bench.jsonl()
    bench.put(1, bench.outcome(1, "at last"))
    bench.put(4, bench.outcome(4))
    output.finish(Order(range(5)), complete=False)
    output.close()
    assert statuses(bench) == dict.fromkeys(range(5), "ok")
    bench.jsonl().close()
    assert statuses(bench) == dict.fromkeys(range(5), "ok")


def test_so_are_those_of_an_input_that_was_edited(bench: Bench) -> None:
    failed_first(bench)
    order = Order([3, 0, 1, 2])
    output = bench.jsonl()
    output.finish(order, complete=True)
    output.close()
    output = bench.jsonl()
    bench.put(1, bench.outcome(1, "at last"))
    output.finish(order, complete=True)
    output.close()
    assert statuses(bench) == dict.fromkeys(range(4), "ok")


def test_a_file_of_an_older_version_goes_on_without_being_written_anew(bench: Bench) -> None:
    bench.fill(3)
    mark = bench.run.meta()[META + str(bench.path)]
    del mark["seq"]
    bench.run.set_meta(**{META + str(bench.path): {**mark, "a later word": 1}})
    before = bench.path.stat()
    with sqlite3.connect(bench.path.parent / "s.db") as db:
        db.execute("UPDATE item SET seq = 0")
        db.execute("UPDATE run SET seq = 0")
    db.close()
    bench.store.release()
    output = bench.jsonl()
    output.write(bench.put(3, bench.outcome(3)), 3)
    output.finish(Order(range(4)), complete=True)
    output.close()
    assert bench.numbers() == [0, 1, 2, 3]
    assert bench.path.stat().st_ino == before.st_ino


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_is_written_anew_after_a_crash_between_the_store_and_the_file(
    bench: Bench, kind: str
) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    bench.csv_path = bench.csv_path.with_suffix(f".{kind}")
    for n in range(3):
        bench.put(n, bench.outcome(n, failed=n == 1))
    bench.csv().finish(Order(range(3)), complete=True)
    bench.csv()
    bench.put(1, bench.outcome(1, "at last"))  # durable, and killed before the end
    before = bench.csv_path.read_bytes()
    bench.csv().finish(Order(range(3)), complete=True)
    after = bench.csv_path.read_bytes()
    assert b"at last" in after
    assert b"at last" not in before
    inode = bench.csv_path.stat().st_ino
    bench.csv().finish(Order(range(3)), complete=True)
    assert bench.csv_path.stat().st_ino == inode


# -- replacing a file -------------------------------------------------------------------------------------------------


def test_two_who_replace_one_file_at_once_do_not_write_into_each_others(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with replacing(str(path)) as first:
        first.write(b"first " * 1_000)
        with replacing(str(path)) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
        first.write(b"to the end")
    assert path.read_bytes() == b"first " * 1_000 + b"to the end"
    assert [file.name for file in tmp_path.iterdir()] == ["out.csv"]


def test_a_half_written_file_of_a_killed_process_is_swept_and_one_at_work_is_not(tmp_path: Path) -> None:
    path = tmp_path / "out[1].csv"
    dead = tmp_path / ".out[1].csv.0011aabb.part"
    dead.write_bytes(b"half")
    with replacing(str(path)) as first:
        assert not dead.exists()
        probe(str(path))
        first.write(b"whole")
    assert path.read_bytes() == b"whole"


def test_many_who_begin_to_write_one_file_at_once_do_not_sweep_each_others_away(tmp_path: Path) -> None:
    path, together = tmp_path / "out.csv", threading.Barrier(8)

    def look(_: int) -> None:
        together.wait(20)
        for _ in range(100):
            probe(str(path))
            with replacing(str(path)) as file:
                file.write(b"whole")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(look, range(8)))  # raises what one of them met
    assert path.read_bytes() == b"whole"
    assert [file.name for file in tmp_path.iterdir()] == ["out.csv"]


def test_a_file_put_in_the_way_of_the_new_one_is_not_written_to(tmp_path: Path) -> None:
    victim = tmp_path / "precious"
    victim.write_bytes(b"mine")
    (tmp_path / ".out.csv.part").symlink_to(victim)
    with replacing(str(tmp_path / "out.csv")) as file:
        file.write(b"x")
    assert victim.read_bytes() == b"mine"


def test_a_new_name_is_made_durable_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[bool, bool]] = []
    path = tmp_path / "out.csv"

    def fsync(fd: int, real: Any = os.fsync) -> None:
        synced.append((stat.S_ISDIR(os.fstat(fd).st_mode), path.exists()))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with replacing(str(path)) as file:
        file.write(b"x")
    assert synced == [(False, False), (True, True)]  # the file before its name, the folder after it


def test_what_is_owed_is_counted_right_while_two_threads_are_at_it() -> None:
    owed = Owed(7)
    handed: Queue[int | None] = Queue()

    def store() -> None:
        for first in range(0, 60_000, 60):
            owed.add(range(first, first + 60))
            for slot in range(first, first + 60):
                handed.put(slot)
        handed.put(None)

    thread = threading.Thread(target=store)
    thread.start()
    whole = owed.whole
    while (slot := handed.get()) is not None:
        assert slot in owed
        owed.settle(slot)
        whole, before = owed.whole, whole
        assert before <= whole
    thread.join()
    assert (owed.whole, owed.up_to(10**9)) == (60_007, [])


def test_the_output_is_whole_only_up_to_what_is_owed_first() -> None:
    owed = Owed(0)
    owed.add([5, 3])
    owed.add([9])
    owed.settle(3)
    assert (owed.whole, owed.up_to(2), 5 in owed, 3 in owed) == (0, [5], True, False)
    owed.settle(5)
    assert owed.whole == 2
    owed.add([9])  # once more: the newer one counts
    assert (owed.whole, owed.up_to(3), owed.up_to(4)) == (3, [], [9])


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


def test_csv_keeps_the_answers_of_rows_that_a_stopped_second_pass_did_not_read(bench: Bench) -> None:
    for n in range(4):
        bench.put(n, bench.outcome(n, failed=n % 2 == 0))
    bench.csv().finish(Order(range(4)), complete=True)
    bench.put(0, bench.outcome(0, "better"))
    bench.csv().finish(Order(range(1)), complete=False)
    with bench.csv_path.open(newline="", encoding="utf-8") as file:
        assert [row["output"] for row in csv.DictReader(file)] == ["better", "a", "", "a"]
    bench.csv().finish(Order(range(3)), complete=True)
    with bench.csv_path.open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 3, "a row that left the input leaves the file"


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
        csv=CsvForm(),
    )
    output.begin(bench.run)
    output.finish(Order(range(2)), complete=True)
    assert table(bench.csv_path) == [
        ["label", "cottonpalm_label", "status", "cottonpalm_status", "error", "cost_usd"],
        ["x", "good", "new", "ok", "", ""],
        ["y", "", "", "failed", "fail_row: Oops: no good", ""],
    ]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_an_output_that_was_moved_away_while_it_was_written_is_there_again_at_the_end(
    bench: Bench, order: list[int]
) -> None:
    output, moved = bench.jsonl(), bench.path.with_name("moved.jsonl")
    for n in order:
        if n == order[1]:
            bench.path.rename(moved)
        output.write(bench.put(n, bench.outcome(n)), n)
    output.finish(Order(range(3)), complete=True)
    output.close()
    assert bench.numbers() == [0, 1, 2]
    assert len(moved.read_bytes().splitlines()) == 3, "what was moved is left as it is"
    bench.jsonl().close()
    assert bench.numbers() == [0, 1, 2]


def test_one_that_was_moved_away_from_an_interrupted_run_is_made_anew_by_the_next(bench: Bench) -> None:
    bench.fill(2)
    output = bench.jsonl()
    bench.path.rename(bench.path.with_name("moved.jsonl"))
    output.write(bench.put(2, bench.outcome(2)), 2)
    output.finish(Order(range(1)), complete=False)
    output.close()
    again = bench.jsonl()
    again.finish(Order(range(3)), complete=True)
    again.close()
    assert bench.numbers() == [0, 1, 2]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("cut_before", [1, 2, None], ids=["the second line", "the third", "the end"])
@pytest.mark.parametrize("share", [0, 0.2, 0.9])
def test_an_output_that_was_cut_while_it_was_written_is_whole_at_the_end(
    bench: Bench, order: list[int], stopped: bool, cut_before: int | None, share: float
) -> None:
    output = bench.jsonl()
    for nth, n in enumerate(order):
        if nth == cut_before:
            os.truncate(bench.path, int(share * bench.path.stat().st_size))
        output.write(bench.put(n, bench.outcome(n)), n)
    if cut_before is None:
        os.truncate(bench.path, int(share * bench.path.stat().st_size))
    output.finish(Order(range(3)), complete=not stopped)
    output.close()
    if stopped:
        output = bench.jsonl()
        output.finish(Order(range(3)), complete=True)
        output.close()
    assert bench.numbers() == [0, 1, 2]


@pytest.mark.parametrize("again", [False, True], ids=["once", "a row done again"])
@pytest.mark.parametrize("stopped", [False, True])
def test_a_file_that_was_put_in_the_place_of_the_output_meanwhile_is_refused_and_left_alone(
    bench: Bench, again: bool, stopped: bool
) -> None:
    output = bench.jsonl()
    for n in [0, 1, 1] if again else [0, 1]:
        output.write(bench.put(n, bench.outcome(n)), n)
    bench.path.unlink()
    bench.path.write_text("mine\n")
    with pytest.raises(Problem, match="move it away, or say --overwrite") as refused:
        output.finish(Order(range(2)), complete=not stopped)
    assert refused.value.code == 4
    output.close()
    assert bench.path.read_text() == "mine\n"
    output = bench.jsonl(overwrite=True)
    output.finish(Order(range(2)), complete=True)
    output.close()
    assert bench.numbers() == [0, 1]


def test_an_empty_file_that_was_put_in_the_place_of_the_output_is_filled_at_the_end(bench: Bench) -> None:
    output = bench.jsonl()
    output.write(bench.put(0, bench.outcome(0)), 0)
    bench.path.rename(bench.path.with_name("out.jsonl.1"))
    bench.path.touch()
    output.finish(Order(range(1)), complete=True)
    output.close()
    assert bench.numbers() == [0]
