"""The exact cache in memory: what is equal is asked once, by whichever run, and what it saved is counted."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor, Cache, ConfigError, RetryPolicy
from cottonpalm.engine.scheduler import PARKED
from cottonpalm.events import CacheHit
from cottonpalm.testing import ScriptedChain, virtual_run
from cottonpalm.types import pico
from tests.engine.helpers import Probe, Watch, aread
from tests.support.loopback import Loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.core
ONE_TRY = RetryPolicy(retries=0)


class Counting(Probe):
    """Fails the first `failing` calls of some rows, and counts what it answered well."""

    def __init__(self, failing: dict[Any, int], delay_s: Any = 0.01) -> None:
        super().__init__(delay_s, {row: [KeyError("no")] * times for row, times in failing.items()})
        self.answered: Counter[Any] = Counter()

    async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        answer = await super().ainvoke(input, config)
        self.answered[input] += 1
        return answer


def test_with_duplicates_and_failures_at_200_in_flight_each_question_is_answered_well_exactly_once() -> None:
    rng = Random(7)
    rows = list(range(700)) + [rng.randrange(700) for _ in range(300)]
    rng.shuffle(rows)
    chain = Counting(dict.fromkeys(rng.sample(range(700), 50), 1))
    processor = BatchProcessor(chain, cache=Cache(max_entries=700), concurrency=200, retry=ONE_TRY)

    answers = virtual_run(processor.abatch(rows, return_exceptions=True))

    failed = sum(isinstance(answer, KeyError) for answer in answers)
    good = {row for row, answer in zip(rows, answers, strict=True) if not isinstance(answer, KeyError)}
    counts = processor.last_run.stats.cache
    assert failed == 50
    assert set(chain.answered.values()) == {1}
    assert set(chain.answered) == good
    assert (counts.hits, counts.misses) == (1000 - failed - len(good), len(good) + failed)


def test_of_equal_rows_the_first_of_the_input_asks_also_where_rows_before_it_only_wait() -> None:
    """So it is the same one in the next call again, which may have its answer in a batch."""
    processor = BatchProcessor(Counting({}), cache=Cache(), concurrency=3)
    virtual_run(processor.abatch(["a", "a", "b", "b", "b", "c", "a", "c"]))
    asked = [outcome.index for outcome in processor.last_run.outcomes() if not outcome.cached]
    assert asked == [0, 2, 5]


def test_rows_that_differ_only_in_what_the_prompt_does_not_use_are_one_question() -> None:
    with Loopback() as server:
        model = ChatOpenAI(base_url=server.openai_url, api_key="sk-x-0123456789", model="gpt-4o-mini")
        chain = ChatPromptTemplate.from_template("{text}") | model | StrOutputParser()
        rows = [{"id": number, "text": f"text {number % 2}"} for number in range(10)]
        processor = BatchProcessor(chain, cache=Cache())
        plan = BatchProcessor(chain, cache=Cache()).plan(rows)
        answers = processor.batch(rows)
        outcomes = processor.last_run.outcomes()
    assert server.counts == {"text 0": 1, "text 1": 1}
    assert answers == [f"answer to: text {number % 2}" for number in range(10)]
    assert [outcome.input for outcome in outcomes] == rows
    assert (plan.duplicates, plan.asked) == (8, 2)


class Hangs(Probe):
    """Its first call of each row takes for ever."""

    def __init__(self) -> None:
        super().__init__(lambda row: 1_000.0 if self.calls[row] == 1 else 0.01)


def test_an_equal_row_is_asked_after_the_one_it_waited_for_was_cancelled() -> None:
    chain = Hangs()
    processor = BatchProcessor(chain, cache=Cache(), item_timeout=5.0, retry=ONE_TRY)
    first, *others = virtual_run(processor.abatch(["a"] * 4, return_exceptions=True))
    assert "row 1 (index 0) took longer than item_timeout=5" in str(first)
    assert others == [("answer", "a")] * 3
    assert chain.calls == {"a": 2}


def test_the_only_row_of_a_question_that_was_cancelled_leaves_it_to_whoever_comes_later() -> None:
    chain, cache = Hangs(), Cache()

    async def main() -> list[Any]:
        late = await BatchProcessor(chain, cache=cache, item_timeout=5.0, retry=ONE_TRY).abatch(
            ["a"], return_exceptions=True
        )
        return [*late, *await BatchProcessor(chain, cache=cache, item_timeout=5.0).abatch(["a"])]

    late, answer = virtual_run(main())
    assert "item_timeout=5" in str(late)
    assert answer == ("answer", "a")


class Lists(Probe):
    async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        await super().ainvoke(input, config)
        return {"parts": [input]}


@pytest.mark.parametrize("rows", [["a", "a", "a"], ["a", "b", "a"]])
def test_what_a_reader_changes_in_its_answer_changes_nobody_elses(rows: list[str]) -> None:
    cache, given = Cache(), list[Any]()

    async def main() -> None:
        for _ in range(2):  # equal rows in flight, then those that find the answer in memory
            async with BatchProcessor(Lists(), cache=cache, concurrency=1).astart(rows) as run:
                async for outcome in run:
                    assert outcome.output == {"parts": [rows[outcome.index]]}
                    outcome.output["parts"].append("changed")
                    outcome.output["more"] = 1
                    given.append(outcome.output)

    virtual_run(main())
    assert len({id(output["parts"]) for output in given}) == len(given) == 2 * len(rows)


# -- several runs, one cache


def test_equal_rows_in_flight_in_two_runs_on_one_loop_share_one_call() -> None:
    chain, cache = Probe(1.0), Cache()

    async def main() -> list[Any]:
        runs = [BatchProcessor(chain, cache=cache).abatch([1, 2, 3]) for _ in range(3)]
        return await asyncio.gather(*runs)

    assert virtual_run(main()) == [[("answer", 1), ("answer", 2), ("answer", 3)]] * 3
    assert set(chain.calls.values()) == {1}


def test_equal_rows_in_flight_in_two_threads_share_one_call() -> None:
    with Loopback(latency=0.2) as server:
        processor = BatchProcessor(_chain(server), cache=Cache())
        rows = [{"x": f"row {n}"} for n in range(5)]
        answers: list[Any] = []
        threads = [threading.Thread(target=lambda: answers.append(processor.batch(rows))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert answers == [[f"answer to: row {n}" for n in range(5)]] * 4
    assert set(server.counts.values()) == {1}


def test_a_run_that_is_left_hands_its_questions_over_to_the_runs_that_wait() -> None:
    chain = Probe(10.0)
    processor = BatchProcessor(chain, cache=Cache())

    async def main() -> tuple[list[Any], Any]:
        first = processor.astart([1, 2])
        async with first:
            reading = asyncio.ensure_future(aread(first))
            await asyncio.sleep(1)
            second = asyncio.ensure_future(processor.abatch([1, 2]))
            await asyncio.sleep(1)
            await first.aclose()
        await reading
        return await second, asyncio.get_running_loop().time()

    answers, took_s = virtual_run(main())
    assert answers == [("answer", 1), ("answer", 2)]
    assert took_s == pytest.approx(12, abs=0.1)  # a processor's first requests go evenly spaced
    assert chain.calls == {1: 2, 2: 2}


def test_a_run_that_waits_for_a_question_which_fails_elsewhere_asks_itself() -> None:
    chain, cache = Counting({"x": 1}, delay_s=1.0), Cache()

    async def main() -> list[Any]:
        runs = [BatchProcessor(chain, cache=cache, retry=ONE_TRY) for _ in range(3)]
        return await asyncio.gather(*(run.abatch(["x"], return_exceptions=True) for run in runs))

    [failed], *others = virtual_run(main())
    assert isinstance(failed, KeyError)
    assert others == [[("answer", "x")]] * 2
    assert chain.calls["x"] == 2


def test_a_run_whose_reader_has_stopped_does_not_hold_up_another() -> None:
    chain = Counting({0: 1}, delay_s=lambda row: 0.01 if row else 100.0)
    processor = BatchProcessor(chain, cache=Cache(), retry=ONE_TRY)

    async def main() -> list[Any]:
        async with processor.astart([0]) as leader:
            await asyncio.sleep(0.1)
            async with processor.astart(iter([0, *range(1, 5_000)])):  # waits for row 0, and nobody reads
                await asyncio.sleep(0.1)
                third = asyncio.ensure_future(processor.abatch([0]))
                await aread(leader)
                return await third

    assert virtual_run(main()) == [("answer", 0)]


def test_a_processor_inside_a_processor_with_the_same_cache_does_not_wait_for_itself() -> None:
    chain, cache = Probe(), Cache()
    inner = BatchProcessor(chain, cache=cache)
    outer = BatchProcessor(inner, cache=cache)
    both = BatchProcessor(RunnableLambda(inner.ainvoke), cache=cache)

    assert virtual_run(outer.abatch([1, 1, 2])) == [("answer", 1), ("answer", 1), ("answer", 2)]
    assert virtual_run(both.abatch([3, 3])) == [("answer", 3)] * 2
    assert set(chain.calls.values()) == {1}


def test_a_call_that_blocks_the_loop_on_which_its_question_is_asked_does_not_wait_for_it() -> None:
    chain = Probe(0.2)
    processor = BatchProcessor(chain, cache=Cache())

    async def main() -> tuple[Any, Any]:
        asked = asyncio.ensure_future(processor.ainvoke("x"))
        await asyncio.sleep(0.05)
        return processor.invoke("x"), await asked

    assert asyncio.run(main()) == (("answer", "x"), ("answer", "x"))


# -- what counts as known


def test_an_answer_that_is_too_old_is_asked_for_again() -> None:
    chain = Probe()
    processor = BatchProcessor(chain, cache=Cache(ttl=60))

    async def main() -> None:
        await processor.abatch([1])
        await asyncio.sleep(50)
        await processor.abatch([1, 2])
        await asyncio.sleep(20)
        await processor.abatch([1, 2])

    virtual_run(main())
    assert chain.calls == {1: 2, 2: 1}


def test_the_least_recently_used_answer_goes_first() -> None:
    chain = Probe()
    processor = BatchProcessor(chain, cache=Cache(max_entries=2), concurrency=1)
    virtual_run(processor.abatch([1, 2, 1, 3, 1, 2]))
    assert chain.calls == {1: 1, 2: 2, 3: 1}


def test_a_row_or_a_call_can_stay_out_of_the_cache() -> None:
    chain = Probe()
    processor = BatchProcessor(chain, cache=Cache())
    out: Any = {"metadata": {"cottonpalm_cache": False}}

    async def main() -> None:
        await processor.abatch([1, 1], [out, {}])
        await processor.abatch([1, 2, 2], out)
        await processor.ainvoke(1)

    virtual_run(main())
    assert chain.calls == {1: 3, 2: 2}


@pytest.mark.parametrize(
    "wrong", [{"max_entries": 0}, {"ttl": 0}, {"ttl": -1.0}, {"ttl": float("inf")}, {"path": 7}]
)
def test_a_cache_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"Cache.{next(iter(wrong))}="):
        Cache(**wrong)


# -- what is counted


def _chain(server: Loopback, **more: Any) -> Any:
    model = ChatOpenAI(base_url=server.openai_url, api_key="sk-x-0123456789", model="gpt-4o-mini", **more)
    return ChatPromptTemplate.from_template("{x}") | model | StrOutputParser()


def test_hits_misses_and_what_they_saved_are_counted_and_told() -> None:
    watch = Watch()
    with Loopback(latency=0.05) as server:
        processor = BatchProcessor(_chain(server), cache=Cache(), observers=[watch])
        with processor.start([{"x": "a row"}] * 4) as run:
            outcomes = list(run)
        processor.batch([{"x": "a row"}])

    [paid] = [outcome for outcome in outcomes if not outcome.cached]
    counts = run.stats.cache
    assert (counts.misses, counts.hits, counts.coalesced) == (1, 3, 3)
    assert counts.saved == paid.usage + paid.usage + paid.usage
    assert pico(counts.saved_usd) == 3 * paid.cost_pico
    assert counts.saved_known
    assert pico(run.stats.cost_usd) == paid.cost_pico
    hits = watch.of(CacheHit)
    assert [hit.source for hit in hits] == ["flight"] * 3 + ["memory"]
    assert {(hit.usage, hit.saved_usd) for hit in hits} == {(paid.usage, paid.cost_usd)}


def test_a_saving_without_a_price_is_not_called_nothing() -> None:
    processor = BatchProcessor(ScriptedChain(then=str), cache=Cache())
    processor.batch([1, 1])
    counts = processor.last_run.stats.cache
    assert (counts.hits, counts.saved_usd, counts.saved_known) == (1, 0, False)


@pytest.fixture
def global_cache() -> Iterator[InMemoryCache]:
    cache = InMemoryCache()
    set_llm_cache(cache)
    yield cache
    set_llm_cache(None)


def test_what_langchains_global_cache_answers_is_no_request_and_costs_nothing(
    global_cache: InMemoryCache,
) -> None:
    with Loopback() as server:
        chain = _chain(server)
        first = _outcomes(BatchProcessor(chain, concurrency=1), ["a", "b", "a"])
        second = _outcomes(BatchProcessor(chain), ["b", "c"])

    assert server.counts == {"a": 1, "b": 1, "c": 1}
    assert [outcome.attempts for outcome in first + second] == [1, 1, 0, 0, 1]
    assert [outcome.cost_pico == 0 for outcome in first + second] == [False, False, True, True, False]
    assert [outcome.usage is None for outcome in first + second] == [False, False, True, True, False]
    assert not any(outcome.cached for outcome in first + second)


def test_a_models_own_cache_counts_the_same_and_takes_no_part_in_the_limit() -> None:
    with Loopback() as server:
        processor = BatchProcessor(_chain(server, cache=InMemoryCache()), concurrency=1)
        outcomes = _outcomes(processor, ["a"] * 6)
        stats = processor.last_run

    assert stats is None  # the run was read and let go
    assert [outcome.attempts for outcome in outcomes] == [1, 0, 0, 0, 0, 0]
    assert sum(outcome.cost_pico for outcome in outcomes) == outcomes[0].cost_pico


def test_a_model_that_the_hook_does_not_see_may_be_cached_as_well() -> None:
    model = FakeListChatModel(responses=["one", "two"], cache=InMemoryCache())
    outcomes = _outcomes(
        BatchProcessor(ChatPromptTemplate.from_template("{x}") | model, concurrency=1), ["a", "a", "b"]
    )

    assert [outcome.output.content for outcome in outcomes] == ["one", "one", "two"]
    assert [outcome.attempts for outcome in outcomes] == [1, 0, 1]
    assert outcomes[1].cost_pico == 0


def _outcomes(processor: BatchProcessor, texts: list[str]) -> list[Any]:
    with processor.start([{"x": text} for text in texts]) as run:
        return sorted(run, key=lambda outcome: outcome.index)


@pytest.mark.parametrize("fails", [False, True])
def test_rows_behind_one_slow_call_wait_in_bounded_number_and_are_all_answered(
    fails: bool, eventually: Callable[[Callable[[], object]], None]
) -> None:
    read, calls, slow = 0, 0, threading.Event()

    def rows() -> Iterator[str]:
        nonlocal read
        for _ in range(20_000):
            read += 1
            yield "the same"

    def answer(row: str) -> str:
        nonlocal calls
        calls += 1
        assert slow.wait(20), "nobody let the call go on"
        if fails and calls == 1:
            raise ValueError("not this time")
        return row

    with BatchProcessor(RunnableLambda(answer), cache=Cache(), concurrency=8).start(rows()) as run:
        eventually(lambda: read >= PARKED)
        before = -1
        while before != read:  # until nothing moves any more
            before = read
            threading.Event().wait(0.2)
        assert read < PARKED + 1_000
        slow.set()
        outcomes = list(run)
    assert len(outcomes) == 20_000
    assert sum(outcome.status == "ok" for outcome in outcomes) == 20_000 - fails
    assert calls == 1 + fails
