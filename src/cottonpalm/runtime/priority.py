"""The order of a queue: priority with static ageing."""

from __future__ import annotations

from typing import Final

AGE_S: Final = 30.0  # waiting this long is worth one step of priority


def ageing_key(arrival_s: float, priority: float) -> float:
    """Return the sort key of a waiter: the one with the smaller key goes first.

    The key is `arrival - priority * AGE_S`. All waiters age at the same speed, so the order of two waiters
    never changes. A key computed on arrival therefore stays right: no timer and no re-sorting is needed.
    Of two equal priorities, the earlier arrival goes first. A waiter that has waited `d * AGE_S` seconds
    longer goes before a newcomer whose priority is `d` steps higher.

    Args:
        arrival_s: seconds on the monotonic clock at which it joined.
        priority: higher goes first; any finite number.
    """
    return arrival_s - priority * AGE_S
