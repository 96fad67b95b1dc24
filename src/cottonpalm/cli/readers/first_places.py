"""Which texts were met before, and where, in little memory: ids of many rows."""

from __future__ import annotations

from array import array
from typing import Final

PARTS: Final = 64  # each grows on its own, so that the old and the new never both hold all
SIZE: Final = 64  # places of a part at first
MOST: Final = 2**32 - 1  # a place beyond is shown as this one


class FirstPlaces:
    """Where each text was met first, in about 18 bytes a text however long it is."""

    def __init__(self) -> None:
        self._parts = [_Part(SIZE) for _ in range(PARTS)]

    def met(self, text: str, place: int) -> int | None:
        """The place (from 1 on) at which this text was met before; None, and this place is noted."""
        word = hash(text) & 0xFFFF_FFFF_FFFF_FFFF
        number = word % PARTS
        part = self._parts[number]
        at = part.find(word)
        if before := part.places[at]:
            return before
        if part.put(at, word, min(place, MOST)):
            self._parts[number] = part.grown()
        return None


class _Part:
    """An open table: of each text its hash, and its place."""

    __slots__ = ("_left", "_size", "_words", "places")

    def __init__(self, size: int) -> None:
        self._size, self._left = size, size * 4 // 5
        self._words = array("Q", [0]) * size
        self.places = array("I", [0]) * size  # 0: free

    def find(self, word: int) -> int:
        """Where a word stands, or the free place where it belongs."""
        size, places, words = self._size, self.places, self._words
        at = word // PARTS % size
        while places[at] and words[at] != word:
            at = at + 1 if at + 1 < size else 0
        return at

    def put(self, at: int, word: int, place: int) -> bool:
        """Enter it where it belongs; True when it is time to grow."""
        self._words[at], self.places[at] = word, place
        self._left -= 1
        return self._left <= 0

    def grown(self) -> _Part:
        """The same with half as much room again."""
        larger = _Part(self._size * 3 // 2)
        for word, place in zip(self._words, self.places, strict=True):
            if place:
                larger.put(larger.find(word), word, place)
        return larger
