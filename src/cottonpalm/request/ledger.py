"""Money reserved and spent: a request is only sent if the dearest it can be still fits under the ceiling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cottonpalm.model import PICO
from cottonpalm.pure.grants import Grant, grant
from cottonpalm.request.waiting import RowClosed, Waiter, Waitroom

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Grant", "Ledger", "RowClosed", "Waiter"]


class Ledger(Waitroom[bool]):
    """Integer pico-dollars, booked in one step by tasks and threads alike.

    `spent + reserved` never exceeds the ceiling, unless `settle` reports more than its bound or the ceiling
    is lowered. Who does not fit waits in line (by `ageing_key`) while reservations in flight may give back
    what is missing; where they cannot, the answer is no. A small request never passes a large one that waits.

    Attributes:
        spent: what settled requests cost.
        reserved: the bounds of those in flight.
        overshoot: what requests cost beyond their own bounds, in sum; 0 while every bound is enforced.
        waiting: tasks and threads in line.
    """

    def __init__(self, ceiling_pico: int | None) -> None:
        super().__init__()
        self.spent = 0
        self.reserved = 0
        self.overshoot = 0
        self._ceiling = ceiling_pico

    @property
    def ceiling(self) -> int | None:
        """The sum never to be passed; None for none. Set it at any time: who fits now is woken."""
        return self._ceiling

    @ceiling.setter
    def ceiling(self, pico: int | None) -> None:
        with self._lock:
            self._ceiling = pico
            served = self._serve()
        self._wake(served)

    def try_grant(self, bound: int, priority: float = 0) -> Grant:
        """Reserve `bound` if it fits and nobody with a better claim waits. Never blocks; settle an OK."""
        with self._lock:
            answer = grant(self._ceiling, self.spent, self.reserved, bound)
            if answer is Grant.OK:
                if self.waiting and not self._goes_before_all(priority):
                    return Grant.WAIT
                self.reserved += bound
            return answer

    async def agrant(self, bound: int, priority: float = 0) -> bool:
        """Reserve `bound`, waiting as a task if need be. False: the money is spent.

        A cancel, at any moment, leaves nothing reserved.
        """
        answer = self.try_grant(bound, priority)
        if answer is Grant.WAIT:
            return await self._wait_in_task(priority, bound)
        return answer is Grant.OK

    def grant(self, bound: int, priority: float = 0, on_wait: Callable[[Waiter], None] | None = None) -> bool:
        """Reserve `bound`, blocking this thread if need be. False: the money is spent.

        Args:
            bound: the most the request can cost.
            priority: higher goes first.
            on_wait: gets the `Waiter` before the thread is parked; not called if the answer is known at once.

        Raises:
            RowClosed: somebody called `abandon` on the waiter.
        """
        answer = self.try_grant(bound, priority)
        if answer is Grant.WAIT:
            return self._wait_in_thread(priority, bound, on_wait)
        return answer is Grant.OK

    def settle(self, bound: int, spent: int) -> None:
        """Give a reservation back and book what was really spent.

        Args:
            bound: what was reserved.
            spent: what the request cost; 0 if it was never sent.
        """
        with self._lock:
            self.reserved -= bound
            self.spent += spent
            self.overshoot += max(0, spent - bound)
            served = self._serve()
        self._wake(served)

    def __repr__(self) -> str:
        of = "no ceiling" if self._ceiling is None else f"${self._ceiling / PICO:.6f}"
        text = f"<Ledger ${self.spent / PICO:.6f} spent + ${self.reserved / PICO:.6f} reserved of {of}"
        return text + f", {self.waiting} waiting>"

    def _offer(self, ask: int) -> bool | None:
        answer = grant(self._ceiling, self.spent, self.reserved, ask)
        if answer is Grant.WAIT:
            return None
        if answer is Grant.OK:
            self.reserved += ask
        return answer is Grant.OK

    def _take_back(self, prize: bool, ask: int) -> None:
        if prize:
            self.reserved -= ask
