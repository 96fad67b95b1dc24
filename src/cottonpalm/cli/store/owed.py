"""Keeps which stored outcomes the output does not have yet, and up to which number it has all of them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Owed:
    """The outcomes that are stored but not in the output. The engine's thread adds them, the output's settles them.

    Args:
        seq: the number of the run's last outcome before this process.
    """

    def __init__(self, seq: int) -> None:
        self._last = seq
        self._seqs: dict[int, int] = {}  # slot -> number, the lowest first
        self._lock = threading.Lock()

    def add(self, slots: Iterable[int]) -> None:
        """Note slots that are about to be stored, in this order."""
        with self._lock:
            for slot in slots:
                self._last += 1
                self._seqs.pop(slot, None)
                self._seqs[slot] = self._last

    def __contains__(self, slot: object) -> bool:
        with self._lock:
            return slot in self._seqs

    def settle(self, slot: int) -> None:
        """Note that the output has this slot."""
        with self._lock:
            self._seqs.pop(slot, None)

    def up_to(self, seq: int) -> list[int]:
        """Return the slots whose number is not above this one."""
        with self._lock:
            return [slot for slot, number in self._seqs.items() if number <= seq]

    @property
    def whole(self) -> int:
        """Return the number up to which the output has all outcomes."""
        with self._lock:
            return next(iter(self._seqs.values()), self._last + 1) - 1
