"""A store whose run stays open, with its lease, until the output is up to date too."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from bisect import bisect_right
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from cottonpalm.cli.problems import Problem
from cottonpalm.cli.store.owed import Owed
from cottonpalm.errors import StoreError
from cottonpalm.protocols import FAILED, RETRYABLE
from cottonpalm.providers.batches.stages import KeepsBatches
from cottonpalm.store_extras import (
    ComparesBlocks,
    KeepsLimits,
    NumbersOutcomes,
    Orders,
    SharesLimits,
    TakesOrders,
)
from cottonpalm.stores import database_of, open_store, shown
from cottonpalm.stores.sql.database import CannotWrite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from cottonpalm.protocols import RunInfo, RunStore, Slot, Spent, Store, StoredRow, StoredRows
    from cottonpalm.providers.batches.stages import Batch, Book
    from cottonpalm.types import Known


@runtime_checkable
class ShowsBatches(Protocol):
    """A store that keeps batches."""

    def batches(self, name: str) -> list[Batch]:
        """Of a run, oldest first."""


class HeldRun:
    """A run of the store that outlives the engine's `close`, and knows which outcomes the output does not have yet.

    Args:
        run: the real run.
        again: show rows that failed for good as retryable, so that they are done again.

    Attributes:
        found_seq: the number of the last outcome before this process.
        owed: what this process has stored and the output does not have yet.
    """

    def __init__(self, run: RunStore, *, again: bool) -> None:
        self._run, self._again = run, again
        self.name, self.created = run.name, run.created
        self.found_seq = self.last_seq()
        self.owed = Owed(self.found_seq)
        self._numbering = threading.Lock()

    def write(
        self,
        rows: Sequence[StoredRow],
        done: Callable[[BaseException | None], None],
        spent: Spent | None = None,
    ) -> None:
        """See `RunStore`, as for all that follow."""
        with self._numbering:  # `owed` counts as the store does
            self.owed.add(row.slot for row in rows)
            self._run.write(rows, done, spent)

    def spent(self) -> Spent:
        """What the run has spent so far."""
        return self._run.spent()

    def scan(self, after: int, limit: int) -> list[Slot]:
        """Stored rows above a slot."""
        return self._seen(self._run.scan(after, limit))

    def find(self, key: bytes) -> list[Slot]:
        """Stored rows with a key."""
        return self._seen(self._run.find(key))

    def _seen(self, slots: list[Slot]) -> list[Slot]:
        if not self._again:
            return slots
        return [slot._replace(status=RETRYABLE) if slot.status == FAILED else slot for slot in slots]

    def read(self, slots: Sequence[int]) -> dict[int, bytes]:
        """Records."""
        return self._run.read(slots)

    def counts(self) -> dict[int, int]:
        """Rows per status."""
        return self._run.counts()

    def last_seq(self) -> int:
        """See `NumbersOutcomes`."""
        return self._numbers.last_seq()

    def newer(self, seq: int, after: int, limit: int) -> list[tuple[int, int]]:
        """See `NumbersOutcomes`."""
        return self._numbers.newer(seq, after, limit)

    @property
    def _numbers(self) -> NumbersOutcomes:
        if not isinstance(self._run, NumbersOutcomes):
            raise StoreError("this kind of store numbers no outcomes: the command line cannot write from it")
        return self._run

    def last_slot(self) -> int:
        """The highest slot in use, or -1."""
        return self._run.last_slot()

    def same_rows(
        self, first: int, keys: Sequence[bytes], contents: Sequence[bytes], statuses: AbstractSet[int]
    ) -> bool:
        """See `ComparesBlocks`. False (look at each row) is always right."""
        if self._again or not isinstance(self._run, ComparesBlocks):
            return False
        return self._run.same_rows(first, keys, contents, statuses)

    def meta(self) -> dict[str, Any]:
        """The run's own facts."""
        return self._run.meta()

    def set_meta(self, **values: Any) -> None:
        """Merge these values into the run's own facts."""
        self._run.set_meta(**values)

    def close(self) -> None:
        """Do nothing yet, since the output must still be finished. `HeldStore.release` closes the run."""


class SharingHeldRun(HeldRun):
    """A held run in a file through which processes share limits, and that keeps batches."""

    def __init__(self, run: RunStore, place: tuple[Any, int], *, again: bool) -> None:
        super().__init__(run, again=again)
        self._place = place

    def book(self) -> Book:
        """See `KeepsBatches`."""
        if not isinstance(self._run, KeepsBatches):
            raise Problem("this store keeps no batches: leave --mode out")
        return self._run.book()

    def place(self) -> tuple[Any, int]:
        """See `SharesLimits`."""
        return self._place

    def orders(self) -> Orders:
        """See `TakesOrders`."""
        return self._run.orders() if isinstance(self._run, TakesOrders) else Orders()

    def show(self, said: bytes) -> None:
        """See `TakesOrders`."""
        if isinstance(self._run, TakesOrders):
            self._run.show(said)


