"""Decides how long requests may wait for a prefix, so that a run never takes much longer for it. No clock, no I/O."""

from __future__ import annotations

from typing import Final

LONGEST_S: Final = 10.0  # of one wait
START_S: Final = 10.0  # in all, while a run begins...
PER_REQUEST_S: Final = 0.003  # ...and for each request it has sent: three seconds a thousand
USELESS: Final = 20  # so many answers without one cached token say that nothing is cached


class Patience:
    """The seconds in which requests of one key waited although others could have been sent."""

    def __init__(self) -> None:
        self._spent_s = self._counted_s = 0.0
        self._reads = self._hits = 0

    def left_s(self, requests: int) -> float:
        """Return how long a request may wait; 0 for not at all.

        Args:
            requests: sent by the run so far.
        """
        if self._reads >= USELESS and not self._hits:
            return 0.0
        return max(0.0, min(LONGEST_S, START_S + PER_REQUEST_S * requests - self._spent_s))

    def waited(self, since: float, now: float) -> None:
        """Requests waited, and nothing else could be sent. Seconds that were counted already do not count again."""
        self._spent_s += max(0.0, now - max(since, self._counted_s))
        self._counted_s = max(now, self._counted_s)

    def read(self, cached_tokens: int) -> None:
        """A request was answered whose prefix was cached, as far as we know."""
        self._reads += 1
        self._hits += cached_tokens > 0
