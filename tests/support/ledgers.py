"""What of a ledger settles by itself, after a run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cottonpalm.request.money.ledger import Ledger


def settle(ledger: Ledger) -> None:
    """Wait, for five seconds at most, for copies that were given up and grants to rows that are gone."""
    until = time.monotonic() + 5
    while ledger.reserved and time.monotonic() < until:
        time.sleep(0.001)
