"""The exact cache: equal rows are answered once, and equal rows in flight wait for the one call."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from cottonpalm import clock
from cottonpalm.engine.gates.entries import Answer, Shelf, answer_of
from cottonpalm.engine.gates.singleflight import SingleFlight
from cottonpalm.events import CacheHit
from cottonpalm.stats import CacheCounts
from cottonpalm.types import PARKED, Item, Outcome, Parked, Turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.engine.gates.disk import DiskTier
    from cottonpalm.events import Event
    from cottonpalm.protocols import Admitted, Later
    from cottonpalm.stores.sqlite.answers import Answers

OPT_OUT: Final = "cottonpalm_cache"  # in a config's metadata: False leaves the row out


class CacheGate:
    """Hands out known answers, and parks a row while an equal one is asked, by whomever.

    Args:
        memory: what all runs with the same `Cache` share.
        chain: the digest of all that shapes an answer besides the row.
        unpark: puts a parked row back into the window.
        shared: wait for equal rows of other runs too. False for a run that must not: one inside another row, which
            might wait for itself; one that a reader of chunks can hold up; one whose caller's event loop stands still.
        disk: the tier on disk, or None.
        tell: told of each hit, or None where nobody listens.
    """

    def __init__(
        self,
        memory: SharedCache,
        chain: bytes,
        unpark: Callable[[Item], None],
        *,
        shared: bool = True,
        disk: DiskTier | None = None,
        tell: Callable[[Event], None] | None = None,
    ) -> None:
        self.counts = CacheCounts()
        memory.open(self.counts)
        self._memory, self._chain, self._unpark = memory, chain, unpark
        self._flights = memory.flights if shared else SingleFlight(memory.shelf)
        self._disk, self._tell = disk, tell
        self._dated = memory.disk is not None or memory.shelf.ttl_s is not None
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()

    def admit(self, item: Item) -> Admitted | Later:
        """A cached answer, PARKED behind an equal row in flight, or None: ask."""
        if item.answer is not None:
            return self._hit(item, item.answer, "flight")
        if item.config is not None and _opted_out(item.config):
            return None
        key = self._chain + item.question
        if (known := self._flights.ask(key, self, item)) is not None:
            return known if isinstance(known, Parked) else self._hit(item, known, "memory")
        if self._disk is not None:
            return self._on_disk(item, key, self._disk)
        item.asked = key
        self.counts.misses += 1
        return None

    def settle(self, item: Item, outcome: Outcome | Parked) -> None:
        """Keep a good answer for all who wait; after a failure the next one in line asks for itself."""
        if not (key := item.asked):
            return
        item.asked = b""
        if isinstance(outcome, Outcome) and outcome.status == "ok":
            answer = answer_of(outcome, clock.wall() if self._dated else 0.0)
            if self._disk is not None:
                self._disk.put(item.question, answer)
            self._flights.answered(key, answer)
            return
        if self._disk is not None:
            self._disk.release(item.question)
        self._flights.failed(key)

    def close(self) -> None:
        """The run is over: nobody of it waits any more."""
        self._flights.leave(self)
        self._memory.close(self.counts)

    # -- for those who wait (see `flights.Waiting`)

    def serve(self, items: list[Item], answer: Answer) -> None:
        """Here is what these rows waited for."""
        self._on_loop(partial(self._serve, items, answer))

    def try_again(self, item: Item) -> None:
        """Let this row in again: nobody asks its question any more."""
        self._on_loop(partial(self._unpark, item))

    def _serve(self, items: list[Item], answer: Answer) -> None:
        for item in items:
            item.answer = answer
            self._unpark(item)

    def _on_loop(self, function: Callable[[], None]) -> None:
        if threading.get_ident() == self._thread:
            function()
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: the run is over
            self._loop.call_soon_threadsafe(function)

    # -- hits

    def _hit(self, item: Item, answer: Answer, source: Literal["memory", "disk", "flight"]) -> Outcome:
        self.counts.hit(answer.usage, answer.cost_pico, in_flight=source == "flight")
        if self._tell is not None:
            self._tell(CacheHit(item.index, source, answer.usage, answer.cost_pico))
        return answer.for_row(item.index)

    # -- the tier on disk

    async def _on_disk(self, item: Item, key: bytes, disk: DiskTier) -> Admitted:
        """The answer there, for whoever waits for this row's as well; PARKED where another process asks."""
        try:
            found = await disk.ask(item.question)
        except BaseException:  # cancelled meanwhile
            self._flights.failed(key)
            raise
        if found is Turn.ELSEWHERE:
            self._flights.wait(key, self, item)
            disk.watch(item.question, partial(self._heard, key))
            return PARKED
        if isinstance(found, Answer):
            self._flights.answered(key, found)
            return self._hit(item, found, "disk")
        item.asked = key
        self.counts.misses += 1
        return None

    def _heard(self, key: bytes, answer: Answer | None) -> None:
        """The other process has answered, or given up. Called on the disk tier's thread."""
        if answer is None:
            self._flights.failed(key)
            return
        self._flights.answered(key, answer)


def _opted_out(config: Any) -> bool:
    return (config.get("metadata") or {}).get(OPT_OUT) is False


class SharedCache:
    """What all runs share that were given the same `Cache`: its answers, and the questions under way. Thread-safe.

    Args:
        max_entries: answers kept; the least recently used goes first.
        ttl_s: seconds after which an answer is asked for again; None for never.
        disk: the tier on disk, or None.

    Attributes:
        shelf: the answers.
        flights: the questions under way, of all runs that may wait for each other.
    """

    def __init__(self, max_entries: int, ttl_s: float | None = None, disk: Answers | None = None) -> None:
        self.shelf, self.disk = Shelf(max_entries, ttl_s), disk
        self.flights = SingleFlight(self.shelf)
        self._runs: list[CacheCounts] = []  # of those under way
        self._hits = self._misses = 0  # of those that are over
        self._lock = threading.Lock()

    def open(self, counts: CacheCounts) -> None:
        """A run begins, which keeps these counts."""
        with self._lock:
            self._runs.append(counts)

    def close(self, counts: CacheCounts) -> None:
        """The run is over."""
        with self._lock:
            if any(one is counts for one in self._runs):
                self._runs = [one for one in self._runs if one is not counts]
                self._hits += counts.hits
                self._misses += counts.misses

    @property
    def hits(self) -> int:
        """Rows of all these runs that were answered from it."""
        with self._lock:
            return self._hits + sum(counts.hits for counts in self._runs)

    @property
    def misses(self) -> int:
        """Rows of all these runs that had to be asked."""
        with self._lock:
            return self._misses + sum(counts.misses for counts in self._runs)

    def __len__(self) -> int:
        return len(self.shelf)

    def __contains__(self, key: bytes) -> bool:
        return key in self.shelf
