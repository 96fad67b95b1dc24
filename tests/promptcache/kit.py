"""What the tests of prompt caching share: long prompts, models on a provider that caches, runs in virtual time."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx2
from langchain_anthropic import ChatAnthropic
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI

from cottonpalm import AdaptiveConcurrency, BatchProcessor, Limits, clock
from cottonpalm.testing import virtual_run
from tests.support.caching_server import CachingServer
from tests.support.prompt_caching import CachingTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_core.runnables import Runnable

    from cottonpalm.observers.report import Report
    from cottonpalm.types import Outcome
    from tests.support.prompt_caching import Vendor

# 3,000 tokens of four characters, and a line of its own for what differs.
RULES = "".join(f"Rule {number:03}: say what is so and nothing else.\n" for number in range(500))[:12_000]


class Done(NamedTuple):
    """A run that is over, and what the provider saw of it."""

    provider: CachingTransport
    seconds: float
    outcomes: list[Outcome]
    report: Report
    providers: Sequence[CachingTransport] = ()  # all of them, where there are several

    @property
    def read(self) -> int:
        """Tokens that any of them read from its cache."""
        return sum(each.bill.read for each in self.providers)


def model_on(vendor: Vendor, provider: httpx2.AsyncBaseTransport | CachingTransport) -> Any:
    """A model that speaks to this provider."""
    client = httpx2.AsyncClient(transport=provider)
    if vendor.name == "Anthropic":
        model = ChatAnthropic(model=vendor.model, api_key="sk-ant-test", max_tokens=64)
        model.__dict__["_async_client"] = model._async_client.with_options(http_client=client)
        return model
    if vendor.name == "Gemini":
        return RunnableLambda(_gemini(vendor, client))
    return ChatOpenAI(
        model=vendor.model, base_url=vendor.url, api_key="sk-test", http_async_client=client, max_tokens=64
    )


def _gemini(vendor: Vendor, client: Any) -> Any:
    """The request of Google's SDK, without the SDK."""

    async def ask(prompt: Any) -> str:
        system, *others = prompt.to_messages()
        body = {
            "contents": [{"role": "user", "parts": [{"text": other.content}]} for other in others],
            "systemInstruction": {"parts": [{"text": system.content}]},
            "generationConfig": {"maxOutputTokens": 64},
        }
        url = f"{vendor.url}/models/{vendor.model}:generateContent"
        answer = (await client.post(url, json=body)).json()
        return str(answer["candidates"][0]["content"]["parts"][0]["text"])

    return ask


def asking(rules: str = RULES, human: str = "Review: {text}") -> Runnable[Any, Any]:
    """A prompt whose system message is the same in every row."""
    return ChatPromptTemplate([("system", "{rules}"), ("human", human)]).partial(rules=rules)


def rows(count: int) -> list[dict[str, str]]:
    return [{"text": f"number {n} was fine"} for n in range(count)]


def run(
    vendor: Vendor,
    mode: str = "auto",
    given: Any = 60,
    *,
    prompt: Runnable[Any, Any] | None = None,
    fails: tuple[int, ...] = (),
    provider: CachingTransport | None = None,
    chain: Callable[[CachingTransport], Any] | None = None,
    **settings: Any,
) -> Done:
    """One run of so many rows, or of these, in virtual time; `chain` makes another chain on the provider."""

    there = provider or CachingTransport(vendor)
    there.fails.extend(fails)
    made = (prompt or asking()) | model_on(vendor, there) if chain is None else chain(there)
    return virtual_run(_run([made], mode, given, [there], **settings), 1)


def run_over_sockets(vendor: Vendor, mode: str, given: Any, *, latency_s: float = 0.05) -> Done:
    """The same against a server on this machine, in real time."""
    with CachingServer(CachingTransport(vendor, latency_s)) as server:
        chain = asking() | model_on(vendor, server.transport())
        return asyncio.run(_run([chain], mode, given, [server.provider]))


def run_replicas(
    vendor: Vendor,
    mode: str,
    given: Any,
    *,
    count: int = 3,
    slots: int = 4,
    prompt: Runnable[Any, Any] | None = None,
    sockets: bool = False,
) -> Done:
    """One run over so many equal endpoints, each with so many slots and a cache of its own."""
    latency_s = 0.05 if sockets else 1.0
    there = [
        CachingTransport(replace(vendor, url=vendor.url.replace("1", str(n))), latency_s, jitter=Random(n))
        for n in range(1, count + 1)
    ]
    with ExitStack() as stack:
        servers = [stack.enter_context(CachingServer(each)) for each in there] if sockets else []
        ways = [server.transport() for server in servers] or there
        chains = [
            (prompt or asking("Be brief.", "{text}")) | model_on(each.vendor, way)
            for each, way in zip(there, ways, strict=True)
        ]
        bounds = AdaptiveConcurrency(slots, 1, slots)
        main = _run(chains, mode, given, there, concurrency=bounds)
        return asyncio.run(main) if sockets else virtual_run(main, 1)


async def _run(
    chains: list[Any], mode: str, given: Any, providers: list[CachingTransport], **settings: Any
) -> Done:
    first, *others = chains
    began = clock.now()
    processor = BatchProcessor(first, replicas=others, prompt_cache=mode, limits=Limits(), **settings)  # type: ignore[arg-type]
    async with processor.astart(rows(given) if isinstance(given, int) else given) as under_way:
        outcomes = [outcome async for outcome in under_way]
    return Done(providers[0], clock.now() - began, outcomes, under_way.report, providers)
