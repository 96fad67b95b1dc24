"""A store that lives as long as its object. It keeps the same promises as the durable store, but has no file."""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from cottonpalm import clock
from cottonpalm.errors import RunBusy, StoreError
from cottonpalm.protocols import RunInfo, RunStore, Slot, Spent, StoredRow, StoredRows
from cottonpalm.stores.opening import busy_here, renews

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from collections.abc import Set as AbstractSet

    from cottonpalm.providers.batches.stages import Batch, Book
    from cottonpalm.stores.sqlite.unfiled import Unfiled

STEPS = 10_000  # so many steps of spending are kept: more than an hour has


class _Run:
    """What the store keeps of one run."""

    def __init__(self) -> None:
        self.created = clock.wall()
        self.fingerprint: dict[str, Any] | None = None
        self.rows: dict[int, StoredRow] = {}
        self.slots_of: dict[bytes, list[int]] = {}
        self.seqs: dict[int, int] = {}  # slot -> number of its outcome
        self.seq = 0
        self.cost_pico = 0
        self.meta: dict[str, Any] = {}
        self.spent: Spent | None = None
        self.batches: Unfiled | None = None
        self.since: float | None = None  # wall-clock time of opening; None: nobody works on it

    def put(self, row: StoredRow) -> None:
        old = self.rows.get(row.slot)
        if old is not None and old.key != row.key:
            self.slots_of[old.key].remove(row.slot)
        if old is None or old.key != row.key:
            self.slots_of.setdefault(row.key, []).append(row.slot)
        self.rows[row.slot] = row
        self.seq += 1
        self.seqs[row.slot] = self.seq
        self.cost_pico += row.cost_pico

    def check_none_out(self, name: str) -> None:
        if self.batches is not None:
            self.batches.check_none_out(name)

    def info(self, name: str) -> RunInfo:
        status = [row.status for row in self.rows.values()]
        holder = None if self.since is None else f"this process (pid {os.getpid()})"
        failed = status.count(2) + status.count(3)
        spent = self.spent or Spent("")
        cost = max(self.cost_pico, spent.reported)  # also of answers whose rows are not done
        counts = (status.count(1), failed, status.count(2), cost)
        uncertain = spent.uncertain
        return RunInfo(name, self.created, *counts, dict(self.meta), holder, uncertain)


