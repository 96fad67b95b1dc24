"""How long things wait, exactly: backoffs, the tries of a fallback, pauses, and places under a ceiling."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from cottonpalm import BatchProcessor, RateLimit, RetryPolicy
from cottonpalm.config import AdaptiveConcurrency
from cottonpalm.engine.layers.retry import RowRetry
from cottonpalm.providers import classify
from cottonpalm.request.attempt.tries import Tries
from cottonpalm.request.limiter.limiters import Limiters
from cottonpalm.request.row_account import RowAccount
from cottonpalm.testing import virtual_run
from cottonpalm.types import Fault, Item, Kind, Verdict
from tests.request.kit import a_run
from tests.request.stage import Stage

pytestmark = pytest.mark.core
POLICY = RetryPolicy(base_s=1.0, cap_s=5.0, retries=6)


class Longest(Random):
    """Draws the upper end."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_the_backoff_of_a_request_doubles_from_try_to_try_up_to_the_cap() -> None:
    run = a_run(retry=POLICY)
    run.rng = Longest()
    limiter, tries = run.flow.limiter("k"), Tries(0, 0)
    fault = Fault(Kind.TRANSIENT, "InternalServerError", "500")
    waits = [tries.after(fault, run, limiter, probe=True).sleep_s for _ in range(7)]
    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0, 5.0, None]


def test_the_backoff_of_a_row_doubles_from_try_to_try_up_to_the_cap() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def fails(item: Item) -> Any:
        raise ConnectionResetError("reset by peer")

    item = Item(0, "row")
    item.account = RowAccount(a_run(), 0)
    retry = RowRetry(POLICY, lambda: True, classify, sleep, Longest())
    with pytest.raises(ConnectionResetError):
        asyncio.run(retry(item, fails))
    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0, 5.0]


@pytest.mark.parametrize("retry", [0, 2])
def test_a_fallback_has_as_many_tries_of_its_own(retry: int) -> None:
    calls: dict[str, int] = {"first": 0, "second": 0}

    def chain(name: str, good: int) -> Any:
        async def call(row: str) -> str:
            calls[name] += 1
            if calls[name] < good:
                raise ConnectionResetError("reset by peer")
            return name

        return RunnableLambda(call)

    async def main(good: int) -> list[Any]:
        calls.update(first=0, second=0)
        fallbacks = [chain("second", good)]
        processor = BatchProcessor(chain("first", 99), fallbacks=fallbacks, retry=retry)
        return await processor.abatch(["row"], return_exceptions=True)

    assert virtual_run(main(retry + 1)) == ["second"]
    assert calls == {"first": retry + 1, "second": retry + 1}
    [error] = virtual_run(main(retry + 2))
    assert isinstance(error, ConnectionResetError)
    assert calls == {"first": retry + 1, "second": retry + 1}


def test_pauses_that_follow_one_another_do_not_add_up() -> None:
    with Stage() as stage:
        limiter = Limiters(AdaptiveConcurrency(initial=8)).of("k")
        permits = []
        for _ in range(4):
            permits.append(limiter.try_acquire())
            stage.loop.now_s += 0.1  # a start is no burst
        began = stage.loop.now_s
        for permit, pause_s in zip(permits, (10.0, 10.0, 4.0, 12.0), strict=True):
            assert permit is not None
            limiter.release(permit, Verdict.DROPPED, pause_s)
            stage.loop.now_s += 1
        assert limiter.paused_until == began + 3 + 12, "the latest word that reaches furthest, and no sum"
        stage.loop.now_s = began + 14.9
        assert limiter.try_acquire() is None
        stage.loop.now_s = began + 15.1
        assert limiter.try_acquire() is not None


@pytest.mark.parametrize("crosses", [False, True])
def test_a_cancelled_permit_gives_its_place_in_the_minute_back(crosses: bool) -> None:
    with Stage() as stage:
        limits = AdaptiveConcurrency(initial=1, minimum=1, maximum=1)
        limiter = Limiters(limits, RateLimit(requests_per_minute=2)).of("k")
        first = limiter.try_acquire()
        assert first is not None
        waiting = stage.start(limiter.aacquire())

        def release_and_cancel() -> None:
            limiter.release(first, Verdict.SUCCESS)
            if crosses:  # it was granted, and its task has not heard of it
                waiting.cancel()

        if not crosses:
            waiting.cancel()
            stage.settle()
        stage.call(release_and_cancel)
        assert waiting.cancelled()
        stage.loop.now_s += 30  # a minute is used evenly
        again = limiter.try_acquire()
        assert again is not None, "the second place of this minute is free"
        limiter.release(again, Verdict.SUCCESS)
        assert limiter.try_acquire() is None, "and there is no third"
