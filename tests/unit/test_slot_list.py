"""Where each row of an input is in the store: as little as possible is kept of rows that have not moved."""

from __future__ import annotations

from cottonpalm.engine.input.slot_list import SlotList


def test_rows_that_have_not_moved_are_only_counted() -> None:
    slots = SlotList()
    slots.add(0, 4000)
    slots.add(4000)
    assert (len(slots), slots[0], slots[4000], len(slots.moved)) == (4001, 0, 4000, 0)


def test_from_the_first_row_that_moved_every_slot_is_kept() -> None:
    slots = SlotList()
    slots.add(0, 2)
    slots.add(7)
    slots.add(3, 2)
    assert list(slots) == [0, 1, 7, 3, 4]
    assert slots.straight == 2
