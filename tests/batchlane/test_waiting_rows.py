"""Rows that wait for batches: many of them, in little memory, and none the other when it comes back."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.runnables import RunnableLambda

from cottonpalm.engine.executors.batch.rows_out import RECORDED
from cottonpalm.engine.executors.batch.shelf import RowShelf
from cottonpalm.types import Item
from tests.batchlane.kit import batched
from tests.support.lean import asks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.batch_provider import BatchProvider

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside),
    max_leaves=8,
)


class Word(str):
    __slots__ = ()


class Colour(Enum):
    RED = "red"


@given(st.lists(PLAIN, min_size=1, max_size=6), st.randoms())
def test_a_row_comes_off_the_shelf_as_it_was_put_there_in_whatever_order(rows: list[Any], rng: Any) -> None:
    shelf = RowShelf()
    try:
        _there_and_back(shelf, rows, rng)
    finally:
        shelf.close()


def _there_and_back(shelf: RowShelf, rows: list[Any], rng: Any) -> None:
    items = [Item(index, row) for index, row in enumerate(rows)]
    for item in items:
        shelf.put(item)
    rng.shuffle(items)
    for item in items:
        assert repr(shelf.take(item).row) == repr(rows[item.index])  # repr: nan is nan, 1 is not True


@pytest.mark.parametrize(
    "row",
    [(1, 2), {"a": (1,)}, {1: "a"}, Word("a"), {"a": Colour.RED}, b"x", {"a": object()}, "\ud800", 1 << 70],
)
def test_a_row_that_json_would_change_stays_in_memory(row: Any) -> None:
    shelf, item = RowShelf(), Item(0, row)
    shelf.put(item)
    assert item.row is row
    assert shelf.take(item).row is row


def test_a_batch_that_brings_back_many_rows_at_once_lets_only_so_many_go_on_at_a_time(
    server: BatchProvider, tmp_path: Path
) -> None:
    """Lazy rows: each comes back with its own text."""
    count, now, most = RECORDED + 72, 0, 0
    model = asks(httpx2.AsyncClient(), "k", url=server.openai_url, says=lambda row: row["text"])

    async def counted(row: dict[str, str]) -> Any:
        nonlocal now, most
        now += 1
        most = max(most, now)
        try:
            answer = await model.ainvoke(row)
            await asyncio.sleep(0)
        finally:
            now -= 1
        return row["text"], answer

    def lazily() -> Iterator[dict[str, str]]:
        for number in range(count):
            yield {"text": f"row {number}"}

    with batched(RunnableLambda(counted), server, tmp_path, prices=None).start(lazily()) as run:
        found = {outcome.index: (outcome.input, outcome.output) for outcome in run}
    assert found == {n: ({"text": f"row {n}"}, (f"row {n}", f"answer to: row {n}")) for n in range(count)}
    assert len(server.jobs) == 1
    assert most <= RECORDED
