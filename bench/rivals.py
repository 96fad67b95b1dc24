"""The same requests by other libraries that this Python has: `PYTHON bench/rivals.py URL ...`; see `speed.py --rivals`.

Stands alone: it runs where cottonpalm is not installed. Prints one line of JSON, CPU µs per row by library.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import json
import os
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

os.environ["OPENAI_API_KEY"] = KEY = "not-a-key"
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it fetches one otherwise
MODEL = "gpt-4o-mini"


def asked(number: int) -> str:
    return f"Is this review positive? review number {number}"


async def by_async_batch_llm(url: str, rows: int, in_flight: int) -> int:
    from async_batch_llm import ProcessorConfig, llm, process_stream

    strategy = llm(f"openai-compatible:{MODEL}", base_url=url, api_key=KEY, max_connections=in_flight)
    config = ProcessorConfig(concurrency=in_flight)
    done = 0
    async for result in process_stream(strategy, map(asked, range(rows)), config=config):
        done += bool(result.success)
    return done


async def by_flexllm(url: str, rows: int, in_flight: int) -> int:
    from flexllm import LLMClient

    messages = [[{"role": "user", "content": asked(number)}] for number in range(rows)]
    async with LLMClient(base_url=url, model=MODEL, api_key=KEY, concurrency_limit=in_flight) as client:
        results = await client.chat_batch(messages, show_progress=False)
        return sum(one.ok for one in results)


async def by_litellm(url: str, rows: int, in_flight: int) -> int:
    import litellm

    places, done = asyncio.Semaphore(in_flight), 0

    async def ask(number: int) -> None:
        nonlocal done
        said = [{"role": "user", "content": asked(number)}]
        async with places:
            answer = await litellm.acompletion(f"openai/{MODEL}", messages=said, api_base=url, api_key=KEY)
        done += answer.choices[0].message.content is not None

    async with asyncio.TaskGroup() as group:
        for number in range(rows):
            group.create_task(ask(number))
    return done


WAYS: dict[str, Callable[[str, int, int], Awaitable[int]]] = {
    "async-batch-llm": by_async_batch_llm,
    "flexllm": by_flexllm,
    "litellm": by_litellm,
}


async def measured(name: str, url: str, rows: int, in_flight: int, repeats: int) -> Any:
    """Microseconds per row; or what went wrong."""
    taken = []
    for turn in range(repeats + 1):
        gc.collect()
        at = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            done = await WAYS[name](url, rows, in_flight)
        if done != rows:
            return f"only {done} of {rows} rows were answered"
        if turn:
            taken.append((time.process_time() - at) / rows * 1e6)
    return median(taken)


def main() -> None:
    url, rows, in_flight, repeats = sys.argv[1], *map(int, sys.argv[2:5])
    found: dict[str, Any] = {}
    for name in WAYS:
        try:
            label = f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
        try:
            found[label] = asyncio.run(measured(name, url, rows, in_flight, repeats))
        except Exception as error:  # theirs, whatever it is
            found[label] = f"{type(error).__name__}: {error}"
    print(json.dumps(found))


if __name__ == "__main__":
    main()
