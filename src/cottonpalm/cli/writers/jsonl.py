"""The JSONL output: it appends whole lines, and repairs from the store what a crash or an edit left behind.

The mark in the store covers the file up to some byte, and says which rows lie before it. So a run that goes on reads
only the lines after the mark.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from cottonpalm import clock
from cottonpalm.cli.files.output_file import Mark, examine, replacing
from cottonpalm.cli.held_store import Ranges
from cottonpalm.cli.problems import Code, os_problem
from cottonpalm.cli.writers.lines import line_of
from cottonpalm.cli.writers.output import PAGE, Slots, Unpack, is_straight, layout_of, records, write_all

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    from cottonpalm.protocols import RunStore
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

    # -- before the first row -----------------------------------------------------------------------------------------

    def begin(self, store: RunStore, coming: Container[int] = ()) -> None:
        """Cut a torn last line, drop lines that later ones replace, add rows that only the store has.

        Args:
            store: the run.
            coming: slots that this process has stored already; `write` will get their outcomes.
        """
        self._store = store
        known = Mark.of(store.meta(), self._path)
        state = examine(self._path, known, self._overwrite)
        self._mark = known if known is not None and state == "whole" else Mark(self._path)
        if state != "whole":
            self._mark.keep(self._store)
        self._open(os.O_RDWR | os.O_CREAT | (0 if state == "whole" else os.O_TRUNC))
        self._take_stock()
        if self._mark.doubles:
            self._drop_superseded()
        if not self._mark.moved:
            self._catch_up(coming)
        self._set_mark()

    def _open(self, flags: int) -> None:
        try:
            self._fd = os.open(self._path, flags, 0o600)
        except OSError as error:
            raise os_problem("write", self._path, error) from error

    def _take_stock(self) -> None:
        """Read the lines after the mark; cut a torn last line."""
        if self._mark.written is None:
            self._mark.size, self._mark.written = 0, []
        self._written = Ranges(self._mark.written)
        size = self._mark.size
        for line in self._lines_from(size):
            index = _index(line)
            if index is None:
                break
            size += len(line)
            if not self._mark.moved and not self._written.add(index):
                self._mark.doubles = True
        if size < os.fstat(self._fd).st_size:
            os.ftruncate(self._fd, size)
        os.lseek(self._fd, size, os.SEEK_SET)
        self._mark.size = size

    def _lines_from(self, at: int) -> Iterator[bytes]:
        with Path(self._path).open("rb", buffering=1 << 18) as file:
            file.seek(at)
            yield from file

    def _catch_up(self, coming: Container[int] = ()) -> None:
        """Append the rows that are durable in the store, but have no line in the file."""
        after = self._written.first_gap - 1
        while page := self._store.scan(after, SCAN):
            missing = [row.slot for row in page if row.slot not in self._written and row.slot not in coming]
            for first in range(0, len(missing), PAGE):
                part = missing[first : first + PAGE]
                found = self._store.read(part)
                for slot in part:
                    self._append(self._unpack(found[slot], slot), slot)
            after = page[-1].slot

    # -- during the run -----------------------------------------------------------------------------------------------

    def write(self, outcome: Outcome, slot: int) -> None:
        """Append one line. If a crash could make a repair necessary, note this in the store first."""
        doubled = slot in self._written and not self._mark.doubles
        moved = slot != outcome.index and not self._mark.moved
        if doubled or moved:
            self._mark.doubles |= doubled
            self._mark.moved |= moved
            self._set_mark()
        self._append(outcome, slot)
        self._touched = True
        if self._unmarked == 1 and not self._mark.head:
            self._set_mark()  # from now on we recognise the file as ours
        elif self._unmarked >= MARK_EVERY_ROWS or clock.now() >= self._mark_due_s:
            self._set_mark()

    def _append(self, outcome: Outcome, slot: int) -> None:
        line = line_of(outcome)
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
        """
        straight = is_straight(slots)
        if self._mark.moved or not straight:
            layout = layout_of(slots)
            if self._touched or layout != self._mark.layout:
                self._rewrite(slots, layout, straight=straight)
        elif complete and self._written.end > len(slots):
            self._rewrite(slots, layout_of(slots), straight=True)
        else:
            self._catch_up_to_date()
        self._set_mark()

    def _catch_up_to_date(self) -> None:
        self._catch_up()
        if self._mark.doubles:
            self._drop_superseded()

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
        return None
    index = fields.get("index") if isinstance(fields, dict) else None
    return index if isinstance(index, int) else None
