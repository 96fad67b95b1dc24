"""How long the answers of a model are: what a tighter maximum near the end of the money goes by."""

from __future__ import annotations

from collections import deque
from typing import Final

SEEN: Final = 256  # answers remembered
ENOUGH: Final = 20  # answers below which nothing is said
EVERY: Final = 32  # new answers after which the quantile is worked out again
MARGIN: Final = 1.2


class Outputs:
    """The lengths of a model's latest whole answers, in tokens. Answers that were cut say nothing of their length."""

    def __init__(self) -> None:
        self._lengths: deque[int] = deque(maxlen=SEEN)
        self._fresh = 0  # answers since `_likely` was worked out
        self._likely: int | None = None
        self.reasons = False  # some of them were reasoning

    def note(self, tokens: int, reasoning: int) -> None:
        """One more whole answer."""
        self._lengths.append(tokens)
        self._fresh += 1
        self.reasons = self.reasons or reasoning > 0

    def likely(self) -> int | None:
        """A length that about 99 of 100 answers stay well below; None while too few were seen."""
        if len(self._lengths) < ENOUGH:
            return None
        if self._likely is None or self._fresh >= EVERY:
            ordered = sorted(self._lengths)
            self._likely = int(MARGIN * ordered[(99 * (len(ordered) - 1) + 99) // 100])
            self._fresh = 0
        return self._likely
