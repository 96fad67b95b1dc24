"""What a request took with it when it was sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cottonpalm.types import Unit


class Use(NamedTuple):
    """What requests take of each unit: one of them as expected, or all that were sent so far."""

    requests: float
    tokens: float
    output_tokens: float

    def of(self, unit: Unit) -> float:
        """The part that counts in this unit."""
        if unit == "requests":
            return self.requests
        if unit == "tokens":
            return self.tokens
        return self.output_tokens if unit == "output tokens" else self.tokens - self.output_tokens


NOTHING: Final = Use(0.0, 0.0, 0.0)


class Sent:
    """What is remembered of a request in flight.

    Attributes:
        at_s: when it was sent.
        ordinal: in flight then, itself included.
        generation: causes found before it.
        ask: tokens it was expected to use.
        cost: of the learnt rate, in usual requests.
        total: of all sent up to then, itself included.
        asked: of them, that asked as much as one that was rejected.
        refusals: that were seen before it.
        number: of all that were sent, itself included.
        known: whether it was admitted is known.
        use: what it takes of each unit, where anybody counts that...
        sent: ...and what all took that were sent up to then.
        entries: of the user's ceilings.
    """

    __slots__ = (
        "ask", "asked", "at_s", "cost", "entries", "generation", "known", "number", "ordinal", "refusals",
        "sent", "total", "use",
    )  # fmt: skip

    cost: float
    total: float
    generation: int
    refusals: int
    asked: int
    number: int

    def __init__(self, at_s: float, ordinal: int, ask: float = 0.0) -> None:
        self.at_s, self.ordinal, self.ask = at_s, ordinal, ask
        self.known = False
        self.use = self.sent = NOTHING
        self.entries: Sequence[list[float]] = ()
