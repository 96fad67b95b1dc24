"""How long an answer may take, learnt from the answers of the same run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LEARNT_AFTER: Final = 200  # answers
_TIMES_SLOWEST: Final = 5.0
_LEAST_S: Final = 5.0  # a machine that stutters is no provider that hangs


@dataclass(slots=True)
class Patience:
    """The longest wait for an answer of one key.

    Until `LEARNT_AFTER` good answers it is what the user allows; from then on five times the slowest of them, five
    seconds at least, and never more than the user allows.

    Attributes:
        answers: good answers so far.
        slowest_s: seconds the slowest of them took.
    """

    answers: int = 0
    slowest_s: float = 0.0

    def after(self, seconds: float) -> bool:
        """Take note of a good answer; whether the wait is learnt just now."""
        self.answers += 1
        self.slowest_s = max(self.slowest_s, seconds)
        return self.answers == LEARNT_AFTER

    def timeout_s(self, allowed_s: float) -> float:
        """Seconds that the next request may take."""
        if self.answers < LEARNT_AFTER:
            return allowed_s
        return min(allowed_s, max(_LEAST_S, _TIMES_SLOWEST * self.slowest_s))
