"""Estimates with an interval: a sum over all rows from a few of them, and the tokens of a text from its bytes."""

from __future__ import annotations

import re
from math import sqrt
from statistics import fmean
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

Z: Final = 2.33  # 98 % of a normal distribution: wider than the 90 % we promise, since costs have long tails
# Bytes of text per token: the fewest, a usual number, the most. First for English letters and spaces, then for digits
# and signs (numbers, markup, base64), then for all beyond ASCII (Chinese has 2 to 5, Hindi up to 10, emoji 2).
_LETTERS: Final = (3.0, 4.2, 5.6)
_SIGNS: Final = (1.0, 1.8, 3.0)
_BEYOND: Final = (2.0, 4.5, 11.0)
_IS_LETTER: Final = re.compile(r"[A-Za-z ]")


class Range(NamedTuple):
    """A number that is not known exactly."""

    low: float
    likely: float
    high: float

    def __mul__(self, factor: object) -> Range:
        assert isinstance(factor, int | float)
        return Range(self.low * factor, self.likely * factor, self.high * factor)


def tokens_of(text: str) -> Range:
    """Estimate from its bytes how many tokens a text has. The range is wide, so that it holds for any tokenizer."""
    whole, ascii_only = len(text.encode("utf-8", "surrogatepass")), sum(map(str.isascii, text))
    letters = len(_IS_LETTER.findall(text))
    parts = ((letters, _LETTERS), (ascii_only - letters, _SIGNS), (whole - ascii_only, _BEYOND))
    fewest, usual, most = (sum(size / per[n] for size, per in parts) for n in (2, 1, 0))
    return Range(fewest, usual, most)


def total(seen: Sequence[float], rest: int) -> Range:
    """Estimate a sum over `rest` further rows from rows drawn at random. At least 90 % of such ranges hold the sum.

    The interval is Student's t with Johnson's correction for skewness (Johnson 1978), plus the scatter of the rest.

    Args:
        seen: the value of each drawn row.
        rest: how many rows are still to come.
    """
    if not seen:
        raise ValueError("nothing was seen")
    count, mean = len(seen), fmean(seen)
    if not rest:
        return Range(0.0, 0.0, 0.0)
    if count < 2:
        return Range(0.0, mean * rest, float("inf"))
    variance = sum((one - mean) ** 2 for one in seen) / (count - 1)
    third = sum((one - mean) ** 3 for one in seen) / count
    shift = third / (6 * variance * count) * rest if variance else 0.0
    spread = _student(count - 1) * sqrt(variance * rest * (rest / count + 1))
    likely = mean * rest
    return Range(max(0.0, likely + shift - spread), likely, likely + shift + spread)


def _student(freedom: int) -> float:
    """Return the quantile of Student's t that corresponds to `Z` (Cornish and Fisher's expansion)."""
    z = Z
    first = (z**3 + z) / (4 * freedom)
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    return z + first + second + third
