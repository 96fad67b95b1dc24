"""Where the results go: derived from the store, so that it can always be put right from there."""

from __future__ import annotations

import csv
import io
import os
import re
import zlib
from array import array
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from cottonpalm.cli.files import Mark, examine, replacing
from cottonpalm.cli.lines import line_of, text_of
from cottonpalm.cli.problems import Code, Problem, os_problem
from cottonpalm.observers.words import told

if TYPE_CHECKING:
    from cottonpalm.model import Outcome
    from cottonpalm.protocols import RunStore
    from cottonpalm.run import Run

Unpack = Callable[[bytes, int], "Outcome"]
PAGE: Final = 512  # records read from the store in one go


class Output(Protocol):
    """A place for results. `begin` and `finish` frame the run; every outcome goes through `write`."""

    wants_stored: bool  # outcomes of earlier processes must come through `write` too

    def begin(self, store: RunStore, coming: Container[int] = ()) -> None:
        """Put the place in order before the first row; the run's lease is held. `coming`: slots `write` will bring."""

    def write(self, outcome: Outcome, slot: int) -> None:
        """Take one outcome, in any order."""

    def finish(self, slots: Slots, *, complete: bool) -> None:
        """Bring the place up to date with the store."""

    def close(self) -> None:
        """Let go of files."""


class Slots(Protocol):
    """Which stored row belongs to which row of the input."""

    def __len__(self) -> int:
        """Rows of the input read so far."""

    def of(self, index: int) -> int:
        """The slot of one row."""


class RunSlots:
    """The slots of a run, as they are known so far."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __len__(self) -> int:
        return self._run.rows_read

    def of(self, index: int) -> int:
        """The slot of one row."""
        return self._run.slot(index)

    def marked(self, last: int) -> bytearray | None:
        """Which of the slots up to `last` are the input's, 1 for each; None: all of them, in order."""
        if last < len(self) and is_straight(self):
            return None
        found = bytearray(last + 1)
        for index in range(len(self)):
            if (slot := self.of(index)) <= last:
                found[slot] = 1
        return found


def is_straight(slots: Slots) -> bool:
    """Whether no row was moved since the first run: its slot is its position."""
    return all(slots.of(index) == index for index in range(len(slots)))


def records(store: RunStore, unpack: Unpack, slots: Slots) -> Iterator[Outcome]:
    """The stored outcomes of the input's rows, in input order, numbered as the input is; the others are left out."""
    for first in range(0, len(slots), PAGE):
        page = range(first, min(first + PAGE, len(slots)))
        found = store.read([slots.of(index) for index in page])
        for index in page:
            if (record := found.get(slots.of(index))) is not None:
                yield unpack(record, index)


def layout_of(slots: Slots) -> str:
    """A short name for `these slots in this order`."""
    order = array("q", (slots.of(index) for index in range(len(slots))))
    return f"{len(slots)}:{zlib.crc32(order.tobytes()):08x}"


class StreamOutput:
    """Standard output, or a pipe: every row of the input, once, as JSON lines."""

    wants_stored = True

    def __init__(self, fd: int, name: str) -> None:
        self._fd, self._name = fd, name

    def begin(self, store: RunStore, coming: Container[int] = ()) -> None:
        """Nothing to put in order."""

    def write(self, outcome: Outcome, slot: int) -> None:  # noqa: ARG002 - the protocol's
        """Write the whole line, or raise."""
        try:
            write_all(self._fd, line_of(outcome))
        except OSError as error:
            raise os_problem("write to", self._name, error, Code.STOPPED) from error

    def finish(self, slots: Slots, *, complete: bool) -> None:
        """All is written already."""

    def close(self) -> None:
        """Standard output stays open for others."""
        if self._fd > 2:
            os.close(self._fd)


def write_all(fd: int, data: bytes) -> None:
    """Write every byte: the kernel may take less than it is given."""
    while data:
        data = data[os.write(fd, data) :]


