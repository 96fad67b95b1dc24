"""The exact cache: equal rows are answered once, and equal rows in flight wait for the one call."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cottonpalm.model import PARKED, Item, Outcome, Parked

if TYPE_CHECKING:
    from collections.abc import Callable

_IMMUTABLE = (str, bytes, int, float, bool, type(None))


class CacheMemory:
    """Answers by key, least recently used out first. Shared by all runs that were given the same `Cache`."""

    def __init__(self, max_entries: int) -> None:
        self.max_entries = max_entries
        self.hits = 0
        self.misses = 0
        self._entries: OrderedDict[bytes, Outcome] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> Outcome | None:
        """The stored answer, now the most recently used; None counts as a miss only when a call follows."""
        with self._lock:
            if (found := self._entries.get(key)) is not None:
                self._entries.move_to_end(key)
            return found

    def put(self, key: bytes, outcome: Outcome) -> None:
        """Keep an answer."""
        with self._lock:
            self._entries[key] = outcome
            self._entries.move_to_end(key)
            while len(self._entries) > self.max_entries:
                self._entries.popitem(last=False)


@dataclass(slots=True)
class _Flight:
    """A key being asked: by whom, and who waits for it."""

    leader: Item
    waiting: deque[Item] = field(default_factory=deque)


class CacheGate:
    """Hands out known answers and parks duplicates of a row in flight.

    Args:
        memory: where answers are kept.
        chain: the digest of all that shapes an answer besides the row.
        unpark: puts a parked row back into the window.
    """

    def __init__(self, memory: CacheMemory, chain: bytes, unpark: Callable[[Item], None]) -> None:
        self._memory, self._chain, self._unpark = memory, chain, unpark
        self._flights: dict[bytes, _Flight] = {}

    async def admit(self, item: Item) -> Outcome | Parked | None:
        """A cached answer, PARKED behind an equal row in flight, or None: ask."""
        key = self._key(item)
        if (known := item.answer or self._memory.get(key)) is not None:
            self._memory.hits += 1
            return _hit(item, known)
        flight = self._flights.get(key)
        if flight is None:
            self._flights[key] = _Flight(item)
        elif flight.leader is not item:
            flight.waiting.append(item)
            return PARKED
        self._memory.misses += 1
        return None

    def settle(self, item: Item, outcome: Outcome | Parked) -> None:
        """Keep a good answer for all who wait; after a failure the next one in line asks for itself."""
        key = self._key(item)
        flight = self._flights[key]
        if isinstance(outcome, Outcome) and outcome.status == "ok":
            del self._flights[key]
            kept = Outcome(-1, "ok", _own(outcome.output), model=outcome.model, truncated=outcome.truncated)
            self._memory.put(key, kept)
            for twin in flight.waiting:
                twin.answer = kept
                self._unpark(twin)
        elif flight.waiting:
            flight.leader = flight.waiting.popleft()
            self._unpark(flight.leader)
        else:
            del self._flights[key]

    def _key(self, item: Item) -> bytes:
        assert item.content is not None
        return self._chain + item.content


def _hit(item: Item, known: Outcome) -> Outcome:
    return Outcome(
        item.index,
        "ok",
        _own(known.output),
        cost_pico=0,
        cached=True,
        model=known.model,
        truncated=known.truncated,
    )


def _own(output: Any) -> Any:
    """A copy of its own for each row: what one reader changes must not show in another's answer."""
    if isinstance(output, _IMMUTABLE):
        return output
    try:
        return copy.deepcopy(output)
    except Exception:  # noqa: BLE001 - an output that cannot be copied is shared, as without a cache
        return output
