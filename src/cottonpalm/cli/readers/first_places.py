"""Remembers which texts, such as the ids of many rows, were met before, and where: in little memory, at any number."""

from __future__ import annotations

import os
import tempfile
import weakref
from array import array
from bisect import bisect_left
from pathlib import Path
from typing import Final

from cottonpalm.cli.problems import os_problem
from cottonpalm.shell import Code

PARTS: Final = 64  # each part is put away separately, so that little is written at a time
SIZE: Final = 64  # places of a part at first
FULL: Final = 4096  # texts of a part that are kept in memory
MOST: Final = 2**32 - 1  # a place beyond is shown as this one
WORD: Final = 8  # bytes of a hash
FILTER: Final = 4  # texts for each word of a filter: 16 bits a text, of which it sets four


class FirstPlaces:
    """Remembers the place where each text was first met.

    The newest quarter of a million are in memory, in about 18 bytes each. The others are in a file without a name, as
    hashes, not as texts; some 2 to 3 bytes each in memory say whether it is worth while to look there.
    """

    def __init__(self) -> None:
        self._parts = [_Part(SIZE) for _ in range(PARTS)]
        self._old = [_Old() for _ in range(PARTS)]
        self._file: _File | None = None

    def met(self, text: str, place: int) -> int | None:
        """Return the place (from 1 on) where this text was met before; or note this place and return None.

        Raises:
            Problem: the folder of temporary files has no room for what does not stay in memory.
        """
        word = hash(text) & 0xFFFF_FFFF_FFFF_FFFF
        number = word % PARTS
        part = self._parts[number]
        at = part.find(word)
        if before := part.places[at] or self._before(number, word):
            return before
        if part.put(at, word, min(place, MOST)):
            self._parts[number] = part.grown() if part.taken < FULL else self._put_away(number, part)
        return None

    def _before(self, number: int, word: int) -> int:
        """Return the place of a text among those that were put away; 0: it is not there."""
        if self._file is None or not self._old[number].may_hold(word):
            return 0
        return next(filter(None, (self._file.place(at, word) for at in self._old[number].pieces)), 0)

    def _put_away(self, number: int, part: _Part) -> _Part:
        if self._file is None:
            self._file = _File()
        self._old[number].take(self._file, *part.sorted())
        return _Part(SIZE)


class _Old:
    """The texts of a part that were put away.

    Attributes:
        pieces: where in the file each FULL of them are.
    """

    __slots__ = ("_filter", "_room", "pieces")

    def __init__(self) -> None:
        self.pieces: list[int] = []
        self._room = 0  # pieces for which the filter is large enough
        self._filter = array("Q")

    def may_hold(self, word: int) -> bool:
        """Whether the filter cannot say that a text is not there."""
        if not self._room:
            return False
        mask = _bits(word)
        return self._filter[(word >> 6) % len(self._filter)] & mask == mask

    def take(self, file: _File, words: array[int], places: array[int]) -> None:
        """Put a piece into the file. A filter that is full is made anew, half as large again, from what is there."""
        self.pieces.append(file.add(words, places))
        if len(self.pieces) <= self._room:
            return self._mark(words)
        self._room += self._room // 2 + 1
        self._filter = array("Q", bytes(FULL // FILTER * self._room * WORD))
        for at in self.pieces:
            self._mark(file.words(at))
        return None

    def _mark(self, words: array[int]) -> None:
        marks, size = self._filter, len(self._filter)
        for word in words:
            marks[(word >> 6) % size] |= _bits(word)


def _bits(word: int) -> int:
    """Return the four bits of a hash in its word of a filter."""
    bits = word >> 40
    return 1 << (bits & 63) | 1 << (bits >> 6 & 63) | 1 << (bits >> 12 & 63) | 1 << (bits >> 18 & 63)


class _File:
    """A file of pieces: each has FULL hashes, sorted, and then their places."""

    def __init__(self) -> None:
        try:
            self._fd, path = tempfile.mkstemp(prefix="cottonpalm-ids-")
            Path(path).unlink()
        except OSError as error:
            raise os_problem("write to", tempfile.gettempdir(), error, Code.STOPPED) from error
        self._size = 0
        weakref.finalize(self, os.close, self._fd)

    def add(self, words: array[int], places: array[int]) -> int:
        """Write a piece, and return where it is."""
        at, data = self._size, words.tobytes() + places.tobytes()
        try:
            while data:
                written = os.pwrite(self._fd, data, self._size)
                self._size, data = self._size + written, data[written:]
        except OSError as error:
            raise os_problem("write to", tempfile.gettempdir(), error, Code.STOPPED) from error
        return at

    def words(self, at: int) -> array[int]:
        """Return the hashes of a piece."""
        return array("Q", os.pread(self._fd, FULL * WORD, at))

    def place(self, at: int, word: int) -> int:
        """Return the place of a hash in a piece; 0: it is not there."""
        words = self.words(at)
        found = bisect_left(words, word)
        if found == FULL or words[found] != word:
            return 0
        places = array("I")
        size = places.itemsize
        places.frombytes(os.pread(self._fd, size, at + FULL * WORD + found * size))
        return places[0]


class _Part:
    """An open table: of each text its hash, and its place."""

    __slots__ = ("_limit", "_size", "_words", "places", "taken")

    def __init__(self, size: int) -> None:
        self._size, self._limit, self.taken = size, min(size * 4 // 5, FULL), 0
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
        """Enter it where it belongs; return True when it is time to grow, or to be put away."""
        self._words[at], self.places[at] = word, place
        self.taken += 1
        return self.taken >= self._limit

    def grown(self) -> _Part:
        """Return a copy that is half as large again."""
        larger = _Part(self._size * 3 // 2)
        for word, place in zip(self._words, self.places, strict=True):
            if place:
                larger.put(larger.find(word), word, place)
        return larger

    def sorted(self) -> tuple[array[int], array[int]]:
        """Return all hashes in order, and their places."""
        pairs = sorted(pair for pair in zip(self._words, self.places, strict=True) if pair[1])
        return array("Q", (word for word, _ in pairs)), array("I", (place for _, place in pairs))