class HeldStore:
    """Wraps a store for the only run of a command.

    Args:
        store: the real store.
        url: how the user named it.
        fresh: forget what the run holds when it is opened.
        again: also do rows again that failed for good.

    Attributes:
        run: the run, once the processor has opened it.
    """

    def __init__(self, store: Store, url: str, *, fresh: bool = False, again: bool = False) -> None:
        self._store, self._url, self._fresh, self._again = store, url, fresh, again
        self._open: RunStore | None = None
        self._closed = False
        self.run: HeldRun | None = None

    def __repr__(self) -> str:
        return self._url

    def open_run(self, name: str, fingerprint: dict[str, Any] | None, *, fresh: bool = False) -> HeldRun:
        """Take the lease; see `Store.open_run`."""
        self._open = self._store.open_run(name, fingerprint, fresh=fresh or self._fresh)
        if isinstance(self._open, SharesLimits):
            self.run = SharingHeldRun(self._open, self._open.place(), again=self._again)
        else:
            self.run = HeldRun(self._open, again=self._again)
        return self.run

    @property
    def kept(self) -> HeldRun:
        """The run, which the processor opens when it starts."""
        if self.run is None:
            raise StoreError("the run was not opened")
        return self.run

    def begin_anew(self) -> None:
        """Forget what the run holds when it is opened next."""
        self._fresh = True

    def runs(self) -> list[RunInfo]:
        """All runs."""
        return self._store.runs()

    def known_limits(self) -> list[Known]:
        """What runs have found of the providers' limits; nothing where the store keeps none."""
        return self._store.known_limits() if isinstance(self._store, KeepsLimits) else []

    def batches(self, name: str) -> list[Batch]:
        """Of a run, oldest first; none where the store keeps none."""
        return self._store.batches(name) if isinstance(self._store, ShowsBatches) else []

    def info(self, name: str) -> RunInfo | None:
        """Return the run of this name, if there is one."""
        return next((info for info in self.runs() if info.name == name), None)

    def known(self, name: str) -> RunInfo:
        """Return the run of this name.

        Raises:
            Problem: there is no run of this name.
        """
        found = self.info(name)
        if found is None:
            names = ", ".join(info.name for info in self.runs()[-8:]) or "none"
            raise Problem(f"{self._url} has no run {name!r}; its runs: {names}")
        return found

    def look(self, name: str) -> StoredRows | None:
        """Return the rows of a run, even if another process works on it."""
        return self._store.look(name)

    def remove(self, name: str) -> None:
        """Forget a run."""
        self._store.remove(name)

    def close(self) -> None:
        """Do nothing, since the caller does not own this store; `release` closes it."""

    def release(self) -> None:
        """Close the run and the store; a second time does nothing."""
        run, self._open = self._open, None
        closed, self._closed = self._closed, True
        try:
            if run is not None:
                run.close()
        finally:
            if not closed:
                self._store.close()


class Ranges:
    """Row numbers as half-open ranges `[first, end)`, sorted and not touching."""

    def __init__(self, pairs: Iterable[Iterable[int]] = ()) -> None:
        self._firsts: list[int] = []
        self._ends: list[int] = []
        for first, end in pairs:
            self._firsts.append(first)
            self._ends.append(end)

    def pairs(self) -> list[list[int]]:
        """The ranges, as JSON can hold them."""
        return [[first, end] for first, end in zip(self._firsts, self._ends, strict=True)]

    def __len__(self) -> int:
        """How many ranges there are."""
        return len(self._firsts)

    def __contains__(self, number: object) -> bool:
        if not isinstance(number, int):
            return False
        at = bisect_right(self._firsts, number) - 1
        return at >= 0 and number < self._ends[at]

    @property
    def end(self) -> int:
        """One above the highest number; 0 when empty."""
        return self._ends[-1] if self._ends else 0

    def add(self, number: int) -> bool:
        """Add a number; return False if it was there already."""
        at = bisect_right(self._firsts, number)
        if at and number < self._ends[at - 1]:
            return False
        joins_left = at > 0 and self._ends[at - 1] == number
        joins_right = at < len(self._firsts) and self._firsts[at] == number + 1
        if joins_left and joins_right:
            self._ends[at - 1] = self._ends.pop(at)
            self._firsts.pop(at)
        elif joins_left:
            self._ends[at - 1] = number + 1
        elif joins_right:
            self._firsts[at] = number
        else:
            self._firsts.insert(at, number)
            self._ends.insert(at, number + 1)
        return True


@contextmanager
def existing_store(url: str, *, writes: bool = False) -> Iterator[HeldStore]:
    """Open a store that exists; a command that only looks must not create one.

    Where its file may not be written, whoever only looks (not `writes`) gets a copy of it.

    Raises:
        Problem: there is no such store.
    """
    database = database_of(url)
    if database is not None and not database.exists():
        raise Problem(
            f"there is no store {shown(url)} here; say --store FILE, or begin with `cottonpalm run`"
        )
    with ExitStack() as stack:
        try:
            opened = open_store(url)
        except CannotWrite:
            if writes or not os.access(str(database), os.R_OK):
                raise
            opened = open_store(stack.enter_context(_copied(Path(str(database)))))
        store = HeldStore(opened, url)
        stack.callback(store.release)
        yield store


@contextmanager
def _copied(path: Path) -> Iterator[Path]:
    """A copy of a store, with what its log holds, for as long as it is looked at."""
    with TemporaryDirectory(prefix="cottonpalm-") as folder:
        for end in ("", "-wal"):
            if (part := Path(f"{path}{end}")).is_file():
                shutil.copyfile(part, Path(folder) / part.name)
        print(f"note: {path} cannot be written: a copy of it is read", file=sys.stderr)  # noqa: T201
        yield Path(folder) / path.name
