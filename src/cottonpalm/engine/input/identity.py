"""Finds the stored row that an input row is: in parallel order, across small edits by looking ahead, else by key."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final

from cottonpalm.engine.input.keys import same_question
from cottonpalm.protocols import RunStore, Slot
from cottonpalm.store_extras import ComparesBlocks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from cottonpalm.providers.batches.stages import AskedRow

NEW: Final = 0  # the status of a row for which nothing is stored
DONE: Final = frozenset({1, 3})  # the statuses ok and failed for good
_PAGE: Final = 1024
_NEAR: Final = 64
_MANY: Final = 64  # if this many rows share one key, the matcher keeps their slots in memory
_NOWHERE: Final = -2


class Matcher:
    """Gives each input row its slot in the store. Ask it once per row, in input order.

    The matcher compares input rows with stored rows in slot order. If an input row has moved, the matcher looks for it
    among the next `look_ahead` stored rows, then by its key in the whole run. So neither inserted rows nor a shuffle
    make the user pay twice for a row. Of several equal rows, each takes a different stored row. The matcher ignores
    rows that were stored after it was made.

    A row that is not stored may be one that waits for the answer of a batch: it has its slot, too, wherever it stands.

    While no row has moved, a row takes the slot of its position, even if nothing is stored there (an earlier process
    ended while the row was in flight). After the first row that moved, each row not found gets a slot behind the last.

    Attributes:
        changed: rows found by their id that now ask another question: they keep the slot, but not the stored answer.
        added: rows for which nothing was stored.
        held: the slots of rows that wait for batches.
        over: every stored row is taken, so all further rows are new: `new_slot` gives each its slot.
    """

    def __init__(self, run: RunStore, *, look_ahead: int = 4096, waiting: Iterable[AskedRow] = ()) -> None:
        self.changed = self.added = 0
        self._run, self._look_ahead = run, look_ahead
        self._last = run.last_slot()
        self._waiting: dict[bytes, list[AskedRow]] = {}  # for batches; the first of equal ones stands last
        self.held = set[int]()
        for row in sorted(waiting, reverse=True):
            self._waiting.setdefault(row.key, []).append(row)
            self.held.add(row.row)
        self._end = max(self._last, max(self.held, default=-1))
        self._free = self._end + 1  # the next free slot behind all of them
        self._used = bytearray(self._end + 1)
        self._page: list[Slot] = []
        self._at = 0
        self._scanned = -1  # the highest slot that was read into a page
        self._skipped: dict[bytes, list[Slot]] = {}  # stored rows passed over; their input rows may come
        self._skipped_count = 0
        self._many: dict[bytes, array[int]] = {}  # slots of keys that many rows have
        self._next = 0  # the position of the next row
        self._moved = False  # True: some row was not at its position
        self._dropped = False  # True: `_skipped` lost some stored rows, and only a look-up finds them now
        self.over = False
        self._looked_up = _NOWHERE  # the slot of the last row that only a look-up found

    @property
    def last_slot(self) -> int:
        """The highest slot in use when the matcher was made, or -1."""
        return self._last

    @property
    def next_slot(self) -> int:
        """Return the slot of the next row, if the row has not moved."""
        return self._next

    @property
    def more(self) -> bool:
        """Whether there are stored rows behind that slot."""
        return self._next <= self._last

    def match(self, key: bytes, content: bytes) -> Slot:
        """Return the row's slot. Its status is 0 if nothing is stored, or only the answer to another question.

        Its content is the stored one: it differs from `content` where a part of the row has changed that is not asked.

        Args:
            key: the row's identity (`keys.id_key` of its id, else its content key).
            content: the key of what is asked.
        """
        try:
            stored = self._page[self._at]
        except IndexError:
            return self._search(key, content)
        if stored[1] != key or key in self._skipped or self._used[stored[0]]:
            return self._search(key, content)
        self._at += 1
        return self._take(stored, content)

    def new_slot(self) -> int:
        """Return the slot of the next row, where all further rows are new."""
        self.added += 1
        slot = self._free
        self._free += 1
        return slot

    def all_done(
        self, keys: Sequence[bytes], contents: Sequence[bytes], statuses: AbstractSet[int] = DONE
    ) -> bool:
        """Whether the next rows are all done and have not moved. If so, they count as matched, at a third of the cost.

        If not, nothing has changed: call `match` for each row. Best is to pass a few hundred rows at a time.

        Args:
            keys: the identities of the next rows, in order.
            contents: the keys of what they ask; may be the same object as `keys`.
            statuses: what counts as done.
        """
        first, behind = self._next, self._next + len(keys)
        if first == behind or behind > self._last + 1 or any(self._used[first:behind]):
            return False
        if self._skipped and not self._skipped.keys().isdisjoint(keys):  # an equal row was passed over
            return False
        run = self._run
        if not isinstance(run, ComparesBlocks) or not run.same_rows(first, keys, contents, statuses):
            return False
        self._used[first:behind] = b"\x01" * len(keys)
        self._next = behind
        self._read_on_from(first, behind)
        return True

    def _read_on_from(self, first: int, behind: int) -> None:
        """Go on reading behind a block of rows that were matched by position."""
        at = self._page[self._at][0] if self._at < len(self._page) else self._scanned + 1
        if behind > at:
            self._dropped = self._dropped or not all(self._used[at:first])
            self._page, self._at, self._scanned = [], 0, behind - 1

    def _take(self, stored: Slot, content: bytes) -> Slot:
        slot = stored[0]
        self._used[slot] = 1
        if slot != self._next:
            self._moved = True
        self._next = slot + 1
        if same_question(stored[2], content):
            return stored
        self.changed += 1
        return Slot(slot, stored[1], content, NEW)

    def _search(self, key: bytes, content: bytes) -> Slot:
        stored = self._from_skipped(key) or self._from_ahead(key)
        if stored is None:
            if self._is_complete():
                settled = not (self._skipped or self._waiting)
                self.over = settled and (self._moved or self._next > self._end)
            elif not self._is_gap():
                stored = self._from_anywhere(key)
        if stored is None and self._waiting:
            stored = self._from_waiting(key)
        return self._new(key, content) if stored is None else self._take(stored, content)

    def _new(self, key: bytes, content: bytes) -> Slot:
        if not self.over and self._is_gap():
            self.added += 1
            slot = self._next
            self._used[slot] = 1
            self._next += 1
        else:
            slot = self.new_slot()
            self._moved = True
        return Slot(slot, key, content, NEW)

    def _from_waiting(self, key: bytes) -> Slot | None:
        """A row that was never stored, and has a request in a batch."""
        while rows := self._waiting.get(key):
            row = rows.pop()
            if not rows:
                del self._waiting[key]
            if not self._used[row.row] and not self._is_stored(row.row):
                return Slot(*row, NEW)
        return None

    def _is_stored(self, slot: int) -> bool:
        following = self._run.scan(slot - 1, 1) if slot <= self._last else []
        return bool(following) and following[0][0] == slot

    def _is_gap(self) -> bool:
        """Whether nothing is stored at the row's position because an earlier process was interrupted."""
        if self._moved or self._next > self._end or self._next in self.held:
            return False
        return not self._is_stored(self._next)

    def _is_complete(self) -> bool:
        """Whether all stored rows were read and none was dropped, so that a look-up cannot find any more."""
        return self._scanned >= self._last and self._at >= len(self._page) and not self._dropped

    def _from_skipped(self, key: bytes) -> Slot | None:
        waiting = self._skipped.get(key)
        while waiting:
            stored = waiting.pop(0)
            self._skipped_count -= 1
            if not waiting:
                del self._skipped[key]
            if not self._used[stored[0]]:
                return stored
        return None

    def _from_ahead(self, key: bytes) -> Slot | None:
        """Read on until the row is found, or `look_ahead` stored rows were passed over."""
        while (stored := self._peek()) is not None:
            if stored[1] == key:
                self._at += 1
                return stored
            if self._skipped_count >= self._look_ahead:
                return None
            self._at += 1
            self._skipped.setdefault(stored[1], []).append(stored)
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
            page = self._run.scan(self._scanned, _PAGE)
            self._page, self._at = [stored for stored in page if stored[0] <= self._last], 0
            self._scanned = self._page[-1][0] if self._page else self._last

    def _from_anywhere(self, key: bytes) -> Slot | None:
        """Look the key up in the whole run. Since this is possible, `_from_ahead` need not read far."""
        self._look_ahead = min(self._look_ahead, _NEAR)
        stored = self._free_one(key)
        if stored is not None:
            self._follow(stored[0])
        return stored

    def _free_one(self, key: bytes) -> Slot | None:
        """Return the first stored row with this key that is not taken. It reads each of many such rows only once."""
        if (left := self._many.get(key)) is None:
            found = [stored for stored in self._run.find(key) if stored[0] <= self._last]
            if len(found) < _MANY:
                return next((stored for stored in found if not self._used[stored[0]]), None)
            left = self._many[key] = array("Q", [stored[0] for stored in reversed(found)])
        while left:
            if not self._used[slot := left.pop()]:
                return self._run.scan(slot - 1, 1)[0]
        return None

    def _follow(self, slot: int) -> None:
        """Go on reading here if two successive look-ups gave neighbours: then a block was moved or removed."""
        if slot == self._looked_up + 1:
            self._skipped.clear()
            self._skipped_count = 0
            self._page, self._at, self._scanned, self._dropped = [], 0, slot, True
        self._looked_up = slot
