"""Which transport the requests of a run went by, and why."""

from __future__ import annotations

from collections import Counter
from typing import Final, Literal, TypeAlias

Transport: TypeAlias = Literal["fast", "stock"]
DEFAULT_TRANSPORT: Final[Transport] = "fast"


class Transports:
    """Counts the requests of one run by their transport. On the run's loop only.

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
        found = {"fast": self.fast} if self.fast else {}
        return found | {f"stock: {why}": number for why, number in self.stock.items()}

    def __repr__(self) -> str:
        return f"<Transports {self.fast} fast, {self.stock.total()} stock>"
