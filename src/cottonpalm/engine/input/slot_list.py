"""The slots of an input's rows, which are nearly always the rows' own positions."""

from __future__ import annotations

from array import array


class SlotList:
    """The slot of each row, in order. It keeps a number while each slot is the row's position; then 8 bytes a row.

    Attributes:
        straight: how many rows from the start have their position as slot.
        moved: the slots of the rows after them.
    """

    def __init__(self) -> None:
        self.straight = 0
        self.moved = array("q")

    def add(self, first: int, count: int = 1) -> None:
        """Note that the next `count` rows have the slots from `first` on."""
        if not self.moved and first == self.straight:
            self.straight += count
        else:
            self.moved.extend(range(first, first + count))

    def __len__(self) -> int:
        return self.straight + len(self.moved)

    def __getitem__(self, index: int) -> int:
        return index if index < self.straight else self.moved[index - self.straight]
