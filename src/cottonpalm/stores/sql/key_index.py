"""An index of the slots that may hold a key: one scan makes it, with 12 bytes per row. It rules out most new keys."""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_WORD: Final = 8  # so many bytes of a key choose its bucket


class KeyIndex:
    """Linked lists of slots, one list per bucket of keys. A slot found here is only a candidate: compare its key."""

    def __init__(self, slots: int) -> None:
        """Make room for the slots 0 to `slots` - 1."""
        buckets = 1 << max(1, slots).bit_length()
        self._mask = buckets - 1
        self._first = array("I", [0]) * buckets  # bucket -> its first slot + 1, or 0
        self._next = array("I", [0]) * slots  # slot -> the next slot + 1 in its bucket, or 0

    def add(self, slots: Iterable[int], words: Iterable[int]) -> None:
        """Add slots, each with the word of its key."""
        first, following, mask = self._first, self._next, self._mask
        for slot, word in zip(slots, words, strict=True):
            bucket = word & mask
            following[slot] = first[bucket]
            first[bucket] = slot + 1

    def candidates(self, key: bytes) -> list[int]:
        """Return the slots that may hold this key, in order; no other slot holds it."""
        found = []
        after = self._first[word_of(key) & self._mask]
        while after:
            found.append(after - 1)
            after = self._next[after - 1]
        return found[::-1]


def word_of(key: bytes) -> int:
    """Return the part of a key that chooses its bucket."""
    return int.from_bytes(key[:_WORD], sys.byteorder)


def words_of(keys: bytes, count: int) -> array[int] | None:
    """Return the words of `count` keys stored side by side; None if the keys are not two words long."""
    return array("Q", keys)[::2] if len(keys) == count * 2 * _WORD else None
