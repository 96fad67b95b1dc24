"""Finds what prompts have in common: from the start, and after something that differs. No clock, no I/O."""

from __future__ import annotations

from typing import Final

SAMPLES: Final = 32  # prompts that are compared; later ones are not looked at
MOVED: Final = 4  # of these, how many are searched for equal text after something that differs
_PIECE: Final = 64  # bytes that must be equal to find the place where two prompts run alike again
_STRIDE: Final = 48
_SEARCHED: Final = 24 * 1024  # bytes of a prompt that are searched


def common(one: bytes, other: bytes) -> int:
    """Return how many bytes two prompts share from the start."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while high - low > 1:  # the slices before `low` are equal, those before `high` are not
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low


def alike_later(one: bytes, other: bytes) -> int:
    """Return the longest run of equal bytes after the first difference: it could be shared if it came first."""
    at = common(one, other)
    one, other = one[at : at + _SEARCHED], other[at : at + _SEARCHED]
    longest = place = 0
    while place + _PIECE <= len(one):
        found = other.find(one[place : place + _PIECE])
        if found < 0:
            place += _STRIDE
            continue
        begin, begins = _backwards(one, other, place, found)
        length = common(one[begin:], other[begins:])
        longest = max(longest, length)
        place = begin + max(length, _STRIDE)
    return longest


def _backwards(one: bytes, other: bytes, place: int, found: int) -> tuple[int, int]:
    while place and found and one[place - 1] == other[found - 1]:
        place, found = place - 1, found - 1
    return place, found


class Sharing:
    """What the prompts of one key have in common, in bytes.

    Attributes:
        looked: how many prompts were compared.
        shared: what all of them have in common from the start; 0 while there is only one.
        later: what the first of them have in common after something that differs.
        again: what prompts had in common with any earlier one, on average; in whole pieces.
    """

    def __init__(self) -> None:
        self.looked = self.shared = self.later = 0
        self._first = b""
        self._bytes = self._again = self._judged = 0

    @property
    def wanted(self) -> bool:
        """Whether one more prompt is to be compared."""
        return self.looked < SAMPLES

    @property
    def mean(self) -> float:
        """The length of a prompt."""
        return self._bytes / self.looked if self.looked else 0.0

    @property
    def again(self) -> float:
        """See the class."""
        return self._again / (self._judged - 1) if self._judged > 1 else 0.0

    def look(self, prompt: bytes) -> None:
        """Compare one more prompt."""
        if not self.looked:
            self._first = prompt
        else:
            alike = common(self._first, prompt)
            if self.looked < MOVED and prompt != self._first:
                later = alike_later(self._first, prompt)
                self.later = later if self.looked == 1 else min(self.later, later)
            self.shared = alike if self.looked == 1 else min(self.shared, alike)
            if self.looked >= MOVED:
                self._first = self._first[: self.shared]
        self.looked += 1
        self._bytes += len(prompt)

    def had(self, size: int) -> None:
        """A prompt had so many bytes in common with an earlier one."""
        self._judged += 1
        self._again += size

    def shared_by(self, prompt: bytes) -> int:
        """What this prompt has in common with all that were compared; 0 if it has not."""
        return self.shared if self.shared and prompt[: self.shared] == self._first[: self.shared] else 0
