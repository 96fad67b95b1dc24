"""A chain that asks a model without an SDK: the same request over the same HTTP library, at a fifth of its work.

For long runs on a virtual clock that are about the requests, their limits and their money; what an SDK makes of an
answer or an error is tested with real ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_core.runnables import RunnableLambda

from cottonpalm import BatchProcessor, Limits, RunStopped, clock
from cottonpalm.testing import virtual_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import httpx2
    from langchain_core.runnables import Runnable

    from cottonpalm.types import Outcome


class Went(NamedTuple):
    """A run: what became of the rows, why it stopped, and after how many virtual seconds."""

    outcomes: list[Outcome]
    stopped: RunStopped | None
    took_s: float


def run_all(chain: Runnable[Any, Any], rows: Iterable[Any], **more: Any) -> Went:
    """Run these rows on a virtual clock, with limits of their own."""

    async def main() -> Went:
        processor, outcomes = BatchProcessor(chain, **{"limits": Limits(), **more}), list[Any]()
        began = clock.now()
        async with processor.astart(rows) as run:
            try:
                async for outcome in run:
                    outcomes.append(outcome)
            except RunStopped as stopped:
                return Went(outcomes, stopped, clock.now() - began)
        return Went(outcomes, None, clock.now() - began)

    return virtual_run(main(), 1)


def asks(
    client: httpx2.AsyncClient,
    key: str,
    *,
    url: str = "https://api.openai.com/v1",
    says: Callable[[Any], str] = str,
) -> Runnable[Any, str]:
    """A row in, the text of the answer to what it `says` out."""
    headers = {"authorization": f"Bearer {key}"}

    async def ask(row: Any) -> str:
        body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": says(row)}]}
        response = await client.post(f"{url}/chat/completions", json=body, headers=headers)
        response.raise_for_status()
        return str(response.json()["choices"][0]["message"]["content"])

    return RunnableLambda(ask)
