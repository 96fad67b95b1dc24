"""What one row used: requests, tokens and money, and what its tries met."""

from __future__ import annotations

import threading
from typing import Final

from cottonpalm.types import CostSource, Try, Usage

TRIES: Final = 20  # of a row, that are kept in case it fails: the first ones and the last


class RowUsage:
    """Counts what a row used. Thread-safe.

    Attributes:
        attempts: how many requests were sent.
        usage: tokens of all answers, including those of failed tries; None if no answer reported them.
        cost_pico: pico-dollars of all answers; None if no price is known.
        cost_source: where that is from: reported, or estimated, wholly or in part.
        model: the name of the model that answered last.
        got: an answer came to one of its requests, or of its calls whose requests are not seen.
        known: how many model calls LangChain's own cache answered.
        replays: answers that came from a batch.
        answers: answers that came over the wire; `flexed`: those of them at the flex tier.
        tries: when its tries began (`clock.now()`), how long they took, and what they met; at most `TRIES`.
    """

    __slots__ = (
        "_lock",
        "answers",
        "attempts",
        "cost_pico",
        "cost_source",
        "flexed",
        "got",
        "known",
        "model",
        "replays",
        "tries",
        "usage",
    )

    def __init__(self) -> None:
        self.attempts = 0
        self.usage: Usage | None = None
        self.cost_pico: int | None = None
        self.cost_source: CostSource | None = None
        self.model: str | None = None
        self.got = False
        self.known = self.replays = self.answers = self.flexed = 0
        self.tries: list[Try] | None = None
        self._lock = threading.Lock()

    def tried(self, began_s: float, took_s: float, met: str) -> None:
        """Note a try that is over, in case the row fails."""
        tries = self.tries
        if tries is None:
            tries = self.tries = []
        if len(tries) >= TRIES:
            del tries[TRIES // 2]
        tries.append(Try(began_s, took_s, met))

    def replayed(self) -> None:
        """An answer came from a batch: it counts as a request of the row, but not for the limits."""
        with self._lock:
            self.attempts += 1
            self.replays += 1

    def knew(self) -> None:
        """LangChain's own cache gave an answer, without a request and without cost."""
        self.known += 1
        self.book(None, 0, "reported", None)

    def book(self, usage: Usage | None, cost_pico: int | None, source: CostSource, model: str | None) -> None:
        """Add what one try used and cost. If one cost is an estimate, the sum is an estimate."""
        with self._lock:
            if usage is not None:
                self.usage = usage if self.usage is None else self.usage + usage
            self.model = model or self.model
            if cost_pico is not None:
                self.cost_pico = (self.cost_pico or 0) + cost_pico
                self.cost_source = "estimated" if "estimated" in (self.cost_source, source) else source

    @property
    def lane(self) -> str:
        """Where its answers came from."""
        if self.replays:
            return "batch" if self.replays >= self.attempts else "mixed"
        if self.flexed:
            return "flex" if self.flexed >= self.answers else "mixed"
        return "live"

    def _paid(self) -> bool:
        # What is only booked, for an answer that was lost, is no answer: nothing is kept by waiting for another one.
        return bool(self.got or self.replays or self.usage is not None)
