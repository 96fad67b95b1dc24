"""The answers that are coming in: of each row the last words, and which few rows are shown. No clock, no I/O."""

from __future__ import annotations

from typing import Final, NamedTuple

SHOWN: Final = 4  # rows at once
KEPT: Final = 400  # characters of an answer's end: more than a line can show


class Coming(NamedTuple):
    """A row whose answer is coming in. `text` is the end of what has come; nothing: it was begun again."""

    row: int
    text: str


class ComingRows:
    """Told of each piece by one thread; read from any.

    A row that is shown keeps its line until it is over; then the row that waits longest takes that line.
    """

    def __init__(self) -> None:
        self._texts: dict[int, str] = {}  # in the order in which the answers began
        self._lines: list[int | None] = [None] * SHOWN

    def add(self, row: int, text: str) -> None:
        """One more piece of an answer."""
        if (before := self._texts.get(row)) is None:
            self._begin(row)
            before = ""
        self._texts[row] = (before + text)[-KEPT:]

    def put(self, row: int, text: str) -> None:
        """The whole answer as far as it has come, where it does not come in pieces that add up."""
        if row not in self._texts:
            self._begin(row)
        self._texts[row] = text[-KEPT:]

    def _begin(self, row: int) -> None:
        if None in self._lines:
            self._lines[self._lines.index(None)] = row

    def over(self, row: int) -> None:
        """The row has ended."""
        if self._texts.pop(row, None) is not None and row in self._lines:
            waiting = (other for other in self._texts if other not in self._lines)
            self._lines[self._lines.index(row)] = next(waiting, None)

    @property
    def shown(self) -> tuple[Coming, ...]:
        """The rows that are shown, each in its line."""
        return tuple(Coming(row, self._texts.get(row, "")) for row in tuple(self._lines) if row is not None)

    def __len__(self) -> int:
        return len(self._texts)
