"""Keeps which questions are being asked now, and which rows, of one run or several, wait for the answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from cottonpalm.types import PARKED, Item, Parked

if TYPE_CHECKING:
    from cottonpalm.engine.gates.entries import AnswerShelf, KnownAnswer


class Waiting(Protocol):
    """A run whose rows wait for answers. Its methods may be called from any thread."""

    def serve(self, items: list[Item], answer: KnownAnswer) -> None:
        """Give these rows the answer that they waited for."""

    def try_again(self, item: Item) -> None:
        """Let this row in again, since nobody asks its question now; it may become the one that asks."""


@dataclass(slots=True)
class _Flight:
    """One question and its waiting rows. `led` is False after its asker failed, until the next asker is let in."""

    led: bool = True
    waiting: dict[Waiting, list[Item]] = field(default_factory=dict)


class SingleFlight:
    """Lets only one row ask each question, over all runs, threads and event loops.

    Each row that was told to wait is served, or let in again, exactly once, unless its run leaves before. After a
    failure, one waiting row of *each* run is let in, and the first of them to arrive asks. So a run whose reader has
    stopped reading cannot delay the other runs.

    Args:
        shelf: keeps the answers. Its lock also guards the state of this object, so that a question is always either
            answered or being asked.
    """

    def __init__(self, shelf: AnswerShelf) -> None:
        self._flights: dict[bytes, _Flight | None] = {}  # None (most are): it is asked, nobody waits
        self._shelf, self._lock, self._answers = shelf, shelf.lock, shelf.answers

    def ask(self, key: bytes, where: Waiting, item: Item) -> KnownAnswer | Parked | None:
        """Return the answer, PARKED if the row now waits for it, or None if this row is the one to ask.

        After None, the caller must call `answered` or `failed`.
        """
        with self._lock:
            if key in self._answers and (known := self._shelf.find(key)) is not None:
                return known
            if key not in self._flights:
                self._flights[key] = None
                return None
            flight = self._with_room(key)
            if not flight.led:
                flight.led = True
                return None
            flight.waiting.setdefault(where, []).append(item)
            return PARKED

    def wait(self, key: bytes, where: Waiting, item: Item) -> None:
        """Let the row that was to ask wait too, since another process is asking; it stays first in line."""
        with self._lock:
            self._with_room(key).waiting.setdefault(where, []).insert(0, item)

    def answered(self, key: bytes, answer: KnownAnswer) -> None:
        """Keep the answer, and serve all rows that wait for it."""
        with self._lock:
            answers = self._answers
            answers[key] = answer
            if len(answers) > self._shelf.max_entries:
                answers.popitem(last=False)
            flight = self._flights.pop(key)
        if flight is None:
            return
        for where, items in flight.waiting.items():
            where.serve(items, answer)

    def failed(self, key: bytes, where: Waiting | None = None, more: int = 0) -> list[Item]:
        """There is no answer: let one waiting row of each run in again.

        Args:
            key: the question.
            where: a run of which more rows wait for it no longer.
            more: how many of them; they are returned.
        """
        with self._lock:
            if (flight := self._flights[key]) is None:
                del self._flights[key]
                return []
            flight.led = False
            chosen = [(run, items.pop(0)) for run, items in flight.waiting.items()]
            freed: list[Item] = []
            if where is not None and where in flight.waiting:
                freed, flight.waiting[where] = flight.waiting[where][:more], flight.waiting[where][more:]
            flight.waiting = {run: items for run, items in flight.waiting.items() if items}
            if not flight.waiting:
                del self._flights[key]
        for run, item in chosen:
            run.try_again(item)
        return freed

    def leave(self, where: Waiting) -> None:
        """This run is over: remove all of its waiting rows."""
        with self._lock:
            for key, flight in tuple(self._flights.items()):
                if flight is None:
                    continue
                flight.waiting.pop(where, None)
                if not (flight.led or flight.waiting):
                    del self._flights[key]

    def _with_room(self, key: bytes) -> _Flight:
        """Return the flight of a question that is being asked, ready to take waiting rows. Call with the lock."""
        flight = self._flights[key]
        if flight is None:
            flight = self._flights[key] = _Flight()
        return flight
