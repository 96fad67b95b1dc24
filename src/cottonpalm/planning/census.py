"""Reads all rows once, in bounded memory: counts the rows that would be asked, and draws some of them at random."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from cottonpalm.engine.input.frames import no_rows
from cottonpalm.engine.input.keys import Distinct

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cottonpalm.engine.input.reader import Reader
    from cottonpalm.types import Item

    Known: TypeAlias = Callable[[list[Item]], Awaitable[set[int]]]

LOOKED: Final = 100  # the most rows whose requests a plan looks at
BLOCK: Final = 512  # rows looked up in the cache at once


@dataclass(slots=True)
class Census:
    """What one pass over the rows found. `drawn` is a random draw of the rows to be asked, in input order."""

    rows: int = 0
    unreadable: int = 0
    cached: int = 0
    asked: int = 0
    distinct: Distinct = field(default_factory=Distinct)
    drawn: list[Item] = field(default_factory=list)


async def census(rows: Any, reader: Reader, draw: int, known: Known | None) -> Census:
    """Read all rows once.

    Args:
        rows: any iterable, or async iterable.
        reader: makes items of the rows, and knows which rows the store holds.
        draw: how many rows to draw from those that would be asked.
        known: which items of a block (by their places) the cache can answer; None where there is no cache, and equal
            rows are asked each for itself.
    """
    found, rng = Census(), Random(0)  # noqa: S311 - the same rows give the same plan
    block: list[Item] = []
    async for row in _each(rows):
        item = reader.item(row)
        if item is not None and _counts(found, item, once=known is not None):
            block.append(item)
        if len(block) >= BLOCK or reader.read % BLOCK == 0:
            await _look_up(found, block, known, draw, rng)
    await _look_up(found, block, known, draw, rng)
    found.rows = reader.read
    found.drawn.sort(key=lambda item: item.index)
    return found


def _counts(found: Census, item: Item, *, once: bool) -> bool:
    """Whether the run would ask this row, as far as one can tell from the rows before it."""
    if item.broken is not None:
        found.unreadable += 1
        return False
    before = found.distinct.repeats
    found.distinct.add(item.question)
    return not once or found.distinct.repeats == before


async def _look_up(found: Census, block: list[Item], known: Known | None, draw: int, rng: Random) -> None:
    """Count a block of rows that the store does not hold, and draw from those that the cache cannot answer."""
    answered = set() if known is None or not block else await known(block)
    found.cached += len(answered)
    for place, item in enumerate(block):
        if place not in answered:
            _draw(found, item, draw, rng)
    block.clear()
    await asyncio.sleep(0)  # let the other tasks of this loop run


def _draw(found: Census, item: Item, most: int, rng: Random) -> None:
    """Draw by reservoir sampling (Vitter 1985, algorithm R)."""
    found.asked += 1
    if len(found.drawn) < most:
        found.drawn.append(item)
    elif (place := rng.randrange(found.asked)) < most:
        found.drawn[place] = item


async def _each(rows: Any) -> AsyncIterator[Any]:
    if isinstance(rows, AsyncIterable):
        async for row in rows:
            yield row
        return
    if not isinstance(rows, Iterable):
        raise no_rows(rows)
    for row in rows:
        yield row
