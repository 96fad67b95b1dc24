"""A bound on the requests of all keys at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cottonpalm.request.limiter.limiter import Limiter, Permit
from cottonpalm.request.limiter.rules.concurrency import Concurrency
from cottonpalm.types import Verdict

if TYPE_CHECKING:
    from cottonpalm.request.limiter.rules.tokens import Tokens


class Together(Limiter):
    """A bound on the requests of all keys, beside the keys' own: it is given, and learns nothing from answers."""

    def __init__(self, key: str, most: int) -> None:
        super().__init__(key, Concurrency(most, most, most))

    def release(self, permit: Permit, *_: object, **__: object) -> float:
        """Give a permit back; however its request ended."""
        return super().release(permit, Verdict.IGNORED)

    def _admit(self, now: float, ask: int, kind: type[Permit] = Permit) -> Permit:
        self.in_flight += 1
        permit = kind()
        permit.limiter, permit.held, permit.known = self, True, True
        permit.at_s, permit.ordinal, permit.ask = now, self.in_flight, ask
        return permit

    def _take_back(self, prize: Permit, ask: int | Tokens) -> None:  # noqa: ARG002 - the permit knows
        prize.held = False
        self.in_flight -= 1

    def _learn_more(self, *_: object) -> float:
        return 0.0
