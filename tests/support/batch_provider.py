"""The Batch APIs of OpenAI, Azure, Mistral, Together, Anthropic and Gemini on 127.0.0.1, each on its own port.

Strict as documented: unknown fields, wrong endpoints, custom_ids twice, too many rows or bytes are refused. Equal
requests get equal answers, live or in a batch. What was billed, and at which price, is in `bills`.

    with BatchProvider() as provider:
        provider.faults = Faults(looks=3, expire=0.5)          # of all batches from now on
        provider.script = lambda number, rows: Faults(...)     # or one by one
        provider.weather.reads = [429, 500]
        lane_for(url, headers, body, hosts=provider.hosts)
        ChatOpenAI(base_url=provider.openai_url, ...); ChatAnthropic(base_url=provider.anthropic_url, ...)
        provider.bills, provider.jobs, provider.paid_twice()

By itself, for programs in another process: `python -m tests.support.batch_provider` prints its addresses as JSON on the
first line, takes one JSON of faults a line on stdin, and answers GET /_bills with all bills and jobs.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Self

import orjson
from aiohttp import web

from tests.support.batch_apis.anthropic import AnthropicApi
from tests.support.batch_apis.core import Core
from tests.support.batch_apis.faults import Faults, Weather, by_chance
from tests.support.batch_apis.gemini import GeminiApi
from tests.support.batch_apis.mistral import MistralApi
from tests.support.batch_apis.openai import AzureApi, OpenAIApi
from tests.support.batch_apis.together import TogetherApi

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BatchProvider", "Faults", "Weather", "by_chance"]


class BatchProvider(Core):
    """The server in a thread."""

    def __init__(self) -> None:
        super().__init__()
        self._ports: dict[str, int] = {}
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="batch-provider", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(20), "the batch provider did not start"
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(20)

    def _serve(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        runners = []
        for name, api in (
            ("openai", OpenAIApi),
            ("azure", AzureApi),
            ("mistral", MistralApi),
            ("together", TogetherApi),
            ("anthropic", AnthropicApi),
            ("gemini", GeminiApi),
        ):
            runner = web.AppRunner(api(self).app, access_log=None, shutdown_timeout=0)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self._ports[name] = runner.addresses[0][1]
            runners.append(runner)
        self._ready.set()
        await self._over.wait()
        for runner in runners:
            await runner.cleanup()

    def watch(self, asked: int, reached: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(super().watch, asked, reached)

    def url(self, provider: str) -> str:
        return f"http://127.0.0.1:{self._ports[provider]}"

    @property
    def openai_url(self) -> str:
        return self.url("openai") + "/v1"

    @property
    def mistral_url(self) -> str:
        return self.url("mistral") + "/v1"

    @property
    def anthropic_url(self) -> str:
        return self.url("anthropic")

    @property
    def gemini_url(self) -> str:
        return self.url("gemini")

    @property
    def hosts(self) -> dict[str, str]:
        """Which provider is at which address, for `lane_for`."""
        return {f"127.0.0.1:{port}": name for name, port in self._ports.items()}

    def charged(self, prices: dict[str, tuple[int, int]]) -> int:
        """Pico-dollars of all bills; `prices` are those of a token, in and out, live. A batch and flex cost half."""
        sums = {"live": 0, "flex": 0, "batch": 0}
        for bill in self.bills:
            into, out = prices[bill.model]
            sums[bill.lane] += bill.input_tokens * into + bill.output_tokens * out
        return sums["live"] + (sums["flex"] + sums["batch"]) // 2

    def paid_twice(self) -> dict[tuple[str, str], int]:
        """Questions (by model and last user text) that were charged for more than once."""
        counts = Counter((bill.model, bill.text) for bill in self.bills)
        return {question: count for question, count in counts.items() if count > 1}


def main() -> None:
    with BatchProvider() as provider:
        urls = {
            "openai": provider.openai_url,
            "anthropic": provider.anthropic_url,
            "gemini": provider.gemini_url,
        }
        print(orjson.dumps({**urls, "hosts": provider.hosts}).decode(), flush=True)
        for line in sys.stdin:
            found = orjson.loads(line)
            sets = {
                name: frozenset(found[name])
                for name in ("refused", "broken", "missing", "twice")
                if name in found
            }
            provider.faults = Faults(**{**asdict(Faults()), **found, **sets})


if __name__ == "__main__":
    main()
