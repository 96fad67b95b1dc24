"""Decides whether there is money for a request, and how much of it the request gets."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Grant(Enum):
    """The answers to a request for money when no amount is granted."""

    WAIT = "wait"  # settled reservations, or time, may free the missing money
    STOP = "stop"  # even if all reservations were released, the money would not be enough


class Ask:
    """What a request asks for, in pico-dollars.

    Attributes:
        most: the most it can cost if its answer has the full maximum of tokens.
        batched: it goes out in a batch, which is paid when it comes back: no even pace holds for it.
    """

    __slots__ = ("_least", "_now", "_slots", "batched", "most")

    def __init__(
        self,
        most: int,
        least: int | Callable[[], int],
        slots: int | Callable[[], float] = 1,
        *,
        batched: bool = False,
    ) -> None:
        self.most, self._least, self._slots, self.batched = most, least, slots, batched
        self._now: int | None = None

    @property
    def slots(self) -> int:
        """Return how many requests could be in flight at once. It is computed only near a limit."""
        return self._slots if isinstance(self._slots, int) else int(self._slots())

    @property
    def least(self) -> int:
        """Return the most it can cost with the smallest useful maximum of tokens; `most` if there is none.

        It is computed only near a limit, and once; see `shrinks_to`.
        """
        if self._now is None:
            self._now = self._least if isinstance(self._least, int) else self._least()
        return self._now

    def shrinks_to(self, room: int) -> bool:
        """Whether it would fit into so much after all: while it waited, answers of others told a smaller maximum."""
        if not isinstance(self._least, int):
            self._now = self._least()
        return self.least <= room


class Room(NamedTuple):
    """The money that is left.

    Attributes:
        now: what is neither spent nor reserved; None: there is no limit.
        ever: what is not spent: `now` can grow to this.
    """

    now: int | None
    ever: int | None


def grant(room: Room, ask: Ask, in_flight: int) -> int | Grant:
    """Decide on one request: return the amount to reserve for it, or why it gets none.

    Far from the limit, the amount is `most`. Near it, the requests that could be in flight share what is left,
    so that they do not wait for each other; but none gets less than `least`. An amount is never more than what
    is left, so the costs cannot exceed the limit as long as each request keeps within its reservation.

    Args:
        room: the money that is left.
        ask: what the request asks for.
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
    if ask.least <= room.ever:
        return Grant.WAIT
    return grant(room, ask, in_flight) if ask.shrinks_to(room.ever) else Grant.STOP


def narrower(first: Room, second: Room) -> Room:
    """Return the room that respects both rooms."""
    return Room(_least(first.now, second.now), _least(first.ever, second.ever))


def _least(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
