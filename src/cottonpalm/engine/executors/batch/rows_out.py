"""Which rows of a run wait for batches, which are ready for their next round, and which are finished live."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from cottonpalm.engine.executors.batch.shelf import RowShelf
    from cottonpalm.providers.batches.lines import Result
    from cottonpalm.providers.batches.stages import Member
    from cottonpalm.types import Item

UNREAD: Final = (
    512  # finished rows that the reader has not taken: with more of them, none is finished besides
)
RECORDED: Final = 128  # rows that may be recorded or answered at once: that is work of this process alone
TWICE: Final = 2  # a request that two batches brought back without an answer is asked live


class Waits:
    """The type of WAITS: the row's requests are out."""


WAITS: Final = Waits()


class RowsOut:
    """The rows that are not finished, and where they are. On the loop of the run.

    Args:
        shelf: holds what the rows say while they wait.

    Attributes:
        ready: rows whose next round may begin: take them with `go_on`.
        waiting: rows that have a request in a batch or a spool, by slot.
        live: slots of rows that are finished live.
        sending: how many are being finished live now.
        begun: slots of rows that passed the gates and are not finished.
        done: slots of rows whose answers need not be kept for another round.
        owed: slots of rows that have requests out, or answers of a batch, and are not finished...
        left: ...and those of them that an earlier process left, and that have not come yet.
    """

    def __init__(self, shelf: RowShelf) -> None:
        self._shelf = shelf
        self.ready: deque[Item] = deque()
        self.waiting: dict[int, Item] = {}
        self.live: set[int] = set()
        self.sending = 0
        self.begun: set[int] = set()
        self.done: list[int] = []
        self.owed: set[int] = set()
        self.left: set[int] = set()
        self._out: dict[int, tuple[bytes, ...]] = {}  # requests of a row that are in a batch, or in a spool
        self._given_up: dict[int, set[bytes]] = {}  # those that are out, and are not waited for
        self._lost: Counter[Member] = Counter()  # how often a request came back without an answer

    def out(self, slot: int) -> Collection[bytes]:
        """Return the requests of a row that are waited for."""
        return self._out.get(slot, ())

    def sent(self, slot: int, key: bytes) -> None:
        """A request of the row is in a batch, or in a spool."""
        self.owed.add(slot)
        if key not in (out := self._out.get(slot, ())):
            self._out[slot] = (*out, key)

    def found(self, slots: Iterable[int]) -> None:
        """An earlier process left these rows, with requests out or answers of a batch."""
        self.left.update(slots)
        self.owed |= self.left

    def begin(self, slot: int) -> None:
        """The row has come, and has passed the gates."""
        self.begun.add(slot)
        self.left.discard(slot)

    def finish(self, slot: int) -> None:
        """The row is finished, or left to another call."""
        self.begun.discard(slot)
        self.owed.discard(slot)
        self.left.discard(slot)

    def wait(self, item: Item) -> None:
        """The row's round is over: it waits, or where nothing of it is out by now, begins its next round."""
        if self._out.get(item.slot):
            self._shelf.put(item)
            self.waiting[item.slot] = item
        else:
            self.ready.append(item)

    def go_on(self) -> Item:
        """Return the row whose next round is to begin."""
        return self._shelf.take(self.ready.popleft())

    def known(self, slot: int, found: Mapping[bytes, Result | None]) -> dict[bytes, Result | None] | None:
        """Return what the row has asked, as far as it counts; None: its batch ended while the book was read.

        Args:
            slot: the row.
            found: what the book says.
        """
        out, given_up = self.out(slot), self._given_up.get(slot, ())
        known = {key: result for key, result in found.items() if result is not None or key not in given_up}
        if any(result is None and key not in out for key, result in known.items()):
            return None
        return {**known, **dict.fromkeys(out)}

    def over(self, members: Iterable[Member], lost: Iterable[Member], *, live: bool) -> None:
        """A batch is over: rows that have all their answers go into their next round.

        Args:
            members: what was in it.
            lost: those that came back without an answer.
            live: what came back without an answer is asked live.
        """
        for member in lost:
            self._lost[member] += 1
            if live or self._lost[member] >= TWICE:
                self.live.add(member.row)
        self._back(members)
        for member in members:
            self._given_up.get(member.row, set()).discard(member.key)

    def give_up(self, members: Iterable[Member], *, live: bool) -> None:
        """These requests are out, and are not waited for: their rows ask them anew, live or in another batch."""
        members = list(members)
        for member in members:
            if member.key in self.out(member.row) or member.row not in self._out:
                self._given_up.setdefault(member.row, set()).add(member.key)
                if live:
                    self.live.add(member.row)
        self._back(members)

    def _back(self, members: Iterable[Member]) -> None:
        for member in members:
            out = tuple(key for key in self._out.get(member.row, ()) if key != member.key)
            if out:
                self._out[member.row] = out
            else:
                self._out.pop(member.row, None)
                if (item := self.waiting.pop(member.row, None)) is not None:
                    self.ready.append(item)

    def all_back(self) -> list[Item]:
        """The run ends: return all rows that wait; they are to be done by another call."""
        items = [self._shelf.take(item) for item in (*self.waiting.values(), *self.ready)]
        self.waiting.clear()
        self.ready.clear()
        return items
