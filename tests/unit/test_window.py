"""The waiting room of rows: order, room, and who goes first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm.engine.input.window import Window
from cottonpalm.runtime.priority import AGE_S
from cottonpalm.types import Item


def drained(window: Window) -> list[int]:
    found = []
    while (item := window.pop()) is not None:
        found.append(item.index)
    return found


def test_without_priorities_first_come_is_first_served() -> None:
    window = Window(10, ordered=False)
    for n in range(5):
        window.extend([Item(n, n, priority=n)], arrival_s=0)
    assert drained(window) == [0, 1, 2, 3, 4]
    assert window.pop() is None


@given(st.lists(st.integers(-3, 3)))
def test_rows_that_came_together_go_by_priority_then_by_input_order(priorities: list[int]) -> None:
    window = Window(10, ordered=True)
    for n, priority in enumerate(priorities):
        window.extend([Item(n, n, priority=priority)], arrival_s=5.0)
    assert drained(window) == sorted(range(len(priorities)), key=lambda n: (-priorities[n], n))


def test_rows_that_are_to_go_first_do_so_within_their_chunk() -> None:
    window = Window(10, ordered=True, chunk_size=2)
    for n in range(4):
        window.extend([Item(n, n, priority=-n, slot=n)], arrival_s=0, first={1, 3})
    assert drained(window) == [1, 0, 3, 2]


def test_waiting_outweighs_priority_in_the_end() -> None:
    for later_s, first in ((AGE_S - 1, 1), (AGE_S + 1, 0)):
        window = Window(10, ordered=True)
        window.extend([Item(0, "low", priority=0)], arrival_s=0)
        window.extend([Item(1, "high", priority=1)], arrival_s=later_s)
        assert drained(window)[0] == first


@pytest.mark.parametrize("ordered", [False, True])
def test_a_row_that_comes_back_goes_before_all_others(ordered: bool) -> None:
    window = Window(10, ordered=ordered)
    for n in range(3):
        window.extend([Item(n, n, priority=9)], arrival_s=0)
    back = window.pop()
    assert back is not None
    window.push_back(back)
    window.push_back(Item(7, 7))
    assert drained(window) == [7, 0, 1, 2]


@given(st.lists(st.booleans()), st.booleans())
def test_room_is_what_is_missing_and_never_negative(steps: list[bool], ordered: bool) -> None:
    window, inside = Window(4, ordered=ordered), 0
    for number, push in enumerate(steps):
        if push:
            window.extend([Item(number, number)], arrival_s=0)
            inside += 1
        else:
            inside -= window.pop() is not None
        assert len(window) == inside
        assert window.room == max(0, 4 - inside)
    window.capacity = 100
    assert window.room == 100 - inside
