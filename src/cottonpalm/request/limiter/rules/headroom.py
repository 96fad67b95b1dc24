"""What surely fits every gate, whatever time does. No clock, no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from cottonpalm.request.limiter.rules.sent import Sent

TOGETHER: Final = 64  # requests that are booked at once
Room: TypeAlias = tuple[float, float]  # requests, and tokens of all of them
Used: TypeAlias = "tuple[Sent, float]"  # so many tokens
Event: TypeAlias = "Sent | Used"  # it was sent; or: it used so many tokens


class Headroom:
    """So many requests, of so many tokens together, go without asking any gate.

    Those are noted, and booked at each gate in one go: when one has to be asked, when somebody looks, or when it has
    become many.

    Attributes:
        requests: 0 where the gates have to be asked.
        tokens: of all of them.
        events: what is noted, in order.
    """

    __slots__ = ("events", "requests", "tokens")

    def __init__(self) -> None:
        self.requests, self.tokens = 0, 0.0
        self.events: list[Event] = []

    def open(self, room: Room) -> None:
        """So much fits now."""
        requests, self.tokens = room
        self.requests = int(min(TOGETHER, max(0.0, requests)))

    def settle(self, sent: Sent, tokens: float) -> None:
        """It used so many tokens."""
        self.events.append((sent, tokens))
        if tokens > sent.ask:
            self.tokens -= tokens - sent.ask


def least(one: Room, other: Room) -> Room:
    """What fits both."""
    return min(one[0], other[0]), min(one[1], other[1])