class MemoryStore:
    """A store of runs in memory. `write` takes effect at once, and calls `done` before it returns."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return "memory:"

    def open_run(self, name: str, fingerprint: dict[str, Any] | None, *, fresh: bool = False) -> RunStore:
        """See `protocols.Store`."""
        with self._lock:
            run = self._runs.get(name)
            if run is not None and run.since is not None:
                raise RunBusy(busy_here(name, run.since))
            if created := run is None:
                run = self._runs[name] = _Run()
            if renews(name, run.fingerprint, fingerprint, fresh=fresh):
                run.fingerprint = fingerprint
            if fresh:
                run.check_none_out(name)
                run = self._runs[name] = _Run()
                run.fingerprint = fingerprint
            run.since = clock.wall()
            return MemoryRunStore(name, run, self._lock, created=created)

    def runs(self) -> list[RunInfo]:
        """See `protocols.Store`."""
        with self._lock:
            return [run.info(name) for name, run in self._runs.items()]

    def look(self, name: str) -> StoredRows | None:
        """See `protocols.Store`."""
        with self._lock:
            run = self._runs.get(name)
            return None if run is None else MemoryRows(run, self._lock)

    def remove(self, name: str) -> None:
        """See `protocols.Store`."""
        with self._lock:
            run = self._runs.get(name)
            if run is not None and run.since is not None:
                raise RunBusy(busy_here(name, run.since))
            if run is not None:
                run.check_none_out(name)
            self._runs.pop(name, None)

    def batches(self, name: str) -> list[Batch]:
        """See `SqlStore.batches`."""
        with self._lock:
            run = self._runs.get(name)
            return [] if run is None or run.batches is None else run.batches.book().batches()

    def close(self) -> None:
        """Do nothing: runs can be opened again."""


class MemoryRows:
    """The rows of a run as they are now. See `protocols.StoredRows`."""

    def __init__(self, run: _Run, lock: threading.RLock) -> None:
        self._run, self._lock = run, lock

    def scan(self, after: int, limit: int) -> list[Slot]:
        """See `protocols.StoredRows`."""
        with self._lock:
            slots = sorted(slot for slot in self._run.rows if slot > after)[:limit]
            return [self._slot(slot) for slot in slots]

    def read(self, slots: Sequence[int]) -> dict[int, bytes]:
        """See `protocols.StoredRows`."""
        with self._lock:
            return {slot: self._run.rows[slot].record for slot in slots if slot in self._run.rows}

    def _slot(self, slot: int) -> Slot:
        return Slot(*self._run.rows[slot][:4])


class MemoryRunStore(MemoryRows):
    """One run of a `MemoryStore`."""

    def __init__(self, name: str, run: _Run, lock: threading.RLock, *, created: bool) -> None:
        super().__init__(run, lock)
        self.name, self.created = name, created
        self._finish = weakref.finalize(self, _give_back, run)

    def write(
        self,
        rows: Sequence[StoredRow],
        done: Callable[[BaseException | None], None],
        spent: Spent | None = None,
    ) -> None:
        """See `protocols.RunStore`; durable as far as memory is, so `done` is called at once."""
        with self._lock:
            if not self._finish.alive:
                raise StoreError(f"run {self.name!r} is closed")
            for row in rows:
                self._run.put(row)
            if spent is not None:
                now = clock.wall()
                steps = [(min(at, now), pico) for at, pico in (*self.spent().steps, *spent.steps)]
                self._run.spent = spent._replace(steps=tuple(steps[-STEPS:]))
        done(None)

    def spent(self) -> Spent:
        """See `protocols.RunStore`."""
        with self._lock:
            cost = self._run.cost_pico
            return self._run.spent or Spent(uuid4().hex, cost, leased=cost)

    def same_rows(
        self, first: int, keys: Sequence[bytes], contents: Sequence[bytes], statuses: AbstractSet[int]
    ) -> bool:
        """See `protocols.ComparesBlocks`."""
        with self._lock:
            rows = [self._run.rows.get(first + offset) for offset in range(len(keys))]
        return all(
            row is not None and row.key == key and row.content == content and row.status in statuses
            for row, key, content in zip(rows, keys, contents, strict=True)
        )

    def find(self, key: bytes) -> list[Slot]:
        """See `protocols.RunStore`."""
        with self._lock:
            return [self._slot(slot) for slot in sorted(self._run.slots_of.get(key, ()))]

    def counts(self) -> dict[int, int]:
        """See `protocols.RunStore`."""
        with self._lock:
            status = [row.status for row in self._run.rows.values()]
            return {kind: status.count(kind) for kind in sorted(set(status))}

    def last_seq(self) -> int:
        """See `protocols.NumbersOutcomes`."""
        with self._lock:
            return self._run.seq

    def newer(self, seq: int, after: int, limit: int) -> list[tuple[int, int]]:
        """See `protocols.NumbersOutcomes`."""
        with self._lock:
            seqs = self._run.seqs
            return [(slot, seqs[slot]) for slot in sorted(seqs) if slot > after and seqs[slot] > seq][:limit]

    def last_slot(self) -> int:
        """See `protocols.RunStore`."""
        with self._lock:
            return max(self._run.rows, default=-1)

    def meta(self) -> dict[str, Any]:
        """See `protocols.RunStore`."""
        with self._lock:
            return dict(self._run.meta)

    def set_meta(self, **values: Any) -> None:
        """See `protocols.RunStore`."""
        with self._lock:
            self._run.meta.update(values)

    def book(self) -> Book:
        """See `stages.KeepsBatches`."""
        with self._lock:
            if self._run.batches is None:
                from cottonpalm.stores.sqlite.unfiled import Unfiled  # noqa: PLC0415 - few runs have batches

                self._run.batches = Unfiled()
            return self._run.batches.book()

    def close(self) -> None:
        """See `protocols.RunStore`."""
        with self._lock:
            self._finish()


def _give_back(run: _Run) -> None:
    run.since = None
