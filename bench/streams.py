"""CPU per chunk of many streams at once, ours against plain `chain.astream`: `python bench/streams.py`.

Counts too: pieces that were lost or came out of order within their row, and how memory grows with the rows.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import measure as m
from tests.support.loopback import LoopbackProcess

from cottonpalm import BatchProcessor, RowChunk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.runnables import Runnable


def text_of(pieces: int) -> str:
    """So many words that each differ, all of one length: the server cuts the text into equal pieces."""
    return "".join(f"{piece:05d} " for piece in range(pieces))


async def plain(chain: Runnable[Any, Any], rows: list[Any], at_once: int) -> None:
    """Tasks over one iterator, each reading the chain's own `astream`."""
    source = iter(rows)

    async def work() -> None:
        for row in source:
            async for _ in chain.astream(row):
                pass

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())


async def ours(processor: BatchProcessor, rows: list[Any]) -> None:
    async with processor.astart(rows, stream=True) as run:
        async for _ in run:
            pass


async def pairs(processor: BatchProcessor, rows: list[Any]) -> None:
    async for _ in processor.stream_batch(rows):
        pass


async def wrong(processor: BatchProcessor, rows: list[Any], text: str) -> int:
    """Rows whose pieces are not the text, in its order."""
    seen: dict[int, list[str]] = defaultdict(list)
    async with processor.astart(rows, stream=True) as run:
        async for event in run:
            if isinstance(event, RowChunk):
                seen[event.index].append(event.chunk)
    return sum("".join(seen[row]) != text for row in range(len(rows)))


async def grown_mb(processor: BatchProcessor, rows: int) -> float:
    """How much more memory a run holds at its end than after its first tenth."""

    def lazily() -> Iterator[dict[str, str]]:
        return ({"text": f"row {row}"} for row in range(rows))

    before, events = 0.0, 0
    async with processor.astart(lazily(), stream=True) as run:
        async for event in run:
            events += not isinstance(event, RowChunk)
            if not before and events > rows / 5:  # two such events a row
                before = m.now_mb()
    return m.now_mb() - before


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--streams", type=int, default=200, help="at once")
    options.add_argument("--rows", type=int, default=200)
    options.add_argument("--pieces", type=int, default=20, help="of each answer")
    given = options.parse_args()
    m.headline(
        f"CPU µs per chunk, {given.streams} streams at once over loopback HTTP, the server in another process",
        "at most 1.3 times plain astream; nothing lost, each row in order, memory flat",
    )
    text, chunks = text_of(given.pieces), given.rows * given.pieces
    rows = [{"text": f"review number {number}"} for number in range(given.rows)]
    with LoopbackProcess() as server:
        server.script({"always": {"text": text, "chunks": given.pieces, "chunk_gap_s": 0.005}})
        model = ChatOpenAI(model="gpt-4o-mini", base_url=server.openai_url, api_key="not-a-key")
        chain = ChatPromptTemplate.from_template("Repeat: {text}") | model | StrOutputParser()
        processor = BatchProcessor(chain, concurrency=given.streams)
        taken = await m.interleaved(
            {
                "plain astream": lambda: plain(chain, rows, given.streams),
                "ours, events": lambda: ours(processor, rows),
                "ours, stream_batch": lambda: pairs(processor, rows),
            },
            given.repeats,
        )
        cpu = {way: m.per_row_us(one, chunks) for way, one in taken.items()}
        m.table(
            ["", "CPU µs/chunk", "x plain astream"],
            [[way, median(one), m.times(one, cpu["plain astream"])] for way, one in cpu.items()],
        )
        print(
            f"  rows with a piece lost or out of order: {await wrong(processor, rows, text)} of {given.rows}"
        )
        print(
            f"  memory over the last nine tenths of {given.rows} rows: {await grown_mb(processor, given.rows):+.1f} MB"
        )


if __name__ == "__main__":
    asyncio.run(main())
