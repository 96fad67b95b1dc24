"""What the tests of the request level share: runs, rows, models that speak to a loopback server."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import httpx2
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI

from cottonpalm.config import AdaptiveConcurrency, RetryPolicy
from cottonpalm.request.limiter.limiters import Limiters
from cottonpalm.request.money.rules.prices import PriceBook
from cottonpalm.request.queueing import enter
from cottonpalm.request.row_account import ROW, RowAccount
from cottonpalm.request.run_account import RunAccount
from cottonpalm.request.transport import hook
from cottonpalm.types import Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from tests.support.loopback import Loopback

MODEL = "gpt-4o-mini"
QUICK = RetryPolicy(base_s=0.001, cap_s=0.002)


def a_run(limit: int = 2, **settings: Any) -> RunAccount:
    """A run whose limit cannot move."""
    hook.install()
    options: dict[str, Any] = {
        "limiters": Limiters(AdaptiveConcurrency(limit, limit, limit)),
        "ledger": None,
        "prices": PriceBook(),
        "retry": QUICK,
        "timeout_s": 20.0,
    }
    return RunAccount(**{**options, **settings})


def in_flight(run: RunAccount) -> int:
    """Permits not given back, at all limiters."""
    return sum(limiter.in_flight for limiter in run.flow.limiters)


async def one(run: RunAccount, index: int, work: Callable[[], Awaitable[Any]]) -> tuple[Any, RowAccount]:
    """One row as the engine does it; an exception is its result."""
    row = RowAccount(run, index)
    token = ROW.set(row)
    try:
        await enter(row)
        try:
            result: Any = await work()
        except Exception as exc:
            result = exc
        row.leave(Verdict.IGNORED if isinstance(result, Exception) else Verdict.SUCCESS)
    finally:
        row.close()
        ROW.reset(token)
    return result, row


async def all_rows(
    run: RunAccount, works: Sequence[Callable[[], Awaitable[Any]]]
) -> list[tuple[Any, RowAccount]]:
    """All rows at once, each a task with a context of its own."""
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(run, index, work)) for index, work in enumerate(works)]
    return [task.result() for task in tasks]


def one_sync(run: RunAccount, index: int, work: Callable[[], Any]) -> tuple[Any, RowAccount]:
    """One row on this thread."""
    row = RowAccount(run, index)
    token = ROW.set(row)
    try:
        asyncio.run(enter(row))
        try:
            result = work()
        except Exception as exc:
            result = exc
        row.leave(Verdict.IGNORED if isinstance(result, Exception) else Verdict.SUCCESS)
    finally:
        row.close()
        ROW.reset(token)
    return result, row


def all_rows_sync(run: RunAccount, works: Sequence[Callable[[], Any]]) -> list[tuple[Any, RowAccount]]:
    """All rows at once, each on a thread of its own."""
    results: dict[int, tuple[Any, RowAccount]] = {}

    def work(index: int) -> None:
        results[index] = one_sync(run, index, works[index])

    threads = [
        threading.Thread(target=contextvars.Context().run, args=(work, index), daemon=True)
        for index in range(len(works))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), f"a row is stuck: {list(run.flow.limiters)}"
    return [results[index] for index in range(len(works))]


@asynccontextmanager
async def openai(server: Loopback, **options: Any) -> AsyncIterator[ChatOpenAI]:
    """A model with HTTP clients of its own, closed at the end."""
    async with httpx2.AsyncClient() as client:
        with httpx2.Client() as sync_client:
            yield ChatOpenAI(
                **{
                    "model": MODEL,
                    "base_url": server.openai_url,
                    "api_key": "sk-test",
                    "http_async_client": client,
                    "http_client": sync_client,
                    **options,
                }
            )


@asynccontextmanager
async def anthropic(server: Loopback, **options: Any) -> AsyncIterator[ChatAnthropic]:
    _forget_shared_clients()
    model = ChatAnthropic(
        **{
            "model": "claude-haiku-4-5",
            "base_url": server.url,
            "api_key": "sk-ant-test",
            "max_tokens": 64,
            **options,
        }
    )
    try:
        yield model
    finally:
        await model._async_client.close()
        model._client.close()
        _forget_shared_clients()


def _forget_shared_clients() -> None:
    """langchain-anthropic keeps one HTTP client per URL for ever: ours, now closed, or one of a loop that is over.

    The system gives a port again, and a server of another test may have had this one.
    """
    from langchain_anthropic import _client_utils

    for name in ("_get_default_async_httpx_client", "_get_default_httpx_client"):
        getattr(_client_utils, name).cache_clear()


@contextmanager
def openai_sync(server: Loopback, **options: Any) -> Iterator[ChatOpenAI]:
    """A model for threads alone."""
    with httpx2.Client() as client:
        model = {"model": MODEL, "base_url": server.openai_url, "api_key": "sk-test", "http_client": client}
        yield ChatOpenAI(**{**model, **options})


def spied(client: httpx2.AsyncClient) -> list[httpx2.Request]:
    """The requests a client sends from now on, by its public event hook."""
    seen: list[httpx2.Request] = []

    async def note(request: httpx2.Request) -> None:
        seen.append(request)

    client.event_hooks = {"request": [note]}
    return seen
