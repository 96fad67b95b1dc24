"""A run that is told to stop finishes what was asked, and asks no more, whatever its chain speaks through."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_openai import ChatOpenAI

from cottonpalm import AdaptiveConcurrency, BatchProcessor, RunStopped
from cottonpalm.testing import FlakyTransport, Flaw, virtual_run
from tests.engine.helpers import Probe, aread, read

pytestmark = pytest.mark.core
Eventually = Callable[[Callable[[], object]], None]
FREE = 10  # calls that are answered at once


class Held:
    """Calls that are answered only when `release` says so, all but the first ten; counts those that began."""

    def __init__(self) -> None:
        self.called: list[Any] = []
        self._open = threading.Event()

    def call(self) -> None:
        """On a thread."""
        self.called.append(threading.current_thread().name)
        if len(self.called) > FREE:
            assert self._open.wait(20), "nobody let the calls go on"

    async def acall(self) -> None:
        """On a loop."""
        self.called.append(threading.current_thread().name)
        if len(self.called) > FREE:
            while not self._open.is_set():
                await asyncio.sleep(0.001)

    def release(self) -> None:
        self._open.set()


class Blocking(BaseChatModel):
    """A chat model that speaks through no HTTP client, and knows only the sync form."""

    held: Any
    _llm_type = property(lambda self: "held")  # type: ignore[assignment]

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        self.held.call()
        return ChatResult(generations=[ChatGeneration(message=AIMessage("yes"))])


class Waiting(Blocking):
    """The same with an async form."""

    async def _agenerate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        await self.held.acall()
        return ChatResult(generations=[ChatGeneration(message=AIMessage("yes"))])


def async_function(held: Held) -> Runnable[Any, Any]:
    async def function(row: Any) -> Any:
        await held.acall()
        return row

    return RunnableLambda(function)


def sync_function(held: Held) -> Runnable[Any, Any]:
    def function(row: Any) -> Any:
        held.call()
        return row

    return RunnableLambda(function)


def after_a_step(held: Held) -> Runnable[Any, Any]:
    """A model that stands behind a step of the row's own."""

    async def step(row: Any) -> Any:
        await asyncio.sleep(0)
        return row

    return RunnableLambda(step) | Waiting(held=held)


KINDS: dict[str, Callable[[Held], Any]] = {
    "async function": async_function,
    "sync function": sync_function,
    "async model": lambda held: Waiting(held=held),
    "sync model": lambda held: Blocking(held=held),
    "a model behind a step": after_a_step,
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_after_a_stop_no_further_call_begins_whatever_the_chain_speaks_through(
    kind: str, eventually: Eventually
) -> None:
    held = Held()
    four = AdaptiveConcurrency(initial=4, minimum=4, maximum=4)
    with BatchProcessor(KINDS[kind](held), concurrency=four).start([f"row {n}" for n in range(1000)]) as run:
        outcomes = [next(run) for _ in range(FREE)]
        eventually(
            lambda: len(held.called) == FREE + 4 and run.stats.in_flight > 4
        )  # the others wait in line
        run.stop()
        eventually(lambda: run.stats.skipped)
        held.release()
        more, raised = read(run)
    assert isinstance(raised, RunStopped)
    assert len(held.called) == FREE + 4
    statuses = [outcome.status for outcome in outcomes + more]
    assert statuses.count("ok") == FREE + 4
    assert set(statuses) == {"ok", "skipped"}


def test_after_a_stop_no_call_begins_that_waits_for_a_thread(eventually: Eventually) -> None:
    held = Held()
    with BatchProcessor(sync_function(held), concurrency=600).start(range(2000)) as run:
        outcomes = [next(run) for _ in range(FREE)]
        eventually(lambda: run.stats.in_flight >= 600 and len(held.called) == FREE + 512)
        run.stop()
        eventually(lambda: run.stats.skipped)
        held.release()
        more, _ = read(run)
    assert len(held.called) == FREE + 512
    assert [outcome.status for outcome in outcomes + more].count("ok") == FREE + 512


def test_a_stop_does_not_wait_for_a_row_that_sleeps_before_its_next_call() -> None:
    chain = Probe(delay_s=1, faults={"b": [ConnectionError("reset by peer")] * 9})

    async def main() -> None:
        async with BatchProcessor(chain, retry=9).astart(["a", "b"]) as run:
            first = await anext(run)
            assert first.status == "ok"
            run.stop()
            outcomes, raised = await aread(run)
        assert isinstance(raised, RunStopped)
        assert [(outcome.index, outcome.status) for outcome in outcomes] == [(1, "skipped")]

    virtual_run(main())
    assert chain.calls == {"a": 1, "b": 1}


@pytest.mark.parametrize("flaw", [Flaw.MALFORMED, Flaw.CUT, Flaw.DROP])
def test_a_stop_asks_nothing_again_whose_answers_were_lost_though_they_may_have_to_be_paid(
    flaw: Flaw,
) -> None:
    network = FlakyTransport(then=lambda _: flaw)
    model = ChatOpenAI(
        model="gpt-4o-mini", api_key="sk-none", http_async_client=httpx.AsyncClient(transport=network)
    )

    async def main() -> None:
        async with BatchProcessor(model).astart([f"row {number}" for number in range(50)]) as run:
            # By the virtual clock: the provider counts as down, and rows wait to be asked again.
            await asyncio.sleep(30)
            assert run.stats.in_flight
            assert run.stats.trouble.startswith("provider down: "), "what it said last is told"
            asked = len(network.requests)
            run.stop()
            outcomes, raised = await aread(run)
        assert isinstance(raised, RunStopped)
        assert {outcome.status for outcome in outcomes} == {"skipped"}
        assert len(network.requests) == asked

    virtual_run(main())
