"""The outputs. The store holds all results, so an output can always be repaired from the store."""

from __future__ import annotations

import os
import zlib
from array import array
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, Protocol

from cottonpalm.cli.problems import os_problem
from cottonpalm.cli.writers.lines import line_of
from cottonpalm.shell import Code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cottonpalm.cli.store.held_store import HeldRun
    from cottonpalm.protocols import RunStore
    from cottonpalm.run import Run
    from cottonpalm.types import Outcome

Unpack = Callable[[bytes, int], "Outcome"]
PAGE: Final = 512  # records that are read from the store in one go


class Output(Protocol):
    """A place for results. `begin` and `finish` frame the run; every outcome goes through `write`.

    What `write` has taken is settled in the run's `owed`: what is not owed is in the file, or will be by `finish`.
    """

    def begin(self, store: HeldRun) -> None:
        """Put the place in order before the first row; the run's lease is held. What is owed comes through `write`."""

    def write(self, outcome: Outcome, slot: int) -> None:
        """Take one outcome, in any order."""

    def finish(self, slots: Slots, *, complete: bool) -> None:
        """Bring the output up to date with the store."""

    @property
    def notes(self) -> Sequence[str]:
        """What the user should know about what was written."""

    def close(self) -> None:
        """Close the files."""


class Slots(Protocol):
    """Says which stored row belongs to which row of the input."""

    def __len__(self) -> int:
        """How many rows of the input were read so far."""

    def of(self, index: int) -> int:
        """The slot of one row."""


class RunSlots:
    """The slots of a run that are known so far."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __len__(self) -> int:
        return self._run.rows_read

    def of(self, index: int) -> int:
        """The slot of one row."""
        return self._run.slot(index)

    def marked(self, last: int) -> bytearray | None:
        """Mark with 1 the slots up to `last` that belong to the input; None: all of them, in order."""
        if last < len(self) and is_straight(self):
            return None
        found = bytearray(last + 1)
        for index in range(len(self)):
            if (slot := self.of(index)) <= last:
                found[slot] = 1
        return found


class AllSlots:
    """The rows of an input that was read in part, and behind them what an earlier run did beyond them."""

    def __init__(self, slots: Slots, store: RunStore) -> None:
        straight = straight_of(slots)
        self._slots, here = slots, {slots.of(index) for index in range(straight, len(slots))}
        self._others, after = array("q"), len(slots) - 1  # an edited row has left its old place before that
        while page := store.scan(after, PAGE):
            after = page[-1].slot
            self._others.extend(row.slot for row in page if row.slot not in here)

    def __len__(self) -> int:
        return len(self._slots) + len(self._others)

    def of(self, index: int) -> int:
        """The slot of one row."""
        known = len(self._slots)
        return self._slots.of(index) if index < known else self._others[index - known]


def is_straight(slots: Slots) -> bool:
    """Whether no row has moved since the first run, so that each slot is the row's position."""
    return straight_of(slots) == len(slots)


def straight_of(slots: Slots) -> int:
    """Return how many rows from the start have their position as slot."""
    return next((index for index in range(len(slots)) if slots.of(index) != index), len(slots))


def records(store: RunStore, unpack: Unpack, slots: Slots) -> Iterator[Outcome]:
    """Yield the stored outcomes of the input's rows, in input order and with its numbers; leave the others out."""
    for first in range(0, len(slots), PAGE):
        page = range(first, min(first + PAGE, len(slots)))
        found = store.read([slots.of(index) for index in page])
        for index in page:
            if (record := found.get(slots.of(index))) is not None:
                yield unpack(record, index)


def layout_of(slots: Slots) -> str:
    """Return a short name for `these slots in this order`."""
    crc = 0
    for first in range(0, len(slots), PAGE):
        page = range(first, min(first + PAGE, len(slots)))
        crc = zlib.crc32(array("q", map(slots.of, page)).tobytes(), crc)
    return f"{len(slots)}:{crc:08x}"


class StreamOutput:
    """Writes every row of the input once, as JSON lines, to standard output or a pipe."""

    notes: Sequence[str] = ()

    def __init__(self, fd: int, name: str) -> None:
        self._fd, self._name = fd, name

    def begin(self, store: HeldRun) -> None:
        """Do nothing: there is nothing to repair."""
        self._store = store

    def write(self, outcome: Outcome, slot: int) -> None:
        """Write the whole line, or raise."""
        try:
            write_all(self._fd, line_of(outcome))
        except OSError as error:
            raise os_problem("write to", self._name, error, Code.STOPPED) from error
        self._store.owed.settle(slot)

    def finish(self, slots: Slots, *, complete: bool) -> None:
        """Do nothing, since everything is written already."""

    def close(self) -> None:
        """Leave standard output open for others."""
        if self._fd > 2:
            os.close(self._fd)


def write_all(fd: int, data: bytes) -> None:
    """Write every byte, since the kernel may accept only a part at a time."""
    while data:
        data = data[os.write(fd, data) :]
