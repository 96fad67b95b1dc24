"""Rows with a fallback do not wait for a provider that is down."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor, Limits, RetryPolicy
from tests.support.loopback import Loopback
from tests.support.replies import Reply, Request, fails

ROWS = [f"row {n}" for n in range(150)]
QUICK = RetryPolicy(base_s=0.01, cap_s=0.02, retries=1)


def chain_at(url: str, *, on_threads: bool = False) -> Any:
    model = ChatOpenAI(base_url=url, api_key="sk-test-0123456789", model="gpt-4o-mini")
    if not on_threads:
        return model | (lambda message: message.content)
    return RunnableLambda(lambda row: model.invoke(row).content)


@pytest.mark.parametrize("on_threads", [False, True])
def test_all_rows_are_answered_by_the_fallback_while_the_first_is_down(on_threads: bool) -> None:
    with Loopback(script=lambda _: fails(500)) as dead, Loopback() as good:
        chain, other = (chain_at(one.openai_url, on_threads=on_threads) for one in (dead, good))
        processor = BatchProcessor(chain, fallbacks=[other], retry=QUICK, limits=Limits())
        assert processor.batch(ROWS) == [f"answer to: {row}" for row in ROWS]
        assert good.requests == len(ROWS)
        assert dead.requests < len(ROWS), "once it is known to be down, rows pass it by"


@pytest.mark.parametrize("on_threads", [False, True])
def test_a_fallback_inside_the_chain_counts_as_one_while_the_first_is_down(on_threads: bool) -> None:
    with Loopback(script=lambda _: fails(500)) as dead, Loopback() as good:
        first, second = (chain_at(one.openai_url, on_threads=on_threads) for one in (dead, good))
        inside = RunnableLambda(lambda row: row) | first.with_fallbacks([second])
        processor = BatchProcessor(inside, retry=QUICK, limits=Limits())
        assert processor.batch(ROWS) == [f"answer to: {row}" for row in ROWS]
        assert good.requests == len(ROWS)
        assert dead.requests < len(ROWS), "once it is known to be down, rows pass it by"


def test_the_fallback_answers_too_when_every_endpoint_is_down() -> None:
    with (
        Loopback(script=lambda _: fails(500)) as one,
        Loopback(script=lambda _: fails(500)) as two,
        Loopback() as good,
    ):
        processor = BatchProcessor(
            chain_at(one.openai_url),
            replicas=[chain_at(two.openai_url)],
            fallbacks=[chain_at(good.openai_url)],
            retry=QUICK,
            limits=Limits(),
        )
        assert processor.batch(ROWS) == [f"answer to: {row}" for row in ROWS]
        assert good.requests == len(ROWS)
        assert one.requests + two.requests < len(ROWS), "what the fallback answers makes no endpoint well"


def test_the_first_is_used_again_once_it_is_up() -> None:
    up = threading.Event()

    def first(_request: Request) -> Reply | None:
        return None if up.is_set() else Reply(500)

    def second(request: Request) -> None:
        if request.seq >= 100:  # rows pass the first one by: it can come back
            up.set()

    with Loopback(script=first) as flapping, Loopback(script=second, latency=0.05) as good:
        bounds = {"retry": QUICK, "limits": Limits(), "concurrency": 20}
        chain, other = chain_at(flapping.openai_url), chain_at(good.openai_url)
        with BatchProcessor(chain, fallbacks=[other], **bounds).start(
            f"row {n}" for n in range(10**6)
        ) as run:
            for outcome in run:
                assert outcome.status == "ok"
                if up.is_set() and flapping.requests - good.requests > 200:
                    break


@pytest.mark.parametrize("equals", [0, 1])
@pytest.mark.parametrize("on_threads", [False, True])
def test_rows_whose_last_fallback_is_down_too_go_back_to_the_first_that_is_up(
    on_threads: bool, equals: int
) -> None:
    up = threading.Event()

    def flaps(_request: Request) -> Reply | None:
        return None if up.is_set() else Reply(500)

    def gone(request: Request) -> Reply:
        if request.seq >= 10:  # rows wait by now
            up.set()
        return fails(500)

    with (
        Loopback(script=lambda _: fails(500)) as dead,
        Loopback(script=flaps) as flapping,
        Loopback(script=gone) as last,
    ):
        chains = [chain_at(one.openai_url, on_threads=on_threads) for one in (flapping, dead, last)]
        processor = BatchProcessor(
            chains[0],
            replicas=chains[1 : 1 + equals],
            fallbacks=[chains[2]],
            retry=RetryPolicy(base_s=0.01, cap_s=0.1, retries=20),
            limits=Limits(),
            timeout=20,
            stall_timeout=20,
        )
        rows = ROWS[:60]  # all of them wait: no new one comes that would be answered
        assert processor.batch(rows) == [f"answer to: {row}" for row in rows]
