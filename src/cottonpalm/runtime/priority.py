"""Who goes first: priority with static ageing."""

from __future__ import annotations

from typing import Final

AGE_S: Final = 30.0  # waiting this long is worth one step of priority


def ageing_key(arrival_s: float, priority: float = 0.0, age_s: float = AGE_S) -> float:
    """Return the place in line: the smaller goes first.

    The key is `arrival - priority * age_s`. Everybody ages at the same speed, so the order of two who wait
    never changes, and a key computed once on arrival is right for ever: no timer, no re-sorting. Among equal
    priorities the earlier arrival wins; whoever has waited `d * age_s` seconds longer goes before a newcomer
    `d` steps above.

    Args:
        arrival_s: seconds on the monotonic clock at which it joined.
        priority: higher goes first; any finite number.
        age_s: seconds of waiting that weigh as much as one step of priority.
    """
    return arrival_s - priority * age_s
