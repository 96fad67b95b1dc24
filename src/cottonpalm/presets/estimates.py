"""Money known only by estimates: what the last hour cost, and what rows under way may cost."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cottonpalm import clock
from cottonpalm.types import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.types import Item, Parked

HOUR_S: Final = 3600.0
TOTAL: Final = "total_cost"


@dataclass(eq=False, slots=True)
class _Waiting:
    """A row that waits for money."""

    dollars: float
    loop: asyncio.AbstractEventLoop
    turn: asyncio.Future[bool]  # its result: whether the row may go


class Hour:
    """The dollars spent in the last hour, and those reserved by rows under way. Thread-safe.

    The user may set `tracker["total_cost"]`, or another tracker: the difference counts as spent now, or as given back.

    Args:
        tracker: its `total_cost` gets what is spent.
        budget: dollars of any hour.
    """

    def __init__(self, tracker: dict[str, Any], budget: Callable[[], float]) -> None:
        self.tracker, self._budget = tracker, budget
        self._entries: deque[tuple[float, float]] = deque()  # (when, dollars)
        self._sum = 0.0  # of the entries
        self._counted = float(tracker[TOTAL])
        self._reserved = 0.0
        self._waiting: deque[_Waiting] = deque()
        self._lock = threading.Lock()

    def spent(self) -> float:
        """Dollars of the last hour."""
        with self._lock:
            return self._spent()

    def add(self, dollars: float) -> None:
        """So much was spent now."""
        with self._lock:
            self._see_tracker()
            self.tracker[TOTAL] = self._counted = self._counted + dollars
            self._enter(dollars)

    def free_after_s(self) -> float:
        """Seconds until no more than the budget is left in the hour."""
        with self._lock:
            left = self._spent()  # forgets what is too old
            for when, dollars in self._entries:
                left -= dollars
                if left <= self._budget():
                    return max(0.0, when + HOUR_S - clock.now())
            return 0.0

    # -- rows under way

    def reserve(self, dollars: float) -> bool:
        """Reserve dollars for a row if they fit and no row waits; if no row is under way, some money left is enough."""
        with self._lock:
            return not self._waiting and self._take(dollars)

    async def wait(self, dollars: float) -> bool:
        """Wait until the dollars are reserved; False: the hour's money is spent, and no row under way may free any."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(dollars, loop, loop.create_future())
        with self._lock:
            self._waiting.append(waiting)
        self._serve()
        try:
            return await waiting.turn
        except BaseException:
            self._leave(waiting)
            raise

    def settle(self, dollars: float) -> None:
        """Give back what was held for a row."""
        with self._lock:
            self._reserved = max(0.0, self._reserved - dollars)
        self._serve()

    def _leave(self, waiting: _Waiting) -> None:
        with self._lock:
            if queued := waiting in self._waiting:
                self._waiting.remove(waiting)
        turn = waiting.turn
        if not queued and not (turn.done() and not turn.cancelled() and not turn.result()):
            self.settle(waiting.dollars)  # the reservation was made just before the cancel

    def _serve(self) -> None:
        with self._lock:
            while self._waiting:
                first = self._waiting[0]
                goes = self._take(first.dollars)
                if not goes and self._reserved:
                    return
                self._waiting.popleft()
                first.loop.call_soon_threadsafe(_tell, first.turn, goes)

    def _take(self, dollars: float) -> bool:
        spent, budget = self._spent(), self._budget()
        if self._reserved and spent + self._reserved + dollars > budget:
            return False
        if spent > budget:
            return False
        self._reserved += max(dollars, 0.0)
        return True

    # -- the window

    def _spent(self) -> float:
        self._see_tracker()
        while self._entries and self._entries[0][0] <= clock.now() - HOUR_S:
            self._sum -= self._entries.popleft()[1]
        if not self._entries:
            self._sum = 0.0  # exactly 0, without rounding errors
        return self._sum

    def _see_tracker(self) -> None:
        moved = float(self.tracker.get(TOTAL, 0.0)) - self._counted
        self._counted += moved
        self._enter(moved)
        while moved < 0 and self._entries:  # money is given back: reduce the oldest entries first
            when, dollars = self._entries.popleft()
            self._sum -= dollars
            moved += dollars
            if moved > 0:
                self._sum += moved
                self._entries.appendleft((when, moved))

    def _enter(self, dollars: float) -> None:
        if dollars > 0:
            self._entries.append((clock.now(), dollars))
            self._sum += dollars


def _tell(turn: asyncio.Future[bool], goes: bool) -> None:
    if not turn.done():
        turn.set_result(goes)


class EstimateGate:
    """The innermost gate: it lets a row in only if there is money for the row's estimated cost.

    Args:
        hour: what is spent and reserved.
        estimate: returns the dollars that a row may cost.
        count: called with every row that was asked, and its outcome.
    """

    def __init__(
        self, hour: Hour, estimate: Callable[[Any], float], count: Callable[[Outcome], None]
    ) -> None:
        self._hour, self._estimate, self._count = hour, estimate, count
        self._held: dict[Item, float] = {}

    def admit(self, item: Item) -> Any:
        """Return None if the money is there; else a coroutine that waits for it."""
        dollars = self._estimate(item.row)
        if not self._hour.reserve(dollars):
            return self._wait(item, dollars)
        self._held[item] = dollars
        return None

    async def _wait(self, item: Item, dollars: float) -> Outcome | None:
        if not await self._hour.wait(dollars):
            return Outcome(item.index, "skipped")
        self._held[item] = dollars
        return None

    def settle(self, item: Item, outcome: Outcome | Parked) -> None:
        """Count what the row cost, then release its reservation."""
        if isinstance(outcome, Outcome) and outcome.status != "skipped":
            self._count(outcome)
        self._hour.settle(self._held.pop(item, 0.0))

    def close(self) -> None:
        """Do nothing: every row was settled, so nothing is reserved."""
