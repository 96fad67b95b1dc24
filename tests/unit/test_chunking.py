"""Rows counted by chunk: each row in its chunk, each chunk told of once, when all of its rows are over."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from cottonpalm.engine.chunking import Chunking
from cottonpalm.events import ChunkFinished


@given(
    total=st.integers(0, 60),
    size=st.integers(1, 20),
    stored=st.sets(st.integers(0, 59)),
    failed=st.sets(st.integers(0, 59)),
    seed=st.integers(0, 1000),
)
def test_whatever_the_order_of_the_ends_every_chunk_is_told_once_with_its_own_rows(
    total: int, size: int, stored: set[int], failed: set[int], seed: int
) -> None:
    rng, counting, told = Random(seed), Chunking(size), list[ChunkFinished]()
    under_way: list[int] = []
    index = 0
    while index < total or under_way:
        if index < total and (not under_way or rng.random() < 0.5):
            if index in stored:
                run = next(n for n in range(index, total + 1) if n == total or n not in stored) - index
                told += counting.read(index, run, stored=True)
                index += run
            else:
                told += counting.read(index)
                counting.began(index, float(index))
                under_way.append(index)
                index += 1
            continue
        row = under_way.pop(rng.randrange(len(under_way)))
        told += counting.ended(row, "failed" if row in failed else "ok", 100.0)
    told += counting.closed()
    assert sorted(chunk.index for chunk in told) == list(range(-(-total // size)))
    assert counting.finished == len(told)
    for chunk in told:
        rows = range(chunk.index * size, min(total, (chunk.index + 1) * size))
        assert chunk.rows == len(rows) == chunk.ok + chunk.failed + chunk.stored
        assert chunk.stored == len(stored & set(rows))
        assert chunk.failed == len((failed - stored) & set(rows))


def test_a_full_chunk_is_finished_at_once_a_short_one_when_the_input_is_at_its_end() -> None:
    counting = Chunking(2)
    for index in range(3):
        assert counting.read(index) == []
        counting.began(index, 10.0 + index)
    assert counting.ended(1, "ok", 20.0) == []
    assert counting.ended(0, "failed", 21.0) == [ChunkFinished(0, 2, 1, 1, 0, 11.0)]
    assert counting.ended(2, "ok", 22.0) == [], "a fourth row may still come"
    assert counting.closed() == [ChunkFinished(1, 1, 1, 0, 0, 10.0)]


def test_rows_with_gaps_between_them_close_the_chunks_they_have_passed() -> None:
    """The failed rows of a store, done again each in its place."""
    counting = Chunking(10)
    counting.read(3)
    counting.read(7)
    assert counting.ended(3, "ok", 1.0) == []
    assert counting.ended(7, "ok", 1.0) == []
    assert [chunk.index for chunk in counting.read(42)] == [0]
    assert not counting.under_way(0)
    assert counting.under_way(4)


def test_a_chunk_with_a_skipped_row_is_not_finished() -> None:
    counting = Chunking(1)
    counting.read(0)
    assert counting.ended(0, "skipped", 1.0) == []
    assert counting.closed() == []
