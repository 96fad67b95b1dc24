"""Limits hold for requests, not for rows: chains with several requests in a row, counted where they arrive."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from random import Random
from typing import TYPE_CHECKING, Any

import httpx2
import orjson
import pytest
from langchain_core.runnables import RunnableParallel
from langchain_openai import ChatOpenAI

from cottonpalm import AdaptiveConcurrency, BatchProcessor, Limits, RateLimit, clock
from cottonpalm.testing import FlakyTransport, virtual_run
from tests.support.loopback import Loopback

if TYPE_CHECKING:
    from collections.abc import Mapping

FOUR = AdaptiveConcurrency(initial=4, maximum=4)


class Provider(FlakyTransport):
    """Answers each model after its own time, and rejects what is above its own number at once."""

    def __init__(self, takes_s: Mapping[str, float], most: Mapping[str, int] | None = None) -> None:
        super().__init__()
        self.sent_at: list[float] = []
        self.peak: Counter[str] = Counter()
        self.worked_s: defaultdict[str, float] = defaultdict(float)
        self._takes_s, self._most, self._rng = takes_s, most or {}, Random(1)
        self._in_flight: Counter[str] = Counter()

    async def handle_async_request(self, request: Any) -> Any:
        self.sent_at.append(clock.now())
        model = orjson.loads(await request.aread())["model"]
        if self._in_flight[model] >= self._most.get(model, 10_000):
            await asyncio.sleep(0.05)
            return httpx2.Response(429, json={"error": {"message": "too many at once"}}, request=request)
        takes_s = self._takes_s[model] * self._rng.uniform(0.5, 1.5)
        self._in_flight[model] += 1
        self.peak[model] = max(self.peak[model], self._in_flight[model])
        try:
            await asyncio.sleep(takes_s)
            self.worked_s[model] += takes_s
            return await super().handle_async_request(request)
        finally:
            self._in_flight[model] -= 1

    def model(self, name: str) -> ChatOpenAI:
        client = httpx2.AsyncClient(transport=self)
        return ChatOpenAI(model=name, api_key="not-a-key", http_async_client=client)


def run(chain: Any, rows: int, **more: Any) -> float:
    """The virtual seconds that so many rows take."""

    async def main() -> float:
        began = clock.now()
        await BatchProcessor(chain, **{"limits": Limits(), **more}).abatch([f"row {n}" for n in range(rows)])
        return clock.now() - began

    return virtual_run(main(), 1)


@pytest.mark.parametrize("concurrency", [4, FOUR], ids=["a cap", "a ceiling of what is found"])
@pytest.mark.parametrize("way", ["batch", "abatch"])
def test_a_parallel_of_three_never_has_more_than_four_requests_in_flight(way: str, concurrency: Any) -> None:
    with Loopback(latency=0.003) as server:
        model = ChatOpenAI(model="gpt-4o-mini", base_url=server.openai_url, api_key="not-a-key")
        processor = BatchProcessor(RunnableParallel(a=model, b=model, c=model), concurrency=concurrency)
        rows = [f"row {n}" for n in range(30)]
        answers = processor.batch(rows) if way == "batch" else asyncio.run(processor.abatch(rows))
        assert len(answers) == 30
        assert server.requests == 90
        assert server.peak == 4


def test_a_parallel_of_three_never_sends_more_per_minute_than_the_limit() -> None:
    provider = Provider({"gpt-4o-mini": 1.0})
    model = provider.model("gpt-4o-mini")
    chain = RunnableParallel(a=model, b=model, c=model)
    took_s = run(chain, 120, concurrency=FOUR, rate_limit=RateLimit(requests_per_minute=90))
    sent = provider.sent_at
    assert len(sent) == 360
    assert max(sum(moment - 60 < other <= moment for other in sent) for moment in sent) <= 90
    assert provider.peak["gpt-4o-mini"] <= 4
    assert took_s <= 4.2 * 60, "and hardly less: it is a limit, not a brake"


def test_two_models_in_one_chain_each_reach_their_own_limit() -> None:
    most = {"gpt-4o-mini": 8, "gpt-4o": 24}
    provider = Provider({"gpt-4o-mini": 1.0, "gpt-4o": 3.0}, most)  # both could do eight rows a second
    chain = RunnableParallel(quick=provider.model("gpt-4o-mini"), slow=provider.model("gpt-4o"))
    took_s = run(chain, 800)
    assert dict(provider.peak) == most
    for model, limit in most.items():
        assert provider.worked_s[model] >= 0.8 * limit * took_s, "nearly all of the time in use"
    assert len(provider.sent_at) <= 1.05 * 1_600, "few were rejected"
