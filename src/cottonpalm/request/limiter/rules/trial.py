"""What a trial of more than the learnt rate tells of it: no more than it let through. No clock, no I/O."""

from __future__ import annotations


class Trial:
    """A bucket may have stored something up before, so only what is let through beyond that came back meanwhile.

    Where a request is rejected, less than one more was left: so between two of them the rate is known to one request.

    Attributes:
        least: the rate, as far as the last stage that was borne tells.
    """

    __slots__ = ("_empty", "_ended", "_stored", "least")

    def __init__(self) -> None:
        self.least = 0.0
        self._ended = 0.0, 0.0  # when, and all that was admitted up to then
        # When, all that was admitted up to then, and left at most; and the first two where one was rejected.
        self._stored: list[tuple[float, float, float]] = []
        self._empty: list[tuple[float, float]] = []

    def clear(self) -> None:
        """From here on anew."""
        self.least = 0.0
        self._stored.clear()
        self._empty.clear()

    def begins(self, at_s: float, total: float, depth: float) -> None:
        """A stage begins; the last request before it left no more stored up than the bucket holds, but for itself."""
        self._stored.append((at_s, total, max(0.0, depth - 1)))

    def borne(self, at_s: float, total: float) -> None:
        """So much was admitted up to then."""
        self.least = max(self.least, self._beyond(at_s, total))

    def rejected(self, at_s: float, total: float) -> None:
        """One was rejected, by chance or not."""
        self.borne(at_s, total)
        self._stored.append((at_s, total, 1.0))
        self._empty.append((at_s, total))

    def bounds(self, at_s: float, total: float) -> tuple[float, float]:
        """The rate is at least and at most, where one is rejected now that was sent then."""
        self._ended = at_s, total
        most = self._beyond(at_s, total + 1)
        for since_s, before in self._empty:
            if since_s < at_s:
                most = min(most, (total + 1 - before) / (at_s - since_s))
        return max(self.least, self._beyond(at_s, total)), most

    def stored(self, rate: float) -> float:
        """What must have been stored up before it, where that is the rate."""
        at_s, total = self._ended
        spans = ((total - before, at_s - since_s) for since_s, before, _ in self._stored if since_s < at_s)
        return max((admitted - rate * passed for admitted, passed in spans), default=0.0)

    def _beyond(self, at_s: float, total: float) -> float:
        """What came back since some moment, over the time since then: the most."""
        known = ((since_s, before + stored) for since_s, before, stored in self._stored if since_s < at_s)
        return max(((total - spent) / (at_s - since_s) for since_s, spent in known), default=0.0)
