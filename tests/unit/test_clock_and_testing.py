"""The clocks, and the fakes that cottonpalm ships."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor, RateLimit, clock
from cottonpalm.testing import FlakyTransport, Flaw, ScriptedChain, VirtualLoop, cancel_at, virtual_run

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

pytestmark = pytest.mark.core


# -- clock and virtual loop -------------------------------------------------------------------------


def test_the_real_clock_never_goes_back() -> None:
    times = [clock.now() for _ in range(100)]
    assert times == sorted(times)
    assert clock.wall() > 1_700_000_000


def test_a_day_of_sleep_passes_at_once_and_exactly() -> None:
    async def main() -> float:
        await asyncio.sleep(86_400)
        return asyncio.get_running_loop().time()

    assert virtual_run(main()) == 86_400


def test_both_clocks_follow_the_virtual_loop_and_are_real_again_afterwards() -> None:
    async def main() -> tuple[float, float, float]:
        wall = clock.wall()
        await asyncio.sleep(3600)
        return clock.now(), clock.wall() - wall, asyncio.get_running_loop().time()

    before = clock.now()
    assert virtual_run(main()) == (3600, 3600, 3600)
    assert before <= clock.now() < before + 3000


def test_the_clocks_are_real_again_after_a_run_that_failed() -> None:
    async def main() -> None:
        await asyncio.sleep(1e6)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        virtual_run(main())
    assert clock.now is clock.steady
    assert clock.wall() - 1_700_000_000 > 1e6 + 1


def test_timers_fire_in_order_of_their_time_whatever_the_order_they_were_set_in() -> None:
    async def main() -> list[float]:
        fired: list[float] = []

        async def sleeper(seconds: float) -> None:
            await asyncio.sleep(seconds)
            fired.append(clock.now())

        async with asyncio.TaskGroup() as group:
            for seconds in (3.5, 0.25, 100_000.0, 1.0):
                group.create_task(sleeper(seconds))
        return fired

    assert virtual_run(main()) == [0.25, 1.0, 3.5, 100_000.0]


def test_a_deadlock_is_an_error_and_not_a_hang() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="deadlock"):
        virtual_run(main())


def test_a_seed_makes_the_module_random_repeatable_and_leaves_it_as_it_was() -> None:
    async def main() -> float:
        return random.random()

    state = random.getstate()
    assert virtual_run(main(), seed=7) == virtual_run(main(), seed=7)
    assert random.getstate() == state


def test_synchronous_steps_run_at_once_on_the_virtual_loop() -> None:
    async def main() -> Any:
        return await RunnableLambda(lambda row: row + 1).ainvoke(1), clock.now()

    assert virtual_run(main()) == (2, 0.0)


def test_an_executor_on_the_virtual_loop_hands_exceptions_over() -> None:
    async def main() -> None:
        await asyncio.to_thread(int, "x")

    with pytest.raises(ValueError, match="invalid literal"):
        virtual_run(main())


# -- cancel_at --------------------------------------------------------------------------------------


async def _three_awaits(seen: list[str]) -> str:
    try:
        for n in range(3):
            await asyncio.sleep(1)
            seen.append(f"after {n}")
    finally:
        seen.append("tidy")
    return "done"


@pytest.mark.parametrize(("n", "expected"), [(1, []), (2, ["after 0"]), (3, ["after 0", "after 1"])])
def test_a_coroutine_is_cancelled_at_its_nth_await(n: int, expected: list[str]) -> None:
    seen: list[str] = []
    cut = virtual_run(cancel_at(n, _three_awaits(seen)))
    assert (cut.cancelled, cut.awaits, cut.result) == (True, n, None)
    assert seen == [*expected, "tidy"]


def test_a_coroutine_with_fewer_awaits_runs_to_its_end_and_says_how_many_there_were() -> None:
    cut = virtual_run(cancel_at(1_000_000, _three_awaits([])))
    assert (cut.cancelled, cut.awaits, cut.result) == (False, 3, "done")


def test_an_exception_of_the_coroutine_itself_passes_through() -> None:
    async def main() -> None:
        await asyncio.sleep(0)
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        virtual_run(cancel_at(5, main()))


def test_a_cancel_that_the_coroutine_raised_itself_is_not_taken_for_ours() -> None:
    async def main() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        virtual_run(cancel_at(5, main()))


def test_the_cancel_can_come_at_any_step_of_any_task() -> None:
    async def family(log: list[int]) -> None:
        async def child(n: int) -> None:
            for _ in range(4):
                await asyncio.sleep(n)
                log.append(n)

        async with asyncio.TaskGroup() as group:
            for n in (1, 2, 3):
                group.create_task(child(n))

    whole: list[int] = []
    steps = virtual_run(cancel_at(10**6, family(whole), anywhere=True)).awaits
    lengths = set()
    for n in range(1, steps):
        log: list[int] = []
        cut = virtual_run(cancel_at(n, family(log), anywhere=True))
        assert log == whole[: len(log)]
        assert cut.cancelled or len(log) == 12
        lengths.add(len(log))
    assert {0, 5, 11} < lengths


def test_counting_all_tasks_needs_a_virtual_loop() -> None:
    async def main() -> None:
        await asyncio.sleep(0)

    with pytest.raises(TypeError, match="VirtualLoop"):
        asyncio.run(cancel_at(1, main(), anywhere=True))


def test_steps_are_counted() -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        before = loop.steps
        await asyncio.sleep(0)
        return loop.steps - before

    assert virtual_run(main()) == 1


# -- ScriptedChain ----------------------------------------------------------------------------------


def test_a_scripted_chain_waits_raises_and_replies() -> None:
    async def main() -> tuple[Any, ...]:
        chain = ScriptedChain(5.0, "first", ValueError("second"), KeyError, "last", then=str.upper)
        first = await chain.ainvoke("a"), clock.now()
        for error in (ValueError, KeyError):
            with pytest.raises(error):
                await chain.ainvoke("b")
        return (
            *first,
            await chain.ainvoke("c"),
            await chain.ainvoke("d"),
            chain.rows,
            chain.peak,
            chain.active,
        )

    assert virtual_run(main()) == ("first", 5.0, "last", "D", ["a", "b", "b", "c", "d"], 1, 0)


def test_a_scripted_chain_says_when_it_is_called_once_too_often() -> None:
    chain = ScriptedChain("only")
    assert chain.invoke("a") == "only"
    with pytest.raises(AssertionError, match="ran out"):
        chain.invoke("b")


def test_a_scripted_chain_knows_how_many_calls_were_under_way_at_once() -> None:
    async def main() -> int:
        chain = ScriptedChain(*[1.0] * 3, "a", "b", "c")
        async with asyncio.TaskGroup() as group:
            for row in range(3):
                group.create_task(chain.ainvoke(row))
        return chain.peak

    assert virtual_run(main()) == 3


def test_what_a_scripted_chain_has_counted_makes_no_other_chain_of_it(tmp_path: Path) -> None:
    chain = ScriptedChain(then=str.upper)
    for _ in range(2):  # as a test of a run that goes on does, which has one chain and two processors
        assert BatchProcessor(chain, store=tmp_path / "runs.db", run="one").batch(["a", "b"]) == ["A", "B"]
    assert chain.rows == ["a", "b"]


# -- FlakyTransport ---------------------------------------------------------------------------------


@pytest.mark.parametrize("http", [httpx, httpx2])
def test_the_flaky_transport_serves_both_http_libraries_in_sync(http: ModuleType) -> None:
    with http.Client(
        transport=FlakyTransport((429, {"retry-after": "7"}), Flaw.DROP, Flaw.CUT, 500)
    ) as client:
        throttled = client.post("https://x/v1/chat/completions", json={})
        assert (throttled.status_code, throttled.headers["retry-after"]) == (429, "7")
        for _ in range(2):
            with pytest.raises(http.RemoteProtocolError):
                client.post("https://x/v1/chat/completions", json={})
        assert client.post("https://x/v1/chat/completions", json={}).status_code == 500


@pytest.mark.parametrize("http", [httpx, httpx2])
def test_a_stalled_answer_meets_the_clients_read_timeout(http: ModuleType) -> None:
    async def main() -> float:
        async with http.AsyncClient(transport=FlakyTransport(Flaw.STALL), timeout=33) as client:
            with pytest.raises(http.ReadTimeout):
                await client.post("https://x/v1/chat/completions", json={})
        return clock.now()

    assert virtual_run(main()) == 33


def test_real_model_classes_get_scripted_answers() -> None:
    async def main() -> list[Any]:
        transport = FlakyTransport(2.5, "scripted", None, {"not": "a completion"}, Flaw.MALFORMED)
        async with httpx2.AsyncClient(transport=transport) as client:
            model = ChatOpenAI(model="m", api_key="k", http_async_client=client, max_retries=0)
            first = await model.ainvoke("hi")
            second = await model.ainvoke("hi")
            with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the SDK makes of it
                await model.ainvoke("hi")
            with pytest.raises(ValueError, match=r"."):
                await model.ainvoke("hi")
        return [
            first.content,
            clock.now(),
            second.content,
            len(transport.requests),
            second.usage_metadata is not None,
        ]

    assert virtual_run(main()) == ["scripted", 2.5, "answer to: hi", 4, True]


def test_anthropic_answers_have_their_own_shape() -> None:
    with httpx2.Client(transport=FlakyTransport(None, 529), base_url="https://x") as client:
        answer = client.post(
            "/v1/messages", json={"messages": [{"role": "user", "content": [{"text": "hi"}]}]}
        )
        assert answer.json()["content"][0]["text"] == "answer to: hi"
        assert client.post("/v1/messages", json={}).json()["type"] == "error"


def test_a_later_virtual_run_knows_nothing_of_the_times_of_an_earlier_one() -> None:
    async def again() -> float:
        await processor.abatch([f"row {n}" for n in range(12)])
        return asyncio.get_running_loop().time()

    client = httpx2.AsyncClient(transport=FlakyTransport())
    model = ChatOpenAI(model="gpt-4o-mini", api_key="sk-not-a-key", http_async_client=client)
    processor = BatchProcessor(model, rate_limit=RateLimit(requests_per_minute=3))
    took_s = virtual_run(again())
    assert virtual_run(again()) == took_s
    assert 180 <= took_s <= 220  # three in any minute, evenly over it


def test_a_provider_that_is_dead_at_first_is_waited_for_in_each_virtual_run() -> None:
    client = httpx2.AsyncClient(
        transport=FlakyTransport(then=lambda _: Flaw.DROP if clock.now() < 400 else None)
    )
    model = ChatOpenAI(model="gpt-4o-mini", api_key="sk-not-a-key", http_async_client=client)
    processor = BatchProcessor(model)

    async def main() -> float:
        answers = await processor.abatch([f"row {n}" for n in range(60)])
        assert len(answers) == 60
        return asyncio.get_running_loop().time()

    for _ in range(2):
        assert 400 <= virtual_run(main(), 1) <= 460
