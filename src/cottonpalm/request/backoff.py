"""Computes how long to wait before the next try."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

_MAX_DOUBLINGS: Final = 64  # more than any cap in use needs; keeps 2**n a finite float
_SPREAD: Final = 0.25  # the spread is this share of the hint...
_SPREAD_OF_S: Final = 5.0  # ...or of this many seconds, if the hint is longer


def backoff_s(attempt: int, base_s: float, cap_s: float, rng: Random) -> float:
    """Return seconds between 0 and min(cap_s, base_s * 2**attempt), drawn evenly.

    "Full jitter" (AWS architecture blog, Exponential Backoff and Jitter, 2015).

    Args:
        attempt: 0 for the first wait, 1 for the second, and so on.
        base_s: seconds, the upper end of the first wait.
        cap_s: seconds, the upper end of any wait.
        rng: where the draw comes from.
    """
    return rng.uniform(0.0, min(cap_s, base_s * 2.0 ** min(attempt, _MAX_DOUBLINGS)))


def hinted_s(hint_s: float, rng: Random) -> float:
    """Return the wait that the provider named, plus a little more; never less.

    The extra is drawn from 0 to a quarter of the hint, at most 1.25 s: enough to spread many clients that
    were given the same number.

    Args:
        hint_s: seconds named by the provider, 0 or more.
        rng: where the draw comes from.
    """
    return hint_s + rng.uniform(0.0, min(hint_s, _SPREAD_OF_S) * _SPREAD)


def longest_s(cap_s: float, rng: Random) -> float:
    """Return the longest wait, from half of the cap to all of it, so that not all who take it come back at once."""
    return rng.uniform(0.5 * cap_s, cap_s)
