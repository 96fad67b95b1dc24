"""CPU per row of chat chains over loopback HTTP, the server in another process, all ways in one run.

`python bench/speed.py` prints a table of ratios to `chain.abatch`; `--json` ends with the same as one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from itertools import count
from operator import itemgetter
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import measure as m
from tests.support.loopback import LoopbackProcess

from cottonpalm import BatchProcessor, Budget, Cache

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

FORM = '{"positive": true, "words": ["good", "warm"]}'
GOALS = {
    ("text", "ours, fast"): 1 / 8,
    ("structured", "ours, fast"): 1 / 10,
    ("text, dressed", "ours, fast"): 1 / 8,
    ("text, heard", "ours, fast"): 1 / 2.5,
    ("text", "ours, stock"): 1.02,
}


class Review(BaseModel):
    """What the structured chain asks for."""

    positive: bool
    words: list[str]


class Ear(AsyncCallbackHandler):
    """Somebody who listens, and does nothing with it."""


def chains(text_url: str, form_url: str) -> dict[str, tuple[Runnable[Any, Any], Any]]:
    """Each chain, and the config of its rows."""
    prompt = ChatPromptTemplate.from_template("Is this review positive? {text}")

    def model(url: str) -> ChatOpenAI:
        return ChatOpenAI(model="gpt-4o-mini", base_url=url, api_key="not-a-key")

    text = prompt | model(text_url) | StrOutputParser()
    form = prompt | model(form_url).with_structured_output(Review, method="json_schema")
    dressed = (
        RunnablePassthrough.assign(text=itemgetter("text"))
        | {"answer": text, "of": itemgetter("text")}
        | tidy
    )
    return {
        "text": (text, None),
        "structured": (form, None),
        "text, dressed": (dressed, None),
        "text, heard": (text, {"callbacks": [Ear()]}),
    }


def tidy(found: dict[str, str]) -> str:
    """A plain function, as most chains have one."""
    return found["answer"].strip()


async def bare(url: str, rows: list[Any], in_flight: int) -> None:
    """The same requests by aiohttp alone: no chain, no limits, nothing kept."""
    source = iter(rows)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=in_flight)) as session:

        async def work() -> None:
            for row in source:
                said = {"role": "user", "content": f"Is this review positive? {row['text']}"}
                body = orjson.dumps({"model": "gpt-4o-mini", "messages": [said]})
                headers = {"Authorization": "Bearer x", "Content-Type": "application/json"}
                async with session.post(f"{url}/chat/completions", data=body, headers=headers) as answer:
                    orjson.loads(await answer.read())["choices"][0]["message"]["content"]

        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(work())


def works(
    chain: Runnable[Any, Any], config: Any, rows: list[Any], in_flight: int, url: str, store: Path
) -> dict[str, m.Work]:
    """The same rows by each way."""
    numbers = count()
    fast, stock = (BatchProcessor(chain, concurrency=in_flight, transport=way) for way in ("fast", "stock"))

    async def everything() -> None:
        number = next(numbers)
        processor = BatchProcessor(
            chain,
            transport="fast",
            store=store,
            run=f"run {number}",
            cache=Cache(),
            budget=Budget(total=100.0, max_output_tokens=100),
            output_type=Review,
        )
        await processor.abatch(rows, config)

    plain = {"max_concurrency": in_flight, **(config or {})}
    return {
        "chain.abatch": lambda: chain.abatch(rows, plain),
        "ours, stock": lambda: stock.abatch(rows, config),
        "ours, fast": lambda: fast.abatch(rows, config),
        "ours, fast, all on": everything,
        "bare HTTP": lambda: bare(url, rows, in_flight),
    }


def rivals(python: str, url: str, rows: int, in_flight: int, repeats: int) -> dict[str, Any]:
    """CPU per row of other libraries, in a process of another Python, or what went wrong there."""
    words = [python, str(m.ROOT / "bench" / "rivals.py"), url, *map(str, (rows, in_flight, repeats))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


async def measured(given: argparse.Namespace, in_flight: int) -> list[list[Any]]:
    """The lines of one table: chain, way, CPU, ratio, goal."""
    rows = [{"text": f"review number {number}"} for number in range(given.rows)]
    lines: list[list[Any]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        LoopbackProcess(latency=0.02) as texts,
        LoopbackProcess(latency=0.02) as forms,
    ):
        forms.script({"always": {"text": FORM}})
        for name, (chain, config) in chains(texts.openai_url, forms.openai_url).items():
            url = forms.openai_url if name == "structured" else texts.openai_url
            ways = works(chain, config, rows, in_flight, url, Path(folder) / f"{name}.db")
            taken = await m.interleaved(ways, given.repeats)
            cpu = {way: m.per_row_us(one, given.rows) for way, one in taken.items()}
            for way, values in cpu.items():
                ratio, goal = m.times(values, cpu["chain.abatch"]), GOALS.get((name, way))
                against = "" if goal is None else f"{'<=' if ratio <= goal else 'above'} {goal:.3f}"
                lines.append([name, way, round(median(values)), round(ratio, 3), against])
            if given.rivals and name == "text":
                base = median(cpu["chain.abatch"])
                for way, us in rivals(given.rivals, url, given.rows, in_flight, given.repeats).items():
                    known = isinstance(us, float)
                    lines.append(
                        [name, way, round(us) if known else us, round(us / base, 3) if known else "", ""]
                    )
    return lines


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=7)
    options.add_argument("--rows", type=int, default=300)
    options.add_argument("--in-flight", type=int, nargs="*", default=[64, 256])
    options.add_argument(
        "--rivals", metavar="PYTHON", help="a Python that has the libraries of bench/rivals.py"
    )
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    tables = {}
    for in_flight in given.in_flight:
        m.headline(
            f"CPU µs per row, {in_flight} in flight",
            "text and dressed 1/8, structured 1/10, heard 1/2.5 of chain.abatch",
        )
        tables[in_flight] = await measured(given, in_flight)
        m.table(["chain", "way", "CPU µs/row", "x chain.abatch", "goal"], tables[in_flight])
    if given.json:
        m.answer(tables=tables)


if __name__ == "__main__":
    asyncio.run(main())
