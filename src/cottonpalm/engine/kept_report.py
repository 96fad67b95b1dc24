"""Keeps a run's report with the run, so that any process can show it later."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from cottonpalm import clock
from cottonpalm.errors import StoreError
from cottonpalm.observers.kept import META, Kept, after, done, packed, read

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.observers.report import Report
    from cottonpalm.protocols import RunStore


class KeptReport:
    """This process's report of a run in the store. The reports of earlier processes are read once, at the start."""

    def __init__(self, store: RunStore, report: Callable[[], Report]) -> None:
        self._store, self._report = store, report
        self._began = clock.wall()
        self._before = store.meta().get(META)
        self._lock, self._over = threading.Lock(), False

    def current(self) -> dict[str, Any]:
        """The report as it would be kept now, while the run goes on."""
        return packed(after(self._before, self._now(None, over=False)))

    def _now(self, reason: str | None, *, over: bool) -> Kept:
        return Kept(self._report(), self._began, clock.wall(), reason, over)

    def write(self, *, reason: str | None = None, over: bool) -> None:
        """Store the report as it is now, unless this process did nothing. A store that fails is reported elsewhere.

        The last word is that the run is over, also where another thread keeps how it goes while it ends.
        """
        with self._lock:
            if over or not self._over:
                self._over = over
                self._write(self._now(reason, over=over))

    def _write(self, now: Kept) -> None:
        earlier = read(self._before)
        kept = done(earlier, now) if earlier is not None and not now.rows else after(self._before, now)
        if kept is not None:
            try:
                self._store.set_meta(**{META: packed(kept)})
            except StoreError:
                return
