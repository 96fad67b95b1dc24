"""The exact cache: equal rows are asked once, and a row equal to one in flight waits for that one call."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from cottonpalm import clock
from cottonpalm.engine.gates.entries import AnswerShelf, KnownAnswer, answer_of
from cottonpalm.engine.gates.singleflight import SingleFlight
from cottonpalm.events import CacheHit
from cottonpalm.stats import CacheCounts
from cottonpalm.types import PARKED, Item, Outcome, Parked, Turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.engine.gates.disk import DiskTier
    from cottonpalm.events import Event
    from cottonpalm.protocols import Admitted, Later
    from cottonpalm.stores.sql.answers import Answers

_BESIDE: Final = 10  # times as many rows ask a question that failed once more
OPT_OUT: Final = "cottonpalm_cache"  # in a config's metadata: False leaves the row out


class CacheGate:
    """Hands out known answers, and parks a row while this run, another run or another process asks an equal one.

    Args:
        memory: the answers that all runs with the same `Cache` share.
        chain: the digest of everything besides the row that shapes an answer.
        unpark: puts a parked row back into the window.
        counts: where hits and misses are counted; None: counts of its own.
        shared: wait for equal rows of other runs too. It must be False for a run inside another row (it might wait
            for itself), a run that a slow reader of chunks can delay, and a run that blocks its caller's event loop.
        rounds: each question takes a round of batches, which may be hours.
        disk: the tier on disk, or None.
        tell: called with the event of each hit; None if nobody listens.
    """

    def __init__(
        self,
        memory: SharedCache,
        chain: bytes,
        unpark: Callable[[Item], None],
        *,
        counts: CacheCounts | None = None,
        shared: bool = True,
        rounds: bool = False,
        disk: DiskTier | None = None,
        tell: Callable[[Event], None] | None = None,
    ) -> None:
        self.counts = CacheCounts() if counts is None else counts
        memory.open(self.counts)
        self._memory, self._chain, self._unpark = memory, chain, unpark
        self._flights = memory.flights if shared else SingleFlight(memory.shelf)
        self._disk, self._tell = disk, tell
        self._rounds = rounds
        self._failures: Counter[bytes] = Counter()  # of a question, where each takes a round
        self._alone: set[int] = set()  # rows that are asked beside the one that asks their question, by index
        self._dated = memory.disk is not None or memory.shelf.ttl_s is not None
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()

    def admit(self, item: Item) -> Admitted | Later:
        """Return a cached answer, PARKED if an equal row is in flight, or None if this row must be asked."""
        if item.answer is not None:
            return self._hit(item, item.answer, "flight")
        if item.config is not None and _opted_out(item.config):
            return None
        if item.index in self._alone:
            self._alone.discard(item.index)
            self.counts.misses += 1
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
        """Keep a good answer and serve all rows that wait for it; after a failure the next waiting row asks."""
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
        for beside in self._flights.failed(key, self, self._more(key, outcome)):
            self._alone.add(beside.index)
            self.try_again(beside)

    def _more(self, key: bytes, outcome: Outcome | Parked) -> int:
        """How many rows ask beside the next one. Equal rows mostly fail alike; one in each round would take days."""
        if not self._rounds or not isinstance(outcome, Outcome) or outcome.status != "failed":
            return 0
        self._failures[key] += 1
        return int(_BESIDE ** self._failures[key]) - 1

    def close(self) -> None:
        """The run is over: stop waiting for all of its rows."""
        self._flights.leave(self)
        self._memory.close(self.counts)

    # -- how waiting rows are reached (see `singleflight.Waiting`)

    def serve(self, items: list[Item], answer: KnownAnswer) -> None:
        """Give these rows the answer that they waited for."""
        self._on_loop(partial(self._serve, items, answer))

    def try_again(self, item: Item) -> None:
        """Let this row in again, since nobody asks its question any more."""
        self._on_loop(partial(self._unpark, item))

    def _serve(self, items: list[Item], answer: KnownAnswer) -> None:
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

    def _hit(self, item: Item, answer: KnownAnswer, source: Literal["memory", "disk", "flight"]) -> Outcome:
        self.counts.hit(answer.usage, answer.cost_pico, in_flight=source == "flight")
        if self._tell is not None:
            self._tell(CacheHit(item.index, source, answer.usage, answer.cost_usd))
        return answer.for_row(item.index)

    # -- the tier on disk

    async def _on_disk(self, item: Item, key: bytes, disk: DiskTier) -> Admitted:
        """Return the answer on disk and serve all rows that wait for it; PARKED if another process asks."""
        try:
            found = await disk.ask(item.question)
        except BaseException:  # the row was cancelled meanwhile
            self._flights.failed(key)
            raise
        if found is Turn.ELSEWHERE:
            self._flights.wait(key, self, item)
            disk.watch(item.question, partial(self._heard, key))
            return PARKED
        if isinstance(found, KnownAnswer):
            self._flights.answered(key, found)
            return self._hit(item, found, "disk")
        item.asked = key
        self.counts.misses += 1
        return None

    def _heard(self, key: bytes, answer: KnownAnswer | None) -> None:
        """Take the answer of the other process; None: it gave up. The disk tier's thread calls this."""
        if answer is None:
            self._flights.failed(key)
            return
        self._flights.answered(key, answer)


def _opted_out(config: Any) -> bool:
    return (config.get("metadata") or {}).get(OPT_OUT) is False


class SharedCache:
    """The answers, and the questions being asked, that all runs with the same `Cache` share. Thread-safe.

    Args:
        max_entries: the most answers kept; the least recently used is dropped first.
        ttl_s: seconds after which an answer is asked for again; None for never.
        disk: the tier on disk, or None.

    Attributes:
        shelf: the answers.
        flights: the questions under way, of all runs that may wait for each other.
    """

    def __init__(self, max_entries: int, ttl_s: float | None = None, disk: Answers | None = None) -> None:
        self.shelf, self.disk = AnswerShelf(max_entries, ttl_s), disk
        self.flights = SingleFlight(self.shelf)
        self._runs: list[CacheCounts] = []  # counts of the runs under way
        self._hits = self._misses = 0  # sums over the runs that are over
        self._lock = threading.Lock()

    def open(self, counts: CacheCounts) -> None:
        """A run begins that keeps these counts."""
        with self._lock:
            self._runs.append(counts)

    def close(self, counts: CacheCounts) -> None:
        """The run with these counts is over."""
        with self._lock:
            if any(one is counts for one in self._runs):
                self._runs = [one for one in self._runs if one is not counts]
                self._hits += counts.hits
                self._misses += counts.misses

    @property
    def hits(self) -> int:
        """How many rows of all these runs the cache answered."""
        with self._lock:
            return self._hits + sum(counts.hits for counts in self._runs)

    @property
    def misses(self) -> int:
        """How many rows of all these runs had to be asked."""
        with self._lock:
            return self._misses + sum(counts.misses for counts in self._runs)

    def __len__(self) -> int:
        return len(self.shelf)

    def __contains__(self, key: bytes) -> bool:
        return key in self.shelf
