"""What it costs per row that nothing is lost: a SQLite store against none: `python bench/durability.py`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import measure as m

from cottonpalm import BatchProcessor

TEXT = "A sentence of an answer that somebody waited for. " * 10
ROWS = {1: 1_000, 8: 4_000, 64: 8_000, 512: 8_000}  # in flight: rows of one measurement


class Answers(Runnable[Any, Any]):
    """Gives 0.5 kB of text, or a message with usage and metadata, after letting others run once."""

    def __init__(self, *, message: bool) -> None:
        self.message = message

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002, ARG002
        if not self.message:
            return f"{TEXT}{input}"
        usage = {"input_tokens": 12, "output_tokens": 120, "total_tokens": 132}
        metadata = {"model_name": "gpt-4o-mini", "finish_reason": "stop", "id": f"chatcmpl-{input}"}
        return AIMessage(f"{TEXT}{input}", usage_metadata=usage, response_metadata=metadata)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002, ARG002
        await asyncio.sleep(0)
        return self.invoke(input)


def works(folder: Path, in_flight: int, *, message: bool) -> dict[str, m.Work]:
    """The same rows without and with a store; each run of the store has a name of its own."""
    rows, numbers, chain = list(range(ROWS[in_flight])), count(), Answers(message=message)

    async def drained(**more: Any) -> None:
        processor = BatchProcessor(chain, concurrency=in_flight, **more)
        async with processor.astart(rows) as run:
            async for _outcome in run:
                pass

    path = folder / f"{in_flight}-{message}.db"
    return {"none": drained, "store": lambda: drained(store=path, run=f"run {next(numbers)}")}


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=7)
    options.add_argument("--folder", help="where the files go; a folder on the disk that matters to you")
    given = options.parse_args()
    m.headline(
        "Durability, µs per row that a SQLite store adds to the same run without one (opening and closing included)",
        "CPU <= 10 for 0.5 kB of text, <= 35 for messages",
    )
    lines = []
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        for message in (False, True):
            for in_flight, rows in ROWS.items():
                taken = await m.interleaved(works(Path(folder), in_flight, message=message), given.repeats)
                cpu = {name: m.per_row_us(one, rows) for name, one in taken.items()}
                wall = {name: m.per_row_us(one, rows, wall=True) for name, one in taken.items()}
                added = m.over(cpu["store"], cpu["none"]), m.over(wall["store"], wall["none"])
                lines.append(["message" if message else "text", in_flight, median(cpu["none"]), *added])
    m.table(["answer", "in flight", "CPU without", "+ CPU", "+ wall"], lines)


if __name__ == "__main__":
    asyncio.run(main())
