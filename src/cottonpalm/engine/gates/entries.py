"""Answers by key in this process's memory. The least recently used is dropped first; one that is too old is ignored."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from typing import Any, Final, NamedTuple

from pydantic import BaseModel

from cottonpalm import clock
from cottonpalm.types import PICO, Outcome, Usage

_IMMUTABLE: Final = frozenset((str, bytes, int, float, bool, type(None)))
_TEXT_SIZE: Final = str.__basicsize__
_LEVELS: Final = 5  # of an answer that are copied step by step


class KnownAnswer(NamedTuple):
    """A good answer, and what it cost.

    Attributes:
        output: a private copy; `own` makes another copy for each row.
        born: `clock.wall()` when the answer came, if there is a `ttl` to compare it with.
        usage: tokens of all its requests; None if no provider reported them.
        cost_pico: pico-dollars of all its requests; None where no price is known.
        model: the name of the model that answered.
        truncated: the answer was cut, and the run accepts cut answers.
    """

    output: Any
    born: float
    usage: Usage | None = None
    cost_pico: int | None = None
    model: str | None = None
    truncated: bool = False

    @property
    def cost_usd(self) -> float | None:
        """The same in dollars."""
        return None if self.cost_pico is None else self.cost_pico / PICO

    def for_row(self, index: int) -> Outcome:
        """Return the outcome of another row that asks the same. This outcome costs nothing."""
        return Outcome(
            index,
            "ok",
            own(self.output),
            cost_pico=0,
            cached=True,
            model=self.model,
            truncated=self.truncated,
        )


def answer_of(outcome: Outcome, born: float) -> KnownAnswer:
    """Return what the cache keeps of a row that was answered at `born`."""
    output = outcome.output if type(outcome.output) in _IMMUTABLE else own(outcome.output)
    kept = (output, born, outcome.usage, outcome.cost_pico, outcome.model, outcome.truncated)
    # Twice as fast as calling the class; every new answer passes here.
    return tuple.__new__(KnownAnswer, kept)


class AnswerShelf:
    """Answers by key; the least recently used is dropped first. Hold `lock` while you use it.

    Args:
        max_entries: answers kept.
        ttl_s: seconds after which an answer is asked for again; None for never.

    Attributes:
        answers: all answers, the least recently used first; only read it.
    """

    def __init__(self, max_entries: int, ttl_s: float | None = None) -> None:
        self.lock = threading.Lock()
        self.ttl_s, self.max_entries = ttl_s, max_entries
        self.answers: OrderedDict[bytes, KnownAnswer] = OrderedDict()

    def find(self, key: bytes) -> KnownAnswer | None:
        """Return the answer and mark it as the most recently used; None if there is none, or it is too old."""
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
        """Whether an answer that came at `born` is still young enough."""
        return self.ttl_s is None or clock.wall() - born < self.ttl_s

    def __len__(self) -> int:
        return len(self.answers)

    def __contains__(self, key: bytes) -> bool:
        """Whether `find` would find it; needs no lock."""
        found = self.answers.get(key)
        return found is not None and self.is_fresh(found.born)


def own(output: Any) -> Any:
    """Return a separate copy for a row: if one reader changes its answer, no other reader may see that."""
    if type(output) in _IMMUTABLE or _is_bare_text(output):
        return output
    try:
        return _copied(output, _LEVELS)
    except Exception:  # noqa: BLE001 - an output that cannot be copied is shared, as without a cache
        return output


def _copied(value: Any, levels: int) -> Any:
    """What `copy.deepcopy` makes, in a fraction of its steps for what most answers are made of.

    It does not look for parts that are one object, so it goes only a few levels deep.
    """
    kind = type(value)
    if kind in _IMMUTABLE:
        return value
    if levels and kind is list:
        return [_copied(part, levels - 1) for part in value]
    if levels and kind is dict and _IMMUTABLE.issuperset(map(type, value)):
        return {name: _copied(part, levels - 1) for name, part in value.items()}
    if levels and isinstance(value, BaseModel) and _is_plain(value):
        made = value.__copy__()
        for name, part in value.__dict__.items():
            made.__dict__[name] = _copied(part, levels - 1)
        return made
    return copy.deepcopy(value)


def _is_plain(model: BaseModel) -> bool:
    """Whether all that it holds are its fields, and Pydantic's own code copies it."""
    kind = type(model)
    ours = kind.__copy__ is BaseModel.__copy__ and kind.__deepcopy__ is BaseModel.__deepcopy__
    return ours and not (model.__pydantic_private__ or model.__pydantic_extra__)


def _is_bare_text(output: Any) -> bool:
    """Whether it is a text of a class that adds nothing to `str` that could be changed, as LangChain's texts are."""
    kind = type(output)  # its size alone does not show attributes of any name, from Python 3.12 on
    return isinstance(output, str) and kind.__basicsize__ == _TEXT_SIZE and not kind.__dictoffset__