class CsvOutput:
    """The input's columns and output, status, error and cost_usd, written in input order when the run ends.

    Args:
        path: absolute.
        overwrite: replace a file that the run did not write.
        columns: the input's columns, asked at the end.
        unpack: makes an outcome of a stored record.
        fields: of an answer that is an object: a column each, in place of `output`.
    """

    wants_stored = False

    def __init__(
        self,
        path: str,
        *,
        overwrite: bool,
        columns: Callable[[], Sequence[str]],
        unpack: Unpack,
        fields: Sequence[str] | None = None,
    ) -> None:
        self._fields = fields
        self._path, self._overwrite, self._columns, self._unpack = path, overwrite, columns, unpack
        self._changed = False

    def begin(self, store: RunStore, coming: Container[int] = ()) -> None:  # noqa: ARG002 - the store has them too
        """Refuse a foreign file."""
        self._store = store
        self._mark = Mark.of(store.meta(), self._path) or Mark(self._path)
        known = Mark.of(store.meta(), self._path)
        self._changed = examine(self._path, known, self._overwrite) != "whole"

    def write(self, outcome: Outcome, slot: int) -> None:  # noqa: ARG002 - the protocol's
        """The store has it already."""
        self._changed = True

    def finish(self, slots: Slots, *, complete: bool) -> None:  # noqa: ARG002 - as far as the input was read
        """Write the file anew, if anything differs."""
        layout = layout_of(slots)
        if not self._changed and layout == self._mark.layout:
            return
        self._mark.replacing = True
        self._mark.keep(self._store)
        with replacing(self._path) as file:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
            self._rows(csv.writer(text, lineterminator="\n"), slots)
            text.flush()
            self._mark.size = file.tell()
            self._mark.recognise(file.fileno())
            text.detach()
        self._mark.replacing, self._mark.layout = False, layout
        self._mark.keep(self._store)

    def _rows(self, table: Any, slots: Slots) -> None:
        columns = list(self._columns())
        table.writerow([cell(name) for name in [*columns, *added_columns(columns, self._fields)]])
        for outcome in records(self._store, self._unpack, slots):
            row = outcome.input if isinstance(outcome.input, Mapping) else {}
            table.writerow([*(cell(row.get(column)) for column in columns), *_results(outcome, self._fields)])

    def close(self) -> None:
        """Nothing is open between two writes."""


def _results(outcome: Outcome, fields: Sequence[str] | None) -> list[str]:
    error = outcome.error
    reason = "" if error is None else f"{error.kind}: {told(error)}"
    cost = outcome.cost_usd
    answer = outcome.output if isinstance(outcome.output, Mapping) else {}
    return [
        *([cell(outcome.output)] if fields is None else [cell(answer.get(field)) for field in fields]),
        outcome.status,
        cell(reason),
        "" if cost is None else f"{cost:.12f}".rstrip("0").rstrip("."),
    ]


def added_columns(columns: Sequence[str], fields: Sequence[str] | None = None) -> list[str]:
    """The names of the result columns; one that the input or an answer has already gets a prefix."""
    taken, names = set(columns), list[str]()
    for name in [*(["output"] if fields is None else fields), "status", "error", "cost_usd"]:
        names.append(f"cottonpalm_{name}" if name in taken else name)
        taken.add(names[-1])
    return names


RISKY: Final = ("=", "+", "-", "@", "\t", "\r", "\n", *"\uff1d\uff0b\uff0d\uff20")
NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def cell(value: Any) -> str:
    """A value as a cell that no spreadsheet takes for a formula.

    Text that begins like one gets a leading apostrophe, plain numbers do not; what is no text is JSON. The JSONL output
    holds everything as it is.
    """
    text = text_of(value)
    if text.startswith(RISKY) and NUMBER.fullmatch(text) is None:
        return f"'{text}"
    return text


def refuse_foreign(path: str, meta: Mapping[str, Any], *, overwrite: bool) -> None:
    """The same check as `begin`'s, before anything is started.

    Raises:
        Problem: a file stands there that the run did not write.
    """
    examine(path, Mark.of(meta, path), overwrite)


__all__ = ["CsvOutput", "Output", "Problem", "Slots", "StreamOutput"]
