"""Which transport the requests of a run went by, and why."""

from __future__ import annotations

from collections import Counter
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

Transport: TypeAlias = Literal["fast", "stock"]
DEFAULT_TRANSPORT: Final[Transport] = "fast"

FAST: Final = "fast"
STOCK: Final = "stock: "  # and the reason
STREAMED: Final = "a streamed answer"


class Transports:
    """Counts the calls of one run by the transport of what was sent for them. On the run's loop only.

    A call whose answer was known, or that was not to be sent, counts as none.

    Attributes:
        wanted: True: requests go by the fast transport where it is proved equal.
        fast: how many went by it.
        stock: how many went by the model's own SDK although the fast one was wanted, by reason.
    """

    __slots__ = ("fast", "stock", "wanted")

    def __init__(self, *, wanted: bool) -> None:
        self.wanted = wanted
        self.fast = 0
        self.stock: Counter[str] = Counter()

    def counts(self) -> dict[str, int]:
        """Return all counts: "fast", and "stock: " with each reason."""
        found = {FAST: self.fast} if self.fast else {}
        return found | {f"{STOCK}{why}": number for why, number in self.stock.items()}

    def taken(self) -> dict[str, int]:
        """Return what was counted since it was last taken: a worker tells its run."""
        found = self.counts()
        self.fast = 0
        self.stock.clear()
        return found

    def add(self, found: Mapping[str, int]) -> None:
        """Add what a worker has taken."""
        for way, number in found.items():
            if way == FAST:
                self.fast += number
            else:
                self.stock[way.removeprefix(STOCK)] += number

    def __repr__(self) -> str:
        return f"<Transports {self.fast} fast, {self.stock.total()} stock>"


class StockCall:
    """One call that the model's own SDK makes; counted once, when it first sends something."""

    __slots__ = ("_counts", "_why")

    def __init__(self, counts: Transports, why: str) -> None:
        self._counts: Transports | None = counts
        self._why = why

    def sends(self) -> None:
        """A request of it goes out."""
        if self._counts is not None:
            self._counts.stock[self._why] += 1
            self._counts = None


BY_SDK: Final[ContextVar[StockCall | None]] = ContextVar("cottonpalm_by_sdk", default=None)
