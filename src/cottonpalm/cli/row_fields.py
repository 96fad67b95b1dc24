"""A row's id and priority, taken from fields of its own."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any

from cottonpalm.cli.problems import Problem
from cottonpalm.cli.row_source import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class FirstPlaces:
    """Where each text was met first, in about 20 bytes a text however long it is."""

    def __init__(self) -> None:
        self._count = 0
        self._make(1 << 10)

    def met(self, text: str, place: int) -> int | None:
        """The place (from 1 on) at which this text was met before; None, and this place is noted."""
        word = hash(text) & 0xFFFF_FFFF_FFFF_FFFF
        at = self._find(word)
        if self._places[at]:
            return self._places[at]
        self._words[at], self._places[at] = word, place
        self._count += 1
        if self._count * 3 > len(self._words) * 2:
            self._grow()
        return None

    def _find(self, word: int) -> int:
        """Where a word stands, or the free place where it belongs."""
        words, places, mask = self._words, self._places, self._mask
        at = word & mask
        while places[at] and words[at] != word:
            at = (at + 1) & mask
        return at

    def _make(self, size: int) -> None:
        self._words, self._places, self._mask = array("Q", [0]) * size, array("Q", [0]) * size, size - 1

    def _grow(self) -> None:
        words, places = self._words, self._places
        self._make(2 * len(words))
        for word, place in zip(words, places, strict=True):
            if place:
                at = self._find(word)
                self._words[at], self._places[at] = word, place


@dataclass(slots=True)
class RowFields:
    """Which fields of a row hold its id and its priority; None: there are none.

    An id is text or a number, another one in each row. A priority is a number; higher starts first.
    """

    id: str | None = None
    priority: str | None = None
    _places: FirstPlaces = field(default_factory=FirstPlaces)

    def check_columns(self, columns: Iterable[str], name: str) -> None:
        """Both are columns of the input.

        Raises:
            Problem: one is not; the message names the columns there are.
        """
        for option, column in (("--id-field", self.id), ("--priority-field", self.priority)):
            if column is not None and column not in columns:
                raise Problem(f"{option} {column}: {name} has no such column; it has {listed(columns)}")

    def wrong(self, row: Mapping[str, Any], place: int, unit: str) -> str | None:
        """What is wrong with a row's id or priority, if anything.

        Args:
            row: the row.
            place: its line.
            unit: what places are called.
        """
        for column in (self.id, self.priority):
            if column is not None and column not in row:
                return f"no column {column!r}; this row has {listed(row)}"
        if self.priority is not None and _number(row[self.priority]) is None:
            return f"the priority in {self.priority!r} is {_told(row[self.priority])}, not a number"
        return None if self.id is None else self._wrong_id(row[self.id], place, unit)

    def _wrong_id(self, value: Any, place: int, unit: str) -> str | None:
        if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
            return f"the id in {self.id!r} is {_told(value)}; it must be text or a number"
        before = self._places.met(str(value), place)
        return None if before is None else f"the id {_told(value)} is the one of {unit} {before} already"

    def id_of(self, row: Any) -> str | None:
        """A row's id; None where it cannot be used."""
        return str(row[self.id]) if isinstance(row, dict) and self.id in row else None

    def priority_of(self, row: Any) -> float | None:
        """A row's priority; None where it cannot be used."""
        return _number(row.get(self.priority)) if isinstance(row, dict) else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if isfinite(number) else None


def _told(value: Any) -> str:
    if value == "" or value is None:
        return "empty"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
