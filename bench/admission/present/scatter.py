"""Whether as many calls fit in flight each time, or now more and now fewer, as where a cache of tokens fills up."""

from __future__ import annotations

from typing import Final

WEIGHT: Final = 1 / 8  # of the last rejection in the share
ALIKE: Final = (
    0.01  # of the number: two rejections so near to each other, or next to each other, found the same limit
)
SET_IN, GONE = 0.5, 0.25  # share of rejections apart from the one before


class Scatter:
    """Compares each number at which a call was rejected with the one before.

    A limit on the number of calls rejects at the same number again and again, also one that moves now and then. A
    limit on the tokens they hold does not, as calls differ in size, and most of what they will hold is not known
    beforehand. Nor does a small reserve that fills again with time.

    Attributes:
        seen: most of the last rejections were apart from the one before.
    """

    __slots__ = ("_last", "_share", "seen")

    def __init__(self) -> None:
        self.seen = False
        self._last = 0
        self._share = 0.0

    def rejected(self, ordinal: int) -> None:
        """The `ordinal`-th in flight was one too many."""
        apart = abs(ordinal - self._last) > 1 + ALIKE * ordinal
        self._last = ordinal
        self._share += WEIGHT * (apart - self._share)
        self.seen = self._share > (GONE if self.seen else SET_IN)
