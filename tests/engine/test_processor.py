"""BatchProcessor as a Runnable, in sync and async code, nested, in composition, and over the loopback provider."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from typing import TYPE_CHECKING, Any

import openai
import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableConfig, RunnableGenerator, RunnableLambda
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from cottonpalm import BatchProcessor, Budget, Cache, RunStopped
from tests.engine.helpers import Probe, double
from tests.support.loopback import Loopback
from tests.support.replies import Reply, too_many

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.core
PROMPT = ChatPromptTemplate.from_template("{x}")


def model(server: Loopback, **more: Any) -> ChatOpenAI:
    return ChatOpenAI(base_url=server.openai_url, api_key="sk-test-0123456789", model="gpt-4o-mini", **more)


def text_chain(server: Loopback, **more: Any) -> Any:
    return PROMPT | model(server, **more) | StrOutputParser()


def rows(count: int) -> list[dict[str, str]]:
    return [{"x": f"row {n}"} for n in range(count)]


def test_batch_in_a_script_gives_each_row_its_own_answer() -> None:
    with Loopback(latency=0.002) as server:
        answers = BatchProcessor(text_chain(server)).batch(rows(200))
        assert answers == [f"answer to: row {n}" for n in range(200)]
        assert set(server.counts.values()) == {1}


def test_batch_inside_a_running_loop_and_on_three_threads_at_once() -> None:
    processor = BatchProcessor(double())
    results: list[list[int]] = []

    async def main() -> list[int]:
        return processor.batch([1, 2, 3])  # blocks this loop, as any sync call does

    assert asyncio.run(main()) == [2, 4, 6]
    threads = [
        threading.Thread(target=lambda: results.append(processor.batch(list(range(50))))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[2 * n for n in range(50)]] * 3


def test_one_model_object_works_from_several_event_loops_and_the_sync_front() -> None:
    with Loopback() as server:
        processor = BatchProcessor(text_chain(server))
        assert processor.batch(rows(5)) == processor.batch(rows(5))
        assert processor.invoke({"x": "one"}) == "answer to: one"


def test_a_processor_in_a_processor_and_in_a_chain() -> None:
    inner = BatchProcessor(double(), concurrency=2)

    async def fan(x: int) -> list[int]:
        return await inner.abatch([x, x + 1])

    def fan_sync(x: int) -> list[int]:
        return inner.batch([x, x + 1])

    for function in (fan, fan_sync):
        outer = BatchProcessor(RunnableLambda(function), concurrency=2)
        assert outer.batch(list(range(10))) == [[2 * x, 2 * x + 2] for x in range(10)]
    assert (RunnableLambda(lambda x: x + 1) | inner).invoke(1) == 4
    assert BatchProcessor(inner | inner).batch([1, 2]) == [4, 8]


def test_a_processor_that_calls_itself_under_a_limit_of_one_does_not_hang() -> None:
    async def down(n: int) -> int:
        return 0 if n == 0 else 1 + await processor.ainvoke(n - 1)

    processor = BatchProcessor(RunnableLambda(down), concurrency=1)
    assert processor.batch([3, 2]) == [3, 2]


def test_sync_only_chains_run_on_threads_as_many_at_once_as_the_limit_says() -> None:
    together = threading.Barrier(12, timeout=20)

    def meet(x: int) -> int:
        together.wait()
        return x

    processor = BatchProcessor(RunnableLambda(meet), concurrency=12)
    assert processor.batch(list(range(24))) == list(range(24))


def test_a_chain_with_a_step_that_has_only_a_sync_form_runs() -> None:
    def shout(words: Any) -> Any:
        for word in words:
            yield word.upper()

    chain = RunnableLambda(lambda x: x["x"]) | RunnableGenerator(shout)
    assert BatchProcessor(chain).batch(rows(3)) == ["ROW 0", "ROW 1", "ROW 2"]


def test_configs_tags_metadata_and_callbacks_reach_each_row() -> None:
    def tell(x: int, config: RunnableConfig) -> tuple[int, Any, Any]:
        return x, config["tags"], config["metadata"].get("row")

    chain = RunnableLambda(tell)
    configs: list[RunnableConfig] = [{"tags": [f"t{n}"], "metadata": {"row": n}} for n in range(3)]
    assert BatchProcessor(chain).batch([5, 6, 7], configs) == chain.batch([5, 6, 7], configs)
    one: RunnableConfig = {"tags": ["all"], "metadata": {"row": "r"}}
    assert BatchProcessor(chain).batch([5, 6], one) == chain.batch([5, 6], one)
    bound = BatchProcessor(chain).with_config(tags=["bound"])
    assert bound.batch([1, 2]) == chain.with_config(tags=["bound"]).batch([1, 2])
    with pytest.raises(ValueError, match="length"):
        BatchProcessor(chain).batch([1, 2, 3], configs[:2])


def test_as_completed_stream_and_their_async_forms() -> None:
    with Loopback() as server:
        processor = BatchProcessor(text_chain(server, stream_usage=True))
        assert sorted(processor.batch_as_completed(rows(5))) == [(n, f"answer to: row {n}") for n in range(5)]
        pieces = list(processor.stream({"x": "one"}))
        assert len(pieces) > 1
        assert "".join(pieces) == "answer to: one"

        async def main() -> None:
            got = [pair async for pair in processor.abatch_as_completed(rows(5))]
            assert sorted(got) == [(n, f"answer to: row {n}") for n in range(5)]
            assert "".join([piece async for piece in processor.astream({"x": "two"})]) == "answer to: two"
            texts = dict.fromkeys(range(8), "")
            async for index, chunk in processor.stream_batch(rows(8)):
                texts[index] += chunk
            assert texts == {n: f"answer to: row {n}" for n in range(8)}

        asyncio.run(main())


def test_what_fails_in_as_completed_comes_after_all_that_succeeded_or_in_place() -> None:
    chain = Probe(delay_s=0, faults={1: [KeyError("one")], 3: [KeyError("three")]})
    good, caught = [], None
    try:
        for pair in BatchProcessor(chain).batch_as_completed(list(range(5))):
            good.append(pair)  # noqa: PERF402 - what came before the exception counts
    except KeyError as exc:
        caught = exc
    assert sorted(good) == [(n, ("answer", n)) for n in (0, 2, 4)]
    assert caught is not None
    assert caught.args == ("one",)
    chain = Probe(delay_s=0, faults={1: [KeyError("one")]})
    pairs = dict(BatchProcessor(chain).batch_as_completed(list(range(3)), return_exceptions=True))
    assert isinstance(pairs[1], KeyError)


def test_schemas_and_graph_are_the_chains_own() -> None:
    with Loopback() as server:
        chain = text_chain(server)
        processor = BatchProcessor(chain)
        assert processor.get_input_jsonschema() == chain.get_input_jsonschema()
        assert processor.get_output_jsonschema() == chain.get_output_jsonschema()
        assert processor.get_graph().to_json() == chain.get_graph().to_json()
        assert processor.InputType is chain.InputType
        assert processor.get_name() == chain.get_name()


def test_the_sdks_own_exception_reaches_the_caller_after_the_tries_are_used_up() -> None:
    from cottonpalm import RetryPolicy

    with Loopback(script=lambda request: Reply(500) if request.text == "row 1" else None) as server:
        processor = BatchProcessor(text_chain(server), retry=RetryPolicy(retries=2, base_s=0.001))
        with pytest.raises(openai.InternalServerError):
            processor.batch(rows(3))
        assert server.counts["row 1"] == 3
        assert server.counts["row 0"] == 1


def test_a_bad_key_stops_the_run_with_the_reason_and_what_to_do() -> None:
    with Loopback(script=lambda _request: Reply(401)) as server:
        processor = BatchProcessor(text_chain(server), concurrency=2)
        with pytest.raises(RunStopped, match="no row can be answered") as caught:
            processor.batch(rows(500))
        assert caught.value.reason == "fatal"
        assert isinstance(caught.value.__cause__, openai.AuthenticationError)
        assert sum(server.counts.values()) < 10
        assert "sk-test-0123456789" not in str(caught.value)
        answers = processor.batch(rows(50), return_exceptions=True)
        assert isinstance(answers[49], RunStopped)


def test_the_total_budget_is_a_ceiling_and_the_run_says_so() -> None:
    with Loopback() as server:
        budget = Budget(total=0.0005)
        processor = BatchProcessor(text_chain(server, max_tokens=100), budget=budget, concurrency=8)
        with pytest.raises(RunStopped) as caught:
            processor.batch(rows(500))
        assert caught.value.reason == "budget"
        done = [outcome for outcome in caught.value.outcomes if outcome.status == "ok"]
        assert done
        spent = sum(outcome.cost_usd or 0 for outcome in done)
        assert 0 < spent <= 0.0005
        usage = [outcome.usage for outcome in done]
        assert all(one is not None and one.input_tokens > 0 for one in usage)


def test_a_budget_for_a_model_without_a_price_is_refused_before_the_first_call() -> None:
    with Loopback() as server:
        chain = PROMPT | model(server, max_tokens=5).with_config() | StrOutputParser()
        unknown = PROMPT | ChatOpenAI(
            base_url=server.openai_url, api_key="sk-x-0123456789", model="my-own-model", max_tokens=5
        )
        with pytest.raises(RunStopped, match="my-own-model"):
            BatchProcessor(unknown, budget=Budget(total=1.0)).batch(rows(3))
        assert not server.counts
        priced = BatchProcessor(unknown, budget=Budget(total=1.0), prices={"my-own-model": (1.0, 2.0)})
        assert len(priced.batch(rows(3))) == 3
        assert len(BatchProcessor(chain, budget=Budget(total=1.0)).batch(rows(3))) == 3


def test_duplicates_are_paid_once_with_the_cache_on() -> None:
    with Loopback(latency=0.01) as server:
        processor = BatchProcessor(text_chain(server), cache=Cache())
        answers = processor.batch([{"x": f"row {n % 7}"} for n in range(300)])
        assert answers == [f"answer to: row {n % 7}" for n in range(300)]
        assert set(server.counts.values()) == {1}
        assert processor.invoke({"x": "row 3"}) == "answer to: row 3"
        assert server.counts["row 3"] == 1


class Label(BaseModel):
    label: str
    score: float


def test_structured_output_comes_back_as_its_class() -> None:
    reply = Reply(text='{"label": "good", "score": 0.5}')
    with Loopback(script=lambda _request: reply) as server:
        chain = PROMPT | model(server).with_structured_output(Label)
        assert BatchProcessor(chain).batch(rows(3)) == [Label(label="good", score=0.5)] * 3


def test_a_row_that_raises_system_exit_in_a_sync_call_is_a_failed_row() -> None:
    async def leave(x: int) -> int:
        if x == 2:
            raise SystemExit(7)
        return x

    for chain in (
        RunnableLambda(leave),
        RunnableLambda(lambda x: (_ for _ in ()).throw(SystemExit(7)) if x == 2 else x),
    ):
        answers = BatchProcessor(chain, retry=0).batch([1, 2, 3], return_exceptions=True)
        assert answers[0] == 1
        assert answers[2] == 3
        assert "SystemExit" in str(answers[1])


def test_a_run_that_is_lost_half_way_is_settled() -> None:
    gc.collect()  # what other tests have left open is not this one's
    before = threading.active_count()
    chain = Probe(delay_s=0.001)
    processor = BatchProcessor(chain, concurrency=4)
    run = processor.start(range(100_000))
    next(run)
    engine = run._engine
    del run
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()
        for _ in range(200):
            if engine.stats().finished:
                break
            threading.Event().wait(0.02)
    assert engine.stats().finished
    assert chain.in_flight == 0
    assert threading.active_count() <= before + 2


def test_leaving_a_run_early_closes_it() -> None:
    chain = Probe(delay_s=0.001)
    with BatchProcessor(chain, concurrency=4).start(range(100_000)) as run:
        for outcome in run:
            if outcome.index > 20:
                break
    assert run.stats.finished
    assert chain.in_flight == 0

    async def main() -> None:
        async with BatchProcessor(chain, concurrency=4).astart(range(100_000)) as run:
            async for _ in run:
                break
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
    assert chain.in_flight == 0


def test_stop_finishes_what_is_in_flight_and_says_how_to_go_on() -> None:
    chain = Probe(delay_s=0.005)
    got = 0
    with BatchProcessor(chain, concurrency=4).start(range(10_000)) as run:
        with pytest.raises(RunStopped, match="the run stopped after") as caught:  # noqa: PT012 - the iteration raises at its end
            for _ in run:
                got += 1
                if got == 10:
                    run.stop()
        assert caught.value.reason == "interrupted"
    assert chain.in_flight == 0
    assert got == sum(chain.calls.values())


def test_after_a_stop_a_run_with_a_cache_on_disk_says_that_its_answers_are_kept_and_they_are(
    tmp_path: Path,
) -> None:
    with Loopback() as server:
        chain = text_chain(server, max_tokens=20)

        def processor(budget: Budget | None) -> BatchProcessor:
            return BatchProcessor(chain, concurrency=4, budget=budget, cache=Cache(path=tmp_path / "c.db"))

        with pytest.raises(RunStopped, match="the same call again pays for the rest alone") as caught:
            processor(Budget(total=2e-4)).batch(rows(60))
        asked = server.requests
        assert 0 < asked < 60
        assert "run=" not in str(caught.value)
        assert len(processor(None).batch(rows(60))) == 60
        assert server.requests == 60


def test_a_row_that_a_stop_left_out_comes_once_and_with_the_reason_as_completed() -> None:
    with Loopback() as server:
        processor = BatchProcessor(
            text_chain(server, max_tokens=20), concurrency=4, budget=Budget(total=2e-4)
        )
        pairs = list(processor.batch_as_completed(rows(60), return_exceptions=True))

        async def main() -> list[tuple[int, Any]]:
            other = BatchProcessor(
                text_chain(server, max_tokens=20), concurrency=4, budget=Budget(total=2e-4)
            )
            return [pair async for pair in other.abatch_as_completed(rows(60), return_exceptions=True)]

        for found in (pairs, asyncio.run(main())):
            assert sorted(index for index, _ in found) == list(range(60))
            left_out = [value for _, value in found if isinstance(value, Exception)]
            assert 0 < len(left_out) < 60
            assert all(isinstance(one, RunStopped) and one.reason == "budget" for one in left_out)


def test_stop_does_not_wait_for_rows_that_have_sent_nothing() -> None:
    with Loopback(latency=0.2) as server:
        with BatchProcessor(text_chain(server), concurrency=2).start(rows(500)) as run:
            outcomes = [next(run)]
            run.stop()
            with pytest.raises(RunStopped):
                outcomes.extend(iter(run.__next__, None))
        assert sum(server.counts.values()) == sum(outcome.status == "ok" for outcome in outcomes) <= 4
        assert all(outcome.status in ("ok", "skipped") for outcome in outcomes)


def test_stop_does_not_wait_out_a_providers_pause() -> None:
    with Loopback(script=lambda request: too_many(3600) if request.seq > 1 else None) as server:
        with BatchProcessor(text_chain(server), concurrency=2).start(rows(50)) as run:
            next(run)
            server.wait(requests=3)
            run.stop()
            with pytest.raises(RunStopped, match="asked to"):
                list(run)
        assert run.stats.finished


def test_settings_that_cannot_work_are_refused_in_one_line() -> None:
    chain = double()
    for wrong in (
        {"concurrency": 0},
        {"concurrency": "fast"},
        {"retry": -1},
        {"timeout": 0},
        {"item_timeout": -1},
        {"max_failures": -2},
        {"fallbacks": ["gpt"]},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong)).split("_")[0]):
            BatchProcessor(chain, **wrong)
    with pytest.raises(ValueError, match="negative"):
        Budget(total=-1)
    with pytest.raises(ValueError, match="Runnable"):
        BatchProcessor(lambda x: x)  # type: ignore[arg-type]
