"""Which row workers die of is found in few deaths, whoever else dies meanwhile."""

from __future__ import annotations

from math import log2
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from cottonpalm.engine.executors.workers.suspects import DIED, Suspects
from cottonpalm.types import Item


def suspected(count: int) -> Suspects:
    """So many rows were with two workers that died."""
    suspects, rows = Suspects(), [Item(index, {}) for index in range(count)]
    for nth in range(DIED):
        assert suspects.died(rows) == (rows if nth < DIED - 1 else [])
    return suspects


def tried(
    suspects: Suspects, deadly: set[int], most: int, rng: Random | None = None
) -> tuple[set[int], set[int], int]:
    """All that wait are tried: who is answered, who is to blame, and how many workers died."""
    answered, blamed, deaths = set[int](), set[int](), 0
    while suspects:
        group = suspects.next(most)
        while group and group[0].index not in deadly and not (rng and rng.random() < 0.1):
            suspects.answered(index := group.pop(0).index)
            answered.add(index)
        if not group:
            suspects.survived()
            continue
        deaths += 1
        if (row := suspects.died_apart(group)) is not None:
            blamed.add(row.index)
    return answered, blamed, deaths


@given(st.integers(1, 300), st.sets(st.integers(0, 299), max_size=4), st.integers(1, 500))
def test_only_deadly_rows_are_blamed_and_each_costs_few_workers(
    count: int, deadly: set[int], most: int
) -> None:
    deadly &= set(range(count))
    answered, blamed, deaths = tried(suspected(count), deadly, most)
    assert blamed == deadly
    assert answered == set(range(count)) - deadly
    assert deaths <= len(deadly) * (log2(count) + 2)


@given(st.integers(1, 100), st.integers(0, 9))
def test_all_rows_end_where_workers_die_of_other_things_too(count: int, seed: int) -> None:
    answered, blamed, _ = tried(suspected(count), set(), 500, Random(seed))
    assert answered | blamed == set(range(count))
    assert not answered & blamed


def test_many_rows_of_machines_that_were_taken_away_are_not_tried_one_by_one() -> None:
    suspects, groups = suspected(512), 0
    while suspects:
        group = suspects.next(500)
        groups += 1
        for row in group:
            suspects.answered(row.index)
        suspects.survived()
    assert groups == 2


def test_a_row_that_was_answered_is_free_of_suspicion() -> None:
    suspects, row = Suspects(), Item(0, {})
    for _ in range(2 * DIED):
        assert suspects.died([row]) == [row]
        suspects.answered(0)
    assert not suspects


def test_those_that_wait_are_handed_back_when_the_run_stops() -> None:
    suspects = suspected(3)
    assert [row.index for row in suspects.drain()] == [0, 1, 2]
    assert not suspects
