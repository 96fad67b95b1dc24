"""Which questions are being asked now, and who waits for their answers: rows of one run, or of several."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from cottonpalm.types import PARKED, Item, Parked

if TYPE_CHECKING:
    from cottonpalm.engine.gates.entries import Answer, Shelf


class Waiting(Protocol):
    """Where the rows of one run wait. Its methods may be called from any thread."""

    def serve(self, items: list[Item], answer: Answer) -> None:
        """Here is what these rows waited for."""

    def try_again(self, item: Item) -> None:
        """Nobody asks this question any more: let this row in, to see whether it is the one to ask."""


@dataclass(slots=True)
class _Flight:
    """One question. `led` is False from the moment its asker has failed until the next one is let in."""

    led: bool = True
    waiting: dict[Waiting, list[Item]] = field(default_factory=dict)


class SingleFlight:
    """One asker for each question, whatever run, thread or event loop it belongs to.

    Every row that was told to wait is served, or let in again, exactly once, unless its run leaves before. After a
    failure one row of *each* run that waits is let in, and the first to come asks: a run whose reader has stopped
    reading cannot hold up the others.

    Args:
        shelf: where the answers are kept; its lock guards what is here as well, so that a question is either
            answered or under way.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._flights: dict[bytes, _Flight | None] = {}  # None: it is asked, and nobody waits, as most are
        self._shelf, self._lock, self._answers = shelf, shelf.lock, shelf.answers

    def ask(self, key: bytes, where: Waiting, item: Item) -> Answer | Parked | None:
        """The answer; PARKED: the row now waits for it; None: it is the one to ask.

        After None, `answered` or `failed` must follow.
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
        """The row that was to ask waits as well: another process is asking."""
        with self._lock:
            self._with_room(key).waiting.setdefault(where, []).append(item)

    def answered(self, key: bytes, answer: Answer) -> None:
        """Keep the answer, and serve all who wait."""
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

    def failed(self, key: bytes) -> None:
        """There is no answer: one row of each run that waits is let in again."""
        with self._lock:
            if (flight := self._flights[key]) is None:
                del self._flights[key]
                return
            flight.led = False
            chosen = [(where, items.pop(0)) for where, items in flight.waiting.items()]
            flight.waiting = {where: items for where, items in flight.waiting.items() if items}
            if not flight.waiting:
                del self._flights[key]
        for where, item in chosen:
            where.try_again(item)

    def leave(self, where: Waiting) -> None:
        """This run is over: nobody of it waits any more."""
        with self._lock:
            for key, flight in tuple(self._flights.items()):
                if flight is None:
                    continue
                flight.waiting.pop(where, None)
                if not (flight.led or flight.waiting):
                    del self._flights[key]

    def _with_room(self, key: bytes) -> _Flight:
        """The flight of a question that is asked, with room for those who wait. Lock held."""
        flight = self._flights[key]
        if flight is None:
            flight = self._flights[key] = _Flight()
        return flight
