"""Answers by key, in this process: the least recently used goes first, and what is too old does not count."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from typing import Any, Final, NamedTuple

from cottonpalm import clock
from cottonpalm.types import Outcome, Usage

_IMMUTABLE: Final = frozenset((str, bytes, int, float, bool, type(None)))


class Answer(NamedTuple):
    """A good answer, and what it cost to get.

    Attributes:
        output: a copy of its own; `own` makes another for each row.
        born: `clock.wall()` when it came, where that will ever be asked.
        usage: tokens of all its requests; None where nobody said.
        cost_pico: pico-dollars of all its requests; None where no price is known.
        model: the model that answered.
        truncated: it was cut, and that was accepted.
    """

    output: Any
    born: float
    usage: Usage | None = None
    cost_pico: int | None = None
    model: str | None = None
    truncated: bool = False

    def for_row(self, index: int) -> Outcome:
        """The outcome of another row that asks the same: it cost nothing."""
        return Outcome(
            index,
            "ok",
            own(self.output),
            cost_pico=0,
            cached=True,
            model=self.model,
            truncated=self.truncated,
        )


def answer_of(outcome: Outcome, born: float) -> Answer:
    """What is kept of a row that was answered then."""
    output = outcome.output
    if type(output) not in _IMMUTABLE:
        output = own(output)
    kept = (output, born, outcome.usage, outcome.cost_pico, outcome.model, outcome.truncated)
    return tuple.__new__(Answer, kept)  # half the price of calling the class; every new answer passes here


class Shelf:
    """Answers by key: the least recently used goes first. To be used by whoever holds `lock`.

    Args:
        max_entries: answers kept.
        ttl_s: seconds after which an answer is asked for again; None for never.

    Attributes:
        answers: all of them, the least recently used first; to look into.
    """

    def __init__(self, max_entries: int, ttl_s: float | None = None) -> None:
        self.lock = threading.Lock()
        self.ttl_s, self.max_entries = ttl_s, max_entries
        self.answers: OrderedDict[bytes, Answer] = OrderedDict()

    def find(self, key: bytes) -> Answer | None:
        """The answer, now the most recently used; None where there is none, or it is too old."""
        if (found := self.answers.get(key)) is None:
            return None
        if not self.is_fresh(found.born):
            del self.answers[key]
            return None
        self.answers.move_to_end(key)
        return found

    def resize(self, max_entries: int) -> None:
        """Keep so many from now on."""
        with self.lock:
            self.max_entries = max_entries
            while len(self.answers) > max_entries:
                self.answers.popitem(last=False)

    def is_fresh(self, born: float) -> bool:
        """Whether an answer of that time still counts."""
        return self.ttl_s is None or clock.wall() - born < self.ttl_s

    def __len__(self) -> int:
        return len(self.answers)

    def __contains__(self, key: bytes) -> bool:
        """Whether `find` would find it; needs no lock."""
        found = self.answers.get(key)
        return found is not None and self.is_fresh(found.born)


def own(output: Any) -> Any:
    """A copy of its own for each row: what one reader changes must not show in another's answer."""
    if type(output) in _IMMUTABLE:
        return output
    try:
        return copy.deepcopy(output)
    except Exception:  # noqa: BLE001 - an output that cannot be copied is shared, as without a cache
        return output
