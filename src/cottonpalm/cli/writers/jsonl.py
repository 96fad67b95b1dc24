"""The JSONL output: it appends whole lines, and repairs from the store what a crash or an edit left behind.

The mark in the store covers the file up to some byte. It says which rows lie before it, and the number of the last
outcome up to which all outcomes are in the file. So a run that goes on reads only the lines after the mark, and only
newer outcomes.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from cottonpalm import clock
from cottonpalm.cli.files.output_file import OURS, Mark, claim, examine, replacing
from cottonpalm.cli.problems import Problem, os_problem
from cottonpalm.cli.store.held_store import Ranges
from cottonpalm.cli.writers.lines import line_of
from cottonpalm.cli.writers.output import PAGE, Slots, Unpack, is_straight, layout_of, records, write_all
from cottonpalm.locks import PLAIN, lock_file, read_at
from cottonpalm.shell import Code

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cottonpalm.cli.store.held_store import HeldRun
    from cottonpalm.types import Outcome

MARK_EVERY_S: Final = 5.0
MARK_EVERY_ROWS: Final = 4096
RANGES_KEPT: Final = 5000  # with more ranges, the written rows are read from the file again
SCAN: Final = 4096


class JsonlOutput:
    """Writes one line per row, in the order of completion.

    Args:
        path: the absolute path.
        overwrite: replace a file that the run did not write.
        unpack: makes an outcome from a stored record.
    """

    notes: Sequence[str] = ()

    def __init__(self, path: str, *, overwrite: bool, unpack: Unpack) -> None:
        self._path, self._overwrite, self._unpack = path, overwrite, unpack
        self._fd = -1
        self._written = Ranges()
        self._unmarked = 0
        self._touched = False
        self._level = False  # the file has every outcome but those that are owed
        self._behind: dict[int, int] = {}  # hashes of the lines after the mark, each row's last

    # -- before the first row -----------------------------------------------------------------------------------------

    def begin(self, store: HeldRun) -> None:
        """Cut a torn tail, add what the store has and the file has not, drop lines that newer ones supersede."""
        self._store = store
        known = Mark.of(store.meta(), self._path)
        try:
            self._open(os.O_RDWR | os.O_CREAT)
            claim(self._fd, self._path)  # before we look at it: a run of another name may be writing it
            state = examine(self._path, known, self._overwrite)
        except BaseException:
            self.close()
            raise
        self._mark = known if known is not None and state == "whole" else Mark(self._path)
        if state != "whole":
            self._mark.keep(self._store)
            os.ftruncate(self._fd, 0)
        self._take_stock()
        if self._mark.moved:  # the lines do not tell which stored row is theirs
            self._touched = self._store.found_seq > self._mark.seq
        else:
            self._catch_up()
        self._behind.clear()
        if self._mark.doubles:
            self._drop_superseded()
        self._level = not self._touched
        self._set_mark()

    def _open(self, flags: int) -> None:
        try:
            self._fd = os.open(self._path, flags | PLAIN, 0o666)
        except OSError as error:
            raise os_problem("write", self._path, error) from error

    def _take_stock(self) -> None:
        """Read the lines after the mark; cut a torn last line."""
        marked = self._mark.size
        if self._mark.written is None:
            self._mark.size, self._mark.written = 0, []
        self._written = Ranges(self._mark.written)
        size = self._mark.size
        for line in self._lines_from(size):
            index = _index(line)
            if index is None:
                break
            size += len(line)
            if self._mark.moved:
                continue
            if size > marked:
                self._behind[index] = hash(line)
            if not self._written.add(index):
                self._mark.doubles = True
        if size < os.fstat(self._fd).st_size:
            os.ftruncate(self._fd, size)
        os.lseek(self._fd, size, os.SEEK_SET)
        self._mark.size = size

    def _lines_from(self, at: int) -> Iterator[bytes]:
        with Path(self._path).open("rb", buffering=1 << 18) as file:
            file.seek(at)
            yield from file

    def _catch_up(self) -> None:
        """Append the outcomes that became durable, but whose lines did not get here."""
        seq, after = self._mark.seq, -1
        if self._store.found_seq <= seq:
            return
        while page := self._store.newer(seq, after, SCAN):
            # number 0: stored before there were numbers, when a row with a line was done
            newer = [slot for slot, number in page if number or slot not in self._written]
            self._append_stored([slot for slot in newer if slot not in self._store.owed])
            after = page[-1][0]

    def _append_stored(self, slots: Sequence[int]) -> None:
        """Append the outcomes of these rows as the store has them, but those that stand there already."""
        for first in range(0, len(slots), PAGE):
            for slot, record in sorted(self._store.read(slots[first : first + PAGE]).items()):
                line = line_of(self._unpack(record, slot))
                if self._behind.get(slot) != hash(line):
                    self._note_doubled(slot)
                    self._append(line, slot)

    def _note_doubled(self, slot: int) -> None:
        """If the row has a line, let the store know before it gets another."""
        if slot in self._written and not self._mark.doubles:
            self._mark.doubles = True
            self._set_mark()

    # -- during the run -----------------------------------------------------------------------------------------------

    def write(self, outcome: Outcome, slot: int) -> None:
        """Append one line. If a crash could make a repair necessary, note this in the store first."""
        self._note_doubled(slot)
        if self._mark.layout if self._mark.moved else slot != outcome.index:
            self._mark.moved, self._mark.layout = True, ""  # of no layout, until it is written anew
            self._set_mark()
        self._append(line_of(outcome), slot)
        self._store.owed.settle(slot)
        self._touched = True
        if self._unmarked == 1 and not self._mark.head:
            self._set_mark()  # from now on we recognise the file as ours
        elif self._unmarked >= MARK_EVERY_ROWS or clock.now() >= self._mark_due_s:
            self._set_mark()

    def _append(self, line: bytes, slot: int) -> None:
        if self._is_cut() and not self._mark.replacing:
            self._mark.replacing = True  # `finish` writes it anew, or the next run does
            self._mark.keep(self._store)
        try:
            write_all(self._fd, line)
        except OSError as error:
            os.ftruncate(self._fd, self._mark.size)  # remove a half-written line
            raise os_problem("write", self._path, error, Code.STOPPED) from error
        self._mark.size += len(line)
        self._written.add(slot)
        self._unmarked += 1

    def _set_mark(self) -> None:
        os.fsync(self._fd)
        self._mark.recognise(self._fd)
        if self._level:
            self._mark.seq = self._store.owed.whole
        self._mark.written = self._written.pairs() if len(self._written) <= RANGES_KEPT else None
        self._mark.keep(self._store)
        self._unmarked = 0
        self._mark_due_s = clock.now() + MARK_EVERY_S

    # -- after the last row -------------------------------------------------------------------------------------------

    def finish(self, slots: Slots, *, complete: bool) -> None:
        """Leave exactly one line for each row of the input that has an outcome.

        Args:
            slots: the input's rows.
            complete: True: the input was read to its end, so later rows no longer belong to it.

        Raises:
            Problem: it cannot be written, or another file stands in its place; with exit code 4.
        """
        lost = self._is_lost()
        straight, seq = is_straight(slots), self._store.last_seq()
        left = self._store.owed.up_to(seq)  # stored, and not handed out
        if complete and lost:
            self._rewrite(slots, layout_of(slots), straight=straight)
        elif self._mark.moved or not straight:
            layout = layout_of(slots)
            if self._touched or left or layout != self._mark.layout:
                self._rewrite(slots, layout, straight=straight)
        elif complete and self._written.end > len(slots):
            self._rewrite(slots, layout_of(slots), straight=True)
        else:
            self._append_stored(left)
            if self._mark.doubles and not lost:
                self._drop_superseded()
        self._level = True
        for slot in left:
            self._store.owed.settle(slot)
        self._set_mark()

    def _is_cut(self) -> bool:
        """Whether somebody made the file shorter since we wrote there: our next line would stand behind zeros."""
        return os.fstat(self._fd).st_size < self._mark.size

    def _is_lost(self) -> bool:
        """Whether the file was moved away, or cut, while we wrote: lines of ours are not found there any more.

        Raises:
            Problem: somebody put another file in its place, which is not ours to replace.
        """
        if self._is_cut() or not os.path.lexists(self._path):
            return True
        self._mark.recognise(self._fd)
        try:
            state = examine(self._path, self._mark, self._overwrite)
        except Problem as foreign:
            raise Problem(str(foreign), Code.STOPPED) from None
        if not self._mark.size:
            return False
        return state != "whole" or read_at(self._fd, len(OURS), 0) != OURS

    def _rewrite(self, slots: Slots, layout: str, *, straight: bool) -> None:
        self._written = Ranges()

        def lines() -> Iterator[bytes]:
            for outcome in records(self._store, self._unpack, slots):
                self._written.add(slots.of(outcome.index))
                yield line_of(outcome)

        self._replace(lines())
        self._mark.moved, self._mark.layout = not straight, layout

    def _drop_superseded(self) -> None:
        """Keep only the last line of each row. Two readings: which rows have several lines, and where the last is."""
        seen, doubled, last = Ranges(), set[int](), dict[int, int]()
        for index, _, _ in self._numbered():
            if not seen.add(index):
                doubled.add(index)
        for index, at, _ in self._numbered():
            if index in doubled:
                last[index] = at
        self._replace(line for index, at, line in self._numbered() if last.get(index, at) == at)

    def _numbered(self) -> Iterator[tuple[int, int, bytes]]:
        at = 0
        for line in self._lines_from(0):
            if (index := _index(line)) is not None:
                yield index, at, line
            at += len(line)

    def _replace(self, lines: Iterator[bytes]) -> None:
        self._mark.replacing = True
        self._mark.keep(self._store)
        size = 0
        with replacing(self._path) as file:
            for line in lines:
                size += file.write(line)
        os.close(self._fd)
        self._open(os.O_RDWR)
        lock_file(self._fd)
        os.lseek(self._fd, size, os.SEEK_SET)
        self._mark.size, self._mark.replacing, self._mark.doubles = size, False, False
        self._set_mark()

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _index(line: bytes) -> int | None:
    """Return the row's number in a line; None if the line is torn or not ours."""
    if not line.endswith(b"\n"):
        return None
    try:
        fields: Any = orjson.loads(line)
    except ValueError:
        fields = _exactly(line)
    index = fields.get("index") if isinstance(fields, dict) else None
    return index if isinstance(index, int) else None


def _exactly(line: bytes) -> Any:
    """Read what `orjson` refuses, and `dumped` writes all the same: half a pair of surrogates."""
    try:
        return json.loads(line)
    except ValueError:
        return None
