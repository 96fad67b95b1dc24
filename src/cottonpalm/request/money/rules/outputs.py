"""Learns how long a model's answers are. Near the end of the money, a tighter maximum of tokens is based on this."""

from __future__ import annotations

from collections import deque
from typing import Final

SEEN: Final = 256  # so many latest answers are remembered
ENOUGH: Final = 20  # with fewer answers than this, no length is given
EVERY: Final = 32  # the quantile is computed again after so many new answers
MARGIN: Final = 1.2


class Outputs:
    """The lengths of a model's latest whole answers, in tokens. Cut answers are left out: their length is unknown."""

    def __init__(self) -> None:
        self._lengths: deque[int] = deque(maxlen=SEEN)
        self._left = ENOUGH  # answers until `_likely` is computed, for the first time or again
        self._likely: int | None = None
        self.reasons = False  # True: some answers contained reasoning

    def note(self, tokens: int, reasoning: int) -> None:
        """Take note of one more whole answer."""
        self._lengths.append(tokens)
        self._left -= 1
        self.reasons = self.reasons or reasoning > 0

    def likely(self) -> int | None:
        """Return a length that about 99 of 100 answers stay well below; None while too few were seen."""
        if self._left <= 0:
            ordered = sorted(self._lengths)
            self._likely = int(MARGIN * ordered[99 * len(ordered) // 100])
            self._left = EVERY
        return self._likely
