"""What age leaves of what is known of a provider's limits. No clock, no I/O."""

from __future__ import annotations

import math
from typing import Final

HALF_S: Final = 86_400.0  # after a day half of it is believed, after two a quarter


def aged(value: float, without: float, age_s: float) -> float:
    """What is left of a value after so long: it goes back to what one begins with when nothing is known."""
    return without + (value - without) * math.exp2(-max(0.0, age_s) / HALF_S)
