"""Remembers in little memory which texts, such as the ids of many rows, were met before, and where."""

from __future__ import annotations

from array import array
from typing import Final

PARTS: Final = 64  # each part grows separately, so that only one part is in memory twice at a time
SIZE: Final = 64  # places of a part at first
MOST: Final = 2**32 - 1  # a place beyond is shown as this one


class FirstPlaces:
    """Remembers the place where each text was first met, in about 18 bytes per text of any length."""

    def __init__(self) -> None:
        self._parts = [_Part(SIZE) for _ in range(PARTS)]

    def met(self, text: str, place: int) -> int | None:
        """Return the place (from 1 on) where this text was met before; or note this place and return None."""
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
        """Return the position of a word, or the free position where it belongs."""
        size, places, words = self._size, self.places, self._words
        at = word // PARTS % size
        while places[at] and words[at] != word:
            at = at + 1 if at + 1 < size else 0
        return at

    def put(self, at: int, word: int, place: int) -> bool:
        """Enter it where it belongs; return True when it is time to grow."""
        self._words[at], self.places[at] = word, place
        self._left -= 1
        return self._left <= 0

    def grown(self) -> _Part:
        """Return a copy that is half as large again."""
        larger = _Part(self._size * 3 // 2)
        for word, place in zip(self._words, self.places, strict=True):
            if place:
                larger.put(larger.find(word), word, place)
        return larger
