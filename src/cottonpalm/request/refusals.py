"""Judges refusals that name no reason: one may concern one input, but several before any success concern all rows."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from typing import Final

from cottonpalm.types import Fault, Kind

ENOUGH: Final = 3


class Refusals:
    """Counts such refusals of one run, by key. Thread-safe."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def judged(self, key: str, fault: Fault, *, accepted: bool) -> Fault:
        """Judge a refusal: it fails its row, or stops the run if many came and no request was `accepted` there."""
        if accepted:
            return fault
        with self._lock:
            self._seen[key] += 1
            enough = self._seen[key] >= ENOUGH
        return replace(fault, kind=Kind.STOP_RUN) if enough else fault
