"""Counts the rows that what is left of a budget does not cover, and says when to ask no others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cottonpalm.observers.words.formatting import count

if TYPE_CHECKING:
    from cottonpalm.providers.raised import TooDear

IN_VAIN: Final = 16  # after so many such rows and no answer between them, the budget counts as spent


class Unpaid:
    """The rows of a run that its budget does not cover. They are left to another call.

    One row may be far dearer than all others, so it says nothing of them. Each costs but time: its request is made, and
    not sent. But a chain of several steps may have paid for the first ones, so there must not be many.

    Attributes:
        cheapest: what was said of the row that would have cost least; None: no row was left.
    """

    def __init__(self) -> None:
        self._rows = self._in_succession = 0
        self.cheapest: TooDear | None = None

    def add(self, error: TooDear) -> bool:
        """One more; return whether others would most likely be asked in vain."""
        self._rows += 1
        self._in_succession += 1
        if self.cheapest is None or error.least < self.cheapest.least:
            self.cheapest = error
        return self._in_succession >= IN_VAIN

    def answered(self) -> None:
        """A row was answered, from wherever."""
        self._in_succession = 0

    def told(self) -> str:
        """What to say at the end of a run that has asked all its rows."""
        are = "is" if self._rows == 1 else "are"
        return f"{count(self._rows, 'row')} {are} left: {self.cheapest}"
