"""How often requests were rejected before they were accepted. No clock, no I/O."""

from __future__ import annotations

from collections import deque
from typing import Final

RECENT: Final = 100  # accepted requests
UNLIKELY: Final = 0.01


class CameThrough:
    """The rejections of the requests that were accepted of late.

    Whoever was rejected far more often than they is itself the reason: its size, say, or what it asks for.
    """

    __slots__ = ("_rejected",)

    def __init__(self) -> None:
        self._rejected: deque[tuple[int, int]] = deque(maxlen=RECENT)

    def note(self, accepted: int, rejections: int) -> None:
        """One more is accepted, after so many others and so many rejections of its own, at least one."""
        self._rejected.append((accepted, rejections))

    def explains(self, rejections: int, accepted: int) -> bool:
        """Whether chance explains so many rejections of one request, after so many were accepted.

        It does if one of the last hundred had as many, or if (share of their tries that were rejected) ** rejections
        is not small.
        """
        late = accepted - RECENT
        theirs = [had for number, had in tuple(self._rejected) if number >= late]
        if not theirs:
            return False
        lost = sum(theirs)
        return rejections <= max(theirs) or (lost / (lost + min(accepted, RECENT))) ** rejections > UNLIKELY
