"""Whether the number that fits in flight is always the same, judged by the numbers at which calls were rejected."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm.request.limiter.rules.scatter import Scatter

pytestmark = pytest.mark.core


def seen_after(ordinals: list[int]) -> bool:
    scatter = Scatter()
    for ordinal in ordinals:
        scatter.rejected(ordinal)
    return scatter.seen


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(4, 9)), max_size=40))
def test_a_limit_that_moves_now_and_then_does_not_scatter(levels: list[tuple[int, int]]) -> None:
    scatter = Scatter()
    for level, rejections in levels:
        for late in range(rejections):
            scatter.rejected(level + late % 2)  # one more had been sent before the rejection was known
            assert not scatter.seen


@given(st.integers(20, 500), st.lists(st.integers(3, 20), min_size=8, max_size=60))
def test_a_limit_that_is_never_the_same_twice_scatters_from_the_eighth_rejection(
    start: int, moves: list[int]
) -> None:
    ordinals = [start]
    for number, move in enumerate(moves):
        by = move * (1 + ordinals[-1] // 100)
        ordinals.append(ordinals[-1] + by if number % 2 else max(1, ordinals[-1] - by))
    assert seen_after(ordinals)


@given(st.lists(st.integers(1, 500), max_size=60), st.integers(1, 500))
def test_whatever_came_before_a_dozen_rejections_at_one_number_say_that_it_is_fixed(
    before: list[int], fixed: int
) -> None:
    assert not seen_after(before + [fixed] * 12)
