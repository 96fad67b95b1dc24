"""What the money that is reserved now will probably cost. No clock, no I/O."""

from __future__ import annotations


class Likely:
    """By what came of requests before, and of what other processes were lent.

    Attributes:
        requests: of this life and process that are settled and cost something.
    """

    def __init__(self) -> None:
        self.requests = 0
        self._others = 0  # pico-dollars that earlier lives and other processes spent
        self._out = 0  # lent now
        self._ended = self._spent = 0  # of what is lent no more: how much that was, and what was spent of it

    def by_others(self, pico: int) -> None:
        """So much of what is spent was no request of ours."""
        self._others += pico

    def lend(self, pico: int) -> None:
        """So much more is lent."""
        self._out += pico

    def end_loan(self, pico: int, spent: int) -> None:
        """So much is lent no more; this was spent of it."""
        self._out -= pico
        self._ended += pico
        self._spent += spent
        self._others += spent

    def pending(self, spent: int, in_flight: int) -> float:
        """Return the pico-dollars that are still to come; nothing is known of the first request, nor of the first loan.

        Args:
            spent: pico-dollars, by all.
            in_flight: requests of ours.
        """
        mean = (spent - self._others) / self.requests if self.requests else 0.0
        return mean * in_flight + (self._out * self._spent / self._ended if self._ended else 0.0)
