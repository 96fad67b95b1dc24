"""Refusals that do not say of what: one may be of one input, but several before anything succeeded are of all."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from typing import Final

from cottonpalm.types import Fault, Kind

ENOUGH: Final = 3


class Refusals:
    """Counts those of one run, by key. Thread-safe."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def judged(self, key: str, fault: Fault, *, accepted: bool) -> Fault:
        """A bare refusal: it fails its row, or stops the run where so many came and nothing was `accepted` there."""
        if accepted:
            return fault
        with self._lock:
            self._seen[key] += 1
            enough = self._seen[key] >= ENOUGH
        return replace(fault, kind=Kind.STOP_RUN) if enough else fault
