"""CPU per row of a real chat chain over real sockets, ours against `chain.abatch`: `python bench/chat.py`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from itertools import count
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import measure as m
from tests.support.loopback import LoopbackProcess

from cottonpalm import BatchProcessor

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

FORM = '{"positive": true, "words": ["good", "warm"]}'


class Review(BaseModel):
    """What the structured chain asks for."""

    positive: bool
    words: list[str]


def chains(text_url: str, form_url: str) -> dict[str, Runnable[Any, Any]]:
    prompt = ChatPromptTemplate.from_template("Is this review positive? {text}")

    def model(url: str) -> ChatOpenAI:
        return ChatOpenAI(model="gpt-4o-mini", base_url=url, api_key="not-a-key")

    structured = model(form_url).with_structured_output(Review, method="json_schema")
    return {"text": prompt | model(text_url) | StrOutputParser(), "structured output": prompt | structured}


def works(chain: Runnable[Any, Any], rows: list[Any], in_flight: int, store: Path) -> dict[str, m.Work]:
    numbers = count()
    plain = BatchProcessor(chain, concurrency=in_flight)

    async def stored() -> None:
        processor = BatchProcessor(
            chain, concurrency=in_flight, store=store, run=f"run {next(numbers)}", output_type=Review
        )
        await processor.abatch(rows)

    return {
        "workers": lambda: m.workers(chain, rows, in_flight),
        "chain.abatch": lambda: chain.abatch(rows, {"max_concurrency": in_flight}),
        "ours": lambda: plain.abatch(rows),
        "ours, stored": stored,
    }


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=7)
    options.add_argument("--rows", type=int, default=300)
    options.add_argument("--in-flight", type=int, default=64)
    given = options.parse_args()
    m.headline(
        f"CPU µs per row of a chain over loopback HTTP, {given.in_flight} in flight, the server in another process",
        "never more than chain.abatch (x 1.00)",
    )
    rows = [{"text": f"review number {number}"} for number in range(given.rows)]
    lines = []
    with (
        tempfile.TemporaryDirectory() as folder,
        LoopbackProcess(latency=0.02) as texts,
        LoopbackProcess(latency=0.02) as forms,
    ):
        forms.script({"always": {"text": FORM}})
        for name, chain in chains(texts.openai_url, forms.openai_url).items():
            ways = works(chain, rows, given.in_flight, Path(folder) / f"{name}.db")
            taken = await m.interleaved(ways, given.repeats)
            cpu = {way: m.per_row_us(one, given.rows) for way, one in taken.items()}
            theirs = cpu["chain.abatch"]
            lines += [[f"{name}: {way}", median(one), m.times(one, theirs)] for way, one in cpu.items()]
    m.table(["", "CPU µs/row", "x chain.abatch"], lines)


if __name__ == "__main__":
    asyncio.run(main())
