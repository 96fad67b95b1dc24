"""Judges refusals that name no reason: one may concern one input, but several before any success concern all rows.

Where the address was found before, a 404 concerns no input: what stands in front of the model has lost it for a while.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from typing import Final

from cottonpalm.types import Fault, Kind

ENOUGH: Final = 3
NOT_FOUND: Final = 404


class Refusals:
    """Counts such refusals of one run, by key. Thread-safe."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def judged(self, key: str, fault: Fault, status: int, *, accepted: bool) -> Fault:
        """Judge a refusal: it fails its row, or stops the run if many came and no request was `accepted` there.

        Where one was, a 404 is tried again.
        """
        if accepted:
            return replace(fault, kind=Kind.TRANSIENT) if status == NOT_FOUND else fault
        with self._lock:
            self._seen[key] += 1
            enough = self._seen[key] >= ENOUGH
        return replace(fault, kind=Kind.STOP_RUN) if enough else fault
