"""What is spent and reserved, and what the limits leave of it now, ever, and as time passes. Used with a lock held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cottonpalm import clock
from cottonpalm.request.money.rules.grants import Ask, Grant, Room, grant, narrower
from cottonpalm.request.money.rules.hour import Hour
from cottonpalm.request.money.rules.likely import Likely

if TYPE_CHECKING:
    from cottonpalm.request.money.rules.amounts import Amounts

_TICK_S: Final = 1e-3  # a timer for less time may fire before the clock has moved
_LOOK_S: Final = 5.0  # a waiter for the hourly budget looks again at least this often


class Sums:
    """Integer pico-dollars under limits.

    Attributes:
        spent: the most that settled requests cost, including those that earlier processes sent for attached runs.
        reserved: the sum of the bounds of requests in flight.
        in_flight: how many requests are in flight.
        overshoot: the sum of what requests cost beyond their reservations; 0 while every bound is enforced.
    """

    def __init__(self, limits: Amounts) -> None:
        self.spent = 0
        self.reserved = 0
        self.in_flight = 0
        self.overshoot = 0
        self._limits, self._plain = limits, limits.plain
        self._hour = Hour()
        self._likely = Likely()
        self._again_s: float | None = None  # seconds until the first in line may fit because time has passed

    def _decide(self, ask: Ask) -> int | Grant:
        """Decide what the limits allow; set `_again_s` if time will allow more."""
        self._again_s = None
        room = self._room()
        if self._limits.per_hour is not None and self._limits.wait and ask.most:
            return self._decide_in_time(room, ask, self._limits.per_hour)
        return grant(room, ask, self.in_flight)

    def _decide_in_time(self, room: Room, ask: Ask, per_hour: int) -> int | Grant:
        now_s = clock.now()
        early_s = 0.0 if ask.batched else self._hour.early_s(self._pending(), now_s, per_hour)
        if early_s:
            self._again_s = max(_TICK_S, min(early_s, _LOOK_S))
            return Grant.WAIT
        answer = grant(room, ask, self.in_flight)
        if answer is Grant.WAIT:
            self._again_s = _LOOK_S
        return answer

    def _pending(self) -> float:
        return self._likely.pending(self.spent, self.in_flight)

    def _room(self) -> Room:
        total, per_hour, wait = self._limits
        room = Room(None, None)
        if total is not None:
            room = Room(total - self.spent - self.reserved, total - self.spent)
        if per_hour is None:
            return room
        left = per_hour - self._hour.used(clock.now())
        return narrower(room, Room(left - self.reserved, per_hour if wait else left))

    def _leasable(self, committed: int) -> int | None:
        """Return the most that the lease of a run that has committed so much may be; None without a limit.

        It is all that the limits leave it now. Who is killed may have spent all of it; what no limit left is not among
        that.
        """
        left = self._room().now
        return None if left is None else committed + max(0, left)
