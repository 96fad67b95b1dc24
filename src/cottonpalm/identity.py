"""Which stored row an input row is: in order side by side, over small edits by looking ahead, else by its key."""

from __future__ import annotations

from collections import deque
from typing import Final

from cottonpalm.protocols import RunStore, Slot

NEW: Final = 0  # the status of a row that nothing is stored for
_PAGE: Final = 1024


class Matcher:
    """Gives each input row its slot; ask once per row, in input order.

    Rows are read against stored rows in slot order. An input row that is not where it was is looked for among the
    next `look_ahead` stored rows, then by its key in the whole run, so neither insertions nor shuffles repay a row.
    Of equal rows, each takes a stored one of its own. Rows stored after the matcher was made are not looked at.

    Attributes:
        matched: rows found, the changed ones included.
        changed: rows found by their id whose question is another one now: the slot is theirs, the answer is not.
        added: rows that got a new slot.
    """

    def __init__(self, run: RunStore, *, look_ahead: int = 4096) -> None:
        self.matched = self.changed = self.added = 0
        self._run, self._look_ahead = run, look_ahead
        self._last = run.last_slot()
        self._used = bytearray(self._last + 1)
        self._page: list[Slot] = []
        self._at = 0
        self._scanned = -1  # the highest slot read into a page
        self._skipped: dict[bytes, deque[Slot]] = {}  # passed over, waiting for their rows
        self._skipped_count = 0
        self._found = -2  # the slot of the last row that had to be looked up

    def match(self, key: bytes, content: bytes) -> Slot:
        """The row's slot: status 0 if nothing is stored for it, or only the answer to another question.

        Args:
            key: the row's identity (`keys.id_key` of its id, else its content key).
            content: the key of what is asked.
        """
        if not self._skipped and self._at < len(self._page):
            stored = self._page[self._at]
            if stored[1] == key and not self._used[stored[0]]:
                self._at += 1
                return self._take(stored, content)
        return self._search(key, content)

    def _take(self, stored: Slot, content: bytes) -> Slot:
        self._used[stored[0]] = 1
        self.matched += 1
        if stored[2] == content:
            return stored
        self.changed += 1
        return Slot(stored[0], stored[1], content, NEW)

    def _search(self, key: bytes, content: bytes) -> Slot:
        stored = self._from_skipped(key) or self._from_ahead(key) or self._from_anywhere(key)
        if stored is not None:
            return self._take(stored, content)
        self.added += 1
        return Slot(self._last + self.added, key, content, NEW)

    def _from_skipped(self, key: bytes) -> Slot | None:
        waiting = self._skipped.get(key)
        while waiting:
            stored = waiting.popleft()
            self._skipped_count -= 1
            if not waiting:
                del self._skipped[key]
            if not self._used[stored[0]]:
                return stored
        return None

    def _from_ahead(self, key: bytes) -> Slot | None:
        """Read on until the row turns up or `look_ahead` rows are waiting."""
        while (stored := self._peek()) is not None:
            if stored[1] == key:
                self._at += 1
                return stored
            if self._skipped_count >= self._look_ahead:
                return None
            self._at += 1
            self._skipped.setdefault(stored[1], deque()).append(stored)
            self._skipped_count += 1
        return None

    def _peek(self) -> Slot | None:
        """The next stored row that is not taken."""
        while True:
            while self._at < len(self._page):
                if not self._used[self._page[self._at][0]]:
                    return self._page[self._at]
                self._at += 1
            if self._scanned >= self._last:
                return None
            self._page, self._at = self._run.scan(self._scanned, _PAGE), 0
            self._scanned = self._page[-1][0] if self._page else self._last
            while self._page and self._page[-1][0] > self._last:
                self._page.pop()

    def _from_anywhere(self, key: bytes) -> Slot | None:
        """Look the key up in the whole run."""
        if self._skipped_count < self._look_ahead and self._scanned >= self._last and self._complete():
            return None
        for stored in self._run.find(key):
            if stored[0] <= self._last and not self._used[stored[0]]:
                self._follow(stored[0])
                return stored
        return None

    def _complete(self) -> bool:
        """Whether every stored row was passed in order, so that none can be elsewhere."""
        return self._found == -2

    def _follow(self, slot: int) -> None:
        """Two look-ups in a row gave neighbours: a block was moved or cut out, so go on reading from here."""
        if slot == self._found + 1 and slot > self._scanned - len(self._page) + self._at:
            self._skipped.clear()
            self._skipped_count = 0
            self._page, self._at, self._scanned = [], 0, slot
        self._found = slot
