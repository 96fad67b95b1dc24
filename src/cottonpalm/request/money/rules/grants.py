"""Whether a request's money is there, and how much of it the request gets."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Grant(Enum):
    """The answers to a request for money, an amount apart."""

    WAIT = "wait"  # reservations in flight, or time, may give back what is missing
    STOP = "stop"  # even if all of them came back whole, it would not be enough


class Ask:
    """What a request asks for, in pico-dollars.

    Attributes:
        most: the dearest it can be with the whole maximum of its answer.
    """

    __slots__ = ("_least", "_slots", "most")

    def __init__(
        self, most: int, least: int | Callable[[], int], slots: int | Callable[[], float] = 1
    ) -> None:
        self.most, self._least, self._slots = most, least, slots

    @property
    def slots(self) -> int:
        """How many requests could be in flight at once. Worked out only near a ceiling."""
        return self._slots if isinstance(self._slots, int) else int(self._slots())

    @property
    def least(self) -> int:
        """The dearest it can be with the smallest maximum that is worth a try; `most` where none is.

        Worked out only near a ceiling.
        """
        if not isinstance(self._least, int):
            self._least = self._least()
        return self._least


class Room(NamedTuple):
    """Money that is left.

    Attributes:
        now: not spent and not reserved; None: without end.
        ever: not spent: what `now` may grow to.
    """

    now: int | None
    ever: int | None


def grant(room: Room, ask: Ask, in_flight: int) -> int | Grant:
    """Decide on one request: the amount to reserve for it, or why there is none.

    Far from the ceiling that is `most`. Near it, what is left is shared among the requests that could be in
    flight, so that they do not wait for each other; never below `least`. Whatever is reserved is at most what
    is left, so no sum of costs passes the ceiling as long as each request keeps within its reservation.

    Args:
        room: what is left.
        ask: what is asked for.
        in_flight: requests that hold a reservation.
    """
    if room.now is None or room.ever is None:
        return ask.most
    share = room.now // max(1, ask.slots - in_flight)
    if share >= ask.most:
        return ask.most
    amount = min(ask.most, max(ask.least, share))
    if amount <= room.now:
        return amount
    return Grant.WAIT if ask.least <= room.ever else Grant.STOP


def narrower(first: Room, second: Room) -> Room:
    """The room that is left by both."""
    return Room(_least(first.now, second.now), _least(first.ever, second.ever))


def _least(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
