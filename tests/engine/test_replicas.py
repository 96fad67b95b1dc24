"""Several endpoints behind one queue: real model classes on a virtual clock, and providers that fail in turn."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias

import httpx2
import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_openai import ChatOpenAI

from cottonpalm import AdaptiveConcurrency, BatchProcessor, ConfigError, Limits, RunStopped
from cottonpalm import clock as clocks
from cottonpalm.events import EndpointRests
from cottonpalm.request.limiter.rules.concurrency import SOON
from cottonpalm.testing import FlakyTransport, Flaw, ScriptedChain, cancel_at, virtual_run
from cottonpalm.types import Kind
from tests.engine.helpers import Watch
from tests.support.lean import asks

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import RunnableConfig

    from cottonpalm.types import Outcome

    Went: TypeAlias = tuple[list[Outcome], RunStopped | None, float]


class Endpoint(FlakyTransport):
    """A provider that rejects above `cap` requests in flight, and else does what `says(clock)` says."""

    def __init__(
        self, cap: int = 1_000, says: Callable[[float], Any] = lambda _: None, seed: int = 1
    ) -> None:
        super().__init__(then=lambda _: self._step())
        self.cap, self.says, self.rng = cap, says, Random(seed)
        self.in_flight = self.peak = self.rejected = self.answered = 0

    def _step(self) -> Any:
        if self.in_flight > self.cap:
            self.rejected += 1
            return 429
        return self.says(clocks.now())

    async def handle_async_request(self, request: Any) -> Any:
        self.in_flight += 1
        self.peak = max(self.peak, min(self.in_flight, self.cap))
        try:
            step = self._step()
            if step is None or (step is Flaw.DROP and self.rng.random() < 0):
                await asyncio.sleep(self.rng.uniform(0.5, 1.5))
            response = await super().handle_async_request(request)
            self.answered += response.status_code == 200
            return response
        finally:
            self.in_flight -= 1


def chain_on(endpoint: FlakyTransport, number: int = 1, **more: Any) -> Any:
    client = httpx2.AsyncClient(transport=endpoint)
    url, key = f"http://endpoint-{number}.invalid/v1", f"sk-not-a-key-{number}"
    model = ChatOpenAI(model="gpt-4o-mini", base_url=url, api_key=key, http_async_client=client, **more)
    return ChatPromptTemplate.from_template("say {x}") | model | StrOutputParser()


def lean_on(endpoint: FlakyTransport, number: int = 1) -> Any:
    """The same requests without an SDK."""
    url, key = f"http://endpoint-{number}.invalid/v1", f"sk-not-a-key-{number}"
    return asks(httpx2.AsyncClient(transport=endpoint), key, url=url, says=lambda row: f"say {row['x']}")


def go(
    endpoints: list[Any], rows: int, *, on: Any = lean_on, **more: Any
) -> tuple[list[Outcome], RunStopped | None, float]:
    """Run so many rows over these; the outcomes, why it stopped, and the virtual seconds it took."""

    async def main() -> Went:
        first, *others = (on(one, n) for n, one in enumerate(endpoints, 1))
        processor, outcomes = BatchProcessor(first, replicas=others, **{"limits": Limits(), **more}), []
        began = clocks.now()
        async with processor.astart([{"x": n} for n in range(rows)]) as run:
            try:
                async for outcome in run:
                    outcomes.append(outcome)  # noqa: PERF401 - it may raise half-way
            except RunStopped as stopped:
                return outcomes, stopped, clocks.now() - began
        return outcomes, None, clocks.now() - began

    return virtual_run(main(), 1)


def all_ok(outcomes: list[Outcome], rows: int) -> bool:
    """Each row was answered once, with its own answer."""
    found = {outcome.index: outcome.output for outcome in outcomes if outcome.status == "ok"}
    return len(outcomes) == rows and found == {n: f"answer to: say {n}" for n in range(rows)}


def test_each_endpoint_finds_its_own_limit_and_together_they_do_the_sum() -> None:
    small, large = Endpoint(10), Endpoint(30, seed=2)
    outcomes, stopped, seconds = go([small, large], 1_200)
    assert stopped is None
    assert all_ok(outcomes, 1_200)
    assert small.peak == 10
    assert large.peak == 30
    assert 1_200 / seconds >= 0.85 * 40, "forty at once, a second each, the first seconds included"
    assert small.rejected + large.rejected <= 0.05 * 1_200


def dead_until(second: float) -> Callable[[float], Any]:
    return lambda age: Flaw.DROP if age < second else None


def test_the_rows_of_a_dead_endpoint_are_answered_by_the_other_and_it_is_asked_now_and_then() -> None:
    dead, alive, watch = Endpoint(says=dead_until(1e9)), Endpoint(20), Watch()
    outcomes, stopped, seconds = go([dead, alive], 800, observers=[watch])
    assert stopped is None
    assert all_ok(outcomes, 800)
    assert 40 <= seconds < 60
    assert len(dead.requests) <= 10 + 6, "those of the beginning, and one after each rest: 1, 2, 4, 8, 16 s"
    assert max(Counter(request.content for request in dead.requests).values()) == 1, (
        "a row moves after one try"
    )
    rests = watch.of(EndpointRests)
    assert [rest.seconds for rest in rests][:5] == [1, 2, 4, 8, 16]
    assert {rest.endpoint for rest in rests} == {"endpoint-1.invalid/gpt-4o-mini"}


def test_an_endpoint_that_comes_back_is_used_again() -> None:
    returning, alive = Endpoint(20, dead_until(5)), Endpoint(20)
    outcomes, stopped, seconds = go([returning, alive], 1_000)
    assert stopped is None
    assert all_ok(outcomes, 1_000)
    assert returning.answered > 250
    assert seconds < 40, "50 seconds with one alone"


def test_what_waits_at_an_endpoint_that_asks_for_a_pause_goes_where_there_is_room() -> None:
    busy = Endpoint(20, lambda age: (429, {"retry-after": "600"}) if age > 5 else None)
    free = Endpoint(20)
    outcomes, stopped, seconds = go([busy, free], 600)
    assert stopped is None
    assert all_ok(outcomes, 600)
    assert seconds < 50
    assert busy.answered + free.answered == 600


def test_a_hung_endpoint_holds_up_no_row_but_those_that_it_swallowed() -> None:
    hung, alive = Endpoint(says=lambda _: Flaw.STALL), Endpoint(20)
    outcomes, stopped, seconds = go([hung, alive], 500, on=chain_on, timeout=15)
    assert stopped is None
    assert all_ok(outcomes, 500)
    assert len(hung.requests) <= SOON * SOON * 10 + 4, (
        "what is let go before the first answer, and a few that ask again"
    )
    assert seconds < 45


def test_a_slow_endpoint_does_not_hold_the_other_one_back() -> None:
    class Slow(Endpoint):
        async def handle_async_request(self, request: Any) -> Any:
            await asyncio.sleep(30)
            return await super().handle_async_request(request)

    slow, quick = Slow(5), Endpoint(30)
    outcomes, stopped, seconds = go([slow, quick], 900)
    assert stopped is None
    assert all_ok(outcomes, 900)
    assert seconds < 65, (
        "the quick one alone takes 30 seconds, and nobody waits for a third turn at the slow one"
    )


def test_a_row_that_only_waited_and_went_to_another_endpoint_is_no_retry() -> None:
    async def main() -> Any:
        first, second = (lean_on(one, n) for n, one in enumerate((Endpoint(), Endpoint(seed=2)), 1))
        processor = BatchProcessor(first, replicas=[second], limits=Limits())
        await processor.abatch([{"x": n} for n in range(600)])  # some twenty of them change their queue
        assert processor.last_run is not None
        return processor.last_run.report.counts

    counts = virtual_run(main(), 1)
    assert (counts.requests, counts.retries) == (600, 0)


def test_a_key_that_one_endpoint_refuses_stops_nothing_while_another_works() -> None:
    refusing, alive, watch = Endpoint(says=lambda _: 401), Endpoint(20), Watch()
    outcomes, stopped, _ = go([refusing, alive], 400, on=chain_on, observers=[watch])
    assert stopped is None
    assert all_ok(outcomes, 400)
    assert len(refusing.requests) == 1, (
        "the start is spaced, so the first refusal is known before the second goes"
    )
    rest = watch.of(EndpointRests)[0]
    assert (rest.kind, rest.seconds) == (Kind.STOP_RUN, 60)


def test_the_run_stops_when_all_endpoints_refuse_the_key() -> None:
    outcomes, stopped, seconds = go([Endpoint(says=lambda _: 401), Endpoint(says=lambda _: 401)], 500)
    assert stopped is not None
    assert stopped.reason == "fatal"
    assert "401" in str(stopped)
    assert seconds < 5
    assert not [outcome for outcome in outcomes if outcome.status == "ok"]


def test_a_refused_key_and_a_dead_endpoint_wait_for_the_dead_one() -> None:
    refusing, returning = Endpoint(says=lambda _: 401), Endpoint(20, dead_until(30))
    outcomes, stopped, _ = go([refusing, returning], 200, retry=8)
    assert stopped is None
    assert all_ok(outcomes, 200)


def test_when_all_are_dead_the_rules_of_one_hold() -> None:
    first, second = Endpoint(says=dead_until(200)), Endpoint(says=dead_until(210))
    outcomes, stopped, _ = go([first, second], 400)
    assert stopped is None
    assert all_ok(outcomes, 400)
    assert len(first.requests) + len(second.requests) <= 400 + 150
    outcomes, stopped, seconds = go([Endpoint(says=dead_until(1e9)), Endpoint(says=dead_until(1e9))], 400)
    assert stopped is not None
    assert stopped.reason == "stalled"
    assert 900 <= seconds <= 1_100
    outcomes, stopped, seconds = go([Endpoint(says=dead_until(1e9)), Endpoint(says=dead_until(1e9))], 3)
    assert [outcome.error.kind for outcome in outcomes if outcome.error] == [Kind.TRANSIENT] * 3
    assert max(outcome.attempts for outcome in outcomes) <= 3 + 4, (
        "twice at each, the last time with its own tries"
    )
    assert seconds < 60


def test_a_row_that_no_endpoint_can_answer_fails_with_a_bounded_number_of_tries() -> None:
    class Poisoned(Endpoint):
        def _next(self, request: Any) -> Any:
            return 500 if b"say 7" in request.content else None

    outcomes, stopped, _ = go([Poisoned(20), Poisoned(20)], 60)
    assert stopped is None
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    assert [outcome.index for outcome in failed] == [7]
    assert failed[0].attempts == 2 + 4, "once at each, and its own tries where it goes once more for a place"


@pytest.mark.parametrize("down", [500, 503, (429, {"retry-after": "3600"}), Flaw.DROP])
def test_rows_that_failed_once_at_the_endpoint_that_works_go_there_again_when_theirs_is_down(
    down: Any,
) -> None:
    class Stumbles(Endpoint):
        """The first request of each sixth row fails here."""

        def __init__(self, cap: int) -> None:
            super().__init__(cap)
            self.seen: Counter[int] = Counter()

        def _next(self, request: Any) -> Any:
            row = int(json.loads(request.content)["messages"][-1]["content"].split()[-1])
            self.seen[row] += 1
            return 500 if row % 6 == 0 and self.seen[row] == 1 else super()._next(request)

    dies, works = Endpoint(20, says=lambda now: down if now >= 4 else None), Stumbles(20)
    outcomes, stopped, seconds = go([dies, works], 300)
    assert stopped is None
    assert all_ok(outcomes, 300)
    assert dies.answered + works.answered == 300
    assert seconds < 120


def test_two_keys_on_one_host_have_a_limit_each() -> None:
    one = Endpoint(1_000)

    async def main() -> tuple[int, int]:
        client = httpx2.AsyncClient(transport=one)
        chains = [
            ChatOpenAI(
                model="m", base_url="http://host.invalid/v1", api_key=f"sk-{n}", http_async_client=client
            )
            for n in range(2)
        ]
        limits = Limits()
        processor = BatchProcessor(chains[0], replicas=chains[1:], concurrency=4, limits=limits)
        await processor.abatch([f"{n}" for n in range(100)])
        keys = {request.headers["authorization"] for request in one.requests}
        return one.peak, len(keys)

    assert virtual_run(main(), 1) == (4, 2), "a plain number bounds the rows of both together"


def test_a_number_that_is_no_cap_of_rows_holds_for_each_endpoint() -> None:
    first, second = Endpoint(1_000), Endpoint(1_000)
    _, stopped, _ = go([first, second], 200, concurrency=AdaptiveConcurrency(4, 1, 4))
    assert stopped is None
    assert (first.peak, second.peak) == (4, 4)


def test_a_row_with_an_answer_paid_for_is_tried_again_where_it_is() -> None:
    async def main() -> tuple[list[int], list[Any]]:
        first, second = FlakyTransport("a", 500, "b"), FlakyTransport("c", "d")
        chains = [_two_steps(one, n) for n, one in enumerate((first, second), 1)]
        outputs = await BatchProcessor(chains[0], replicas=chains[1:], limits=Limits()).abatch(["x"])
        return [len(one.requests) for one in (first, second)], outputs

    assert virtual_run(main(), 1) == ([3, 0], ["b"])


def test_a_row_whose_second_request_fails_for_good_starts_again_elsewhere() -> None:
    async def main() -> tuple[list[int], list[Any]]:
        first = FlakyTransport("a", then=lambda _: 500)
        second = FlakyTransport("c", "d")
        chains = [_two_steps(one, n) for n, one in enumerate((first, second), 1)]
        outputs = await BatchProcessor(chains[0], replicas=chains[1:], limits=Limits()).abatch(["x"])
        return [len(one.requests) for one in (first, second)], outputs

    assert virtual_run(main(), 1) == ([1 + 4, 2], ["d"])


def _two_steps(endpoint: FlakyTransport, number: int) -> Any:
    model = ChatOpenAI(
        model="m",
        base_url=f"http://endpoint-{number}.invalid/v1",
        api_key="sk-x",
        http_async_client=httpx2.AsyncClient(transport=endpoint),
    )
    return model | StrOutputParser() | model | StrOutputParser()


def test_a_parallel_chain_moves_as_a_whole_and_its_orphans_send_nothing() -> None:
    async def main() -> tuple[list[Any], int, int]:
        dead, alive = Endpoint(says=dead_until(1e9)), Endpoint()
        chains = [
            ChatPromptTemplate.from_template("say {x}") | {"a": model, "b": model, "c": model}
            for model in (chain_on(dead, 1).steps[1], chain_on(alive, 2).steps[1])
        ]
        processor = BatchProcessor(chains[0], replicas=chains[1:], limits=Limits())
        outputs = await processor.abatch([{"x": n} for n in range(50)])
        return outputs, len(dead.requests), len(alive.requests)

    outputs, at_dead, at_alive = virtual_run(main(), 1)
    assert [row["a"].content for row in outputs] == [f"answer to: say {n}" for n in range(50)]
    assert at_alive == 150
    assert at_dead <= 20


@pytest.mark.parametrize("concurrency", [2, 4, 5, 7, "auto"])
def test_a_row_stays_where_it_is_while_it_waits_in_a_line_that_all_endpoints_share(concurrency: Any) -> None:
    """With a number it is the number; else, at the start, the line of all models with one name."""
    calls: Counter[int] = Counter()

    def counted(row: dict[str, int]) -> dict[str, int]:
        calls[row["x"]] += 1
        if calls[row["x"]] > 10:
            raise RuntimeError("it goes to and fro")
        return row

    def on(endpoint: FlakyTransport, number: int) -> Any:
        one = chain_on(endpoint, number)
        return RunnableLambda(counted) | RunnableParallel(a=one, b=one, c=one)

    async def main() -> list[Any]:
        first, second = (on(one, n) for n, one in enumerate((Endpoint(), Endpoint(seed=2)), 1))
        limits = Limits() if concurrency == "auto" else None
        processor = BatchProcessor(first, replicas=[second], concurrency=concurrency, limits=limits)
        heard: RunnableConfig = {"callbacks": [BaseCallbackHandler()]}
        return await processor.abatch([{"x": n} for n in range(30)], heard)

    assert virtual_run(main(), 1) == [dict.fromkeys("abc", f"answer to: say {n}") for n in range(30)]


def test_single_calls_choose_too() -> None:
    async def main() -> list[Any]:
        chains = [chain_on(Endpoint(says=dead_until(1e9)), 1), chain_on(Endpoint(), 2)]
        processor = BatchProcessor(chains[0], replicas=chains[1:], limits=Limits())
        return [await processor.ainvoke({"x": n}) for n in range(4)]

    assert virtual_run(main(), 1) == [f"answer to: say {n}" for n in range(4)]


def test_chains_whose_requests_nobody_sees_are_spread_and_moved_as_rows() -> None:
    async def main() -> tuple[list[Any], int, int]:
        def down(_: Any) -> Any:
            raise ConnectionError("refused")

        dead, alive = ScriptedChain(then=down), ScriptedChain(then=lambda row: row)
        processor = BatchProcessor(dead, replicas=[alive], limits=Limits())
        outputs = await processor.abatch(list(range(200)))
        return outputs, len(dead.rows), len(alive.rows)

    outputs, at_dead, at_alive = virtual_run(main(), 1)
    assert outputs == list(range(200))
    assert at_alive == 200
    assert at_dead <= 12


def test_each_chain_whose_requests_nobody_sees_has_a_limit_of_its_own() -> None:
    async def main() -> tuple[int, int]:
        chains = [Counted(), Counted()]
        bounds = AdaptiveConcurrency(5, 1, 5)
        await BatchProcessor(chains[0], replicas=chains[1:], limits=Limits(), concurrency=bounds).abatch(
            range(100)
        )
        return chains[0].peak, chains[1].peak

    assert virtual_run(main(), 1) == (5, 5)


class Counted(ScriptedChain):
    """Takes a second for each row."""

    def __init__(self) -> None:
        super().__init__(then=lambda row: row)

    async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        self._enter(input)
        try:
            await asyncio.sleep(1)
            return input
        finally:
            self._leave()


def test_what_is_no_list_of_chains_is_refused() -> None:
    chain = RunnableLambda(str)
    with pytest.raises(ConfigError, match="replicas must be a list of chains"):
        BatchProcessor(chain, replicas=chain)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="each of replicas must be a LangChain Runnable, not str"):
        BatchProcessor(chain, replicas=["http://127.0.0.1:8000/v1"])  # type: ignore[list-item]


@pytest.mark.parametrize("seed", range(12))
def test_a_cancel_at_any_moment_leaves_no_row_permit_or_place_behind(seed: int) -> None:
    rng = Random(seed)
    limits = Limits()

    async def main() -> Any:
        flaky = Endpoint(4, lambda _: rng.choice([None, None, 503, Flaw.DROP, (429, {"retry-after": "3"})]))
        chains = [chain_on(one, n) for n, one in enumerate((flaky, Endpoint(6)), 1)]
        processor = BatchProcessor(chains[0], replicas=chains[1:], limits=limits)
        async with processor.astart([{"x": n} for n in range(60)]) as run:
            team = run._engine.account.team
            kept.append(team)
            async for _ in run:
                pass

    async def cut() -> None:
        await cancel_at(rng.randrange(20, 4_000), main(), anywhere=True)
        await asyncio.sleep(1)

    kept: list[Any] = []
    virtual_run(cut(), seed)
    for team in kept:
        counts = [(one.rows, one.waiting, one.on_wire, one.coming) for one in team.endpoints]
        assert counts == [(0, 0, 0, 0)] * 2
        assert not team.in_line
    limiters = [one for made in limits._made.values() for one in made]
    assert all(one.in_flight == one.waiting == 0 for one in limiters)
