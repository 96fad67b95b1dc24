"""What the engine costs per row, everything idle, over the chain's own `ainvoke`: `python bench/overhead.py`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import measure as m

from cottonpalm import BatchProcessor

if TYPE_CHECKING:
    from collections.abc import Mapping


class Noop(Runnable[Any, Any]):
    """The cheapest chain that still lets others run: what is left over is the engine."""

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002, ARG002
        return input

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002, ARG002
        await asyncio.sleep(0)
        return input


async def once(row: Any) -> Any:
    await asyncio.sleep(0)
    return row


def chains() -> dict[str, tuple[Runnable[Any, Any], list[Any]]]:
    """Each chain, and the rows that make one measurement."""
    prompt = ChatPromptTemplate.from_template("say {text}")
    texts = [{"text": f"row {number}"} for number in range(800)]
    return {
        "no-op": (Noop(), list(range(10_000))),
        "RunnableLambda": (RunnableLambda(once), list(range(3_000))),
        "prompt | lambda": (prompt | RunnableLambda(once), texts),
    }


def works(chain: Runnable[Any, Any], rows: list[Any], in_flight: int) -> Mapping[str, m.Work]:
    """The same rows four ways."""
    processor = BatchProcessor(chain, concurrency=in_flight)

    async def lazily() -> None:
        async with processor.astart(rows) as run:
            async for _outcome in run:
                pass

    return {
        "workers": lambda: m.workers(chain, rows, in_flight),
        "astart": lazily,
        "our abatch": lambda: processor.abatch(rows),
        "chain.abatch": lambda: chain.abatch(rows, {"max_concurrency": in_flight}),
    }


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=7)
    options.add_argument("--chain", choices=list(chains()), help="only this one")
    given = options.parse_args()
    m.headline(
        "Engine overhead, CPU µs per row over bare workers that await chain.ainvoke",
        "with astart at 64 in flight: no-op <= 12, RunnableLambda <= 20",
    )
    lines = []
    for name, (chain, rows) in chains().items():
        if given.chain not in (None, name):
            continue
        for in_flight in (64, 512):
            taken = await m.interleaved(works(chain, rows, in_flight), given.repeats)
            cpu = {way: m.per_row_us(one, len(rows)) for way, one in taken.items()}
            base = cpu.pop("workers")
            lines.append([name, in_flight, median(base), *(m.over(one, base) for one in cpu.values())])
    m.table(["chain", "in flight", "ainvoke itself", "+ astart", "+ our abatch", "+ chain.abatch"], lines)


if __name__ == "__main__":
    asyncio.run(main())
