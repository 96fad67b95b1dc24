"""Numbers as they come from many threads, counted in a histogram."""

from __future__ import annotations

import threading
from typing import Final

from cottonpalm.observers.measures.bounded import Histogram

MANY: Final = 1024  # values are counted at the latest when so many have gathered


class Values:
    """Numbers noted one by one, from any thread, and counted many at once, which is far cheaper."""

    __slots__ = ("_gathered", "_lock", "_seen", "note", "note_all")

    def __init__(self) -> None:
        self._seen, self._gathered = Histogram(), list[float]()
        self._lock = threading.Lock()
        self.note, self.note_all = self._gathered.append, self._gathered.extend

    @property
    def many(self) -> bool:
        """Whether it is time to count."""
        return len(self._gathered) >= MANY

    def counted(self) -> Histogram:
        """All that was noted so far."""
        with self._lock:
            now = len(self._gathered)  # others may be added meanwhile, at the end
            self._seen.add(self._gathered[:now])
            del self._gathered[:now]
        return self._seen
