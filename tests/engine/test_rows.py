"""Rows through the engine on a virtual clock: order, once each, lazily, by priority, within bounds."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler, CallbackManager
from langchain_core.runnables import RunnableLambda, RunnablePassthrough

from cottonpalm import BatchProcessor, Cache, ConfigError, RetryPolicy, RowTimeout, RunStopped
from cottonpalm.engine.input.reader import Broken
from cottonpalm.events import RowFinished, RowStarted, RunEnded, RunStarted
from cottonpalm.testing import virtual_run
from cottonpalm.types import ErrorRecord, Kind
from tests.engine.helpers import Probe, Watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

pytestmark = pytest.mark.core


def test_outputs_come_in_input_order_whatever_the_latencies() -> None:
    chain = Probe(delay_s=lambda x: (x * 7 % 11) / 10)
    assert virtual_run(BatchProcessor(chain).abatch(list(range(100)))) == [("answer", n) for n in range(100)]
    assert set(chain.calls.values()) == {1}


@pytest.mark.parametrize("kind", ["list", "async iterator"])
def test_every_kind_of_source_gives_each_row_once(kind: str) -> None:
    async def rows() -> AsyncIterator[int]:
        for n in range(300):
            yield n

    async def main() -> list[int]:
        source: Any = list(range(300)) if kind == "list" else rows()
        async with BatchProcessor(Probe()).astart(source) as run:
            return sorted([outcome.index async for outcome in run])

    assert virtual_run(main()) == list(range(300))


def test_an_iterator_is_read_on_its_own_thread_and_gives_each_row_once() -> None:
    def rows() -> Iterator[int]:
        yield from range(2_000)

    with BatchProcessor(Probe(delay_s=0)).start(rows()) as run:
        assert sorted(outcome.index for outcome in run) == list(range(2_000))


def test_a_lazy_source_is_read_no_further_ahead_than_the_window_and_the_outbox_allow() -> None:
    read = 0

    async def rows() -> AsyncIterator[int]:
        nonlocal read
        for n in range(100_000):
            read = n + 1
            yield n

    async def main() -> int:
        async with BatchProcessor(Probe(), concurrency=8).astart(rows()) as run:
            async for _ in run:
                break
            await asyncio.sleep(100)
            return read

    assert virtual_run(main()) < 1_200


def test_a_reader_that_stops_reading_stops_the_calls() -> None:
    chain = Probe()

    async def main() -> None:
        async with BatchProcessor(chain, concurrency=8).astart(range(100_000)) as run:
            await anext(run)
            await asyncio.sleep(1_000)

    virtual_run(main())
    assert sum(chain.calls.values()) < 600


def test_a_list_with_priorities_starts_in_exact_order() -> None:
    chain = Probe()
    rows = list(range(50))
    priorities = [n * 37 % 50 for n in rows]
    answers = virtual_run(BatchProcessor(chain, concurrency=1).abatch(rows, priorities=priorities))
    assert chain.order == sorted(rows, key=lambda n: -priorities[n])
    assert answers == [("answer", n) for n in rows]


def test_a_late_high_priority_row_of_a_lazy_source_overtakes_those_that_wait() -> None:
    chain = Probe(delay_s=1.0)

    async def rows() -> AsyncIterator[int]:
        for n in range(60):
            yield n
            await asyncio.sleep(0)
        await asyncio.sleep(2.5)
        yield 999

    async def main() -> None:
        processor = BatchProcessor(chain, concurrency=2, priority=lambda row: 1 if row == 999 else 0)
        async with processor.astart(rows()) as run:
            async for _ in run:
                pass

    virtual_run(main())
    assert chain.order.index(999) <= 8


def test_a_low_priority_row_is_not_starved_by_newer_high_ones() -> None:
    chain = Probe(delay_s=1.0)

    async def rows() -> AsyncIterator[str]:
        yield "high first"
        yield "low"
        for n in range(200):
            await asyncio.sleep(1.0)
            yield f"high {n}"

    async def main() -> None:
        processor = BatchProcessor(chain, concurrency=1, priority=lambda row: 0 if row == "low" else 1)
        async with processor.astart(rows()) as run:
            async for _ in run:
                pass

    virtual_run(main())
    assert chain.order.index("low") < 40, "one step of priority is worth thirty seconds of waiting"


def test_a_number_bounds_the_rows_at_once() -> None:
    chain = Probe()
    virtual_run(BatchProcessor(chain, concurrency=7).abatch(list(range(200))))
    assert chain.peak == 7


async def _started(processor: BatchProcessor, config: Any) -> None:
    async with processor.astart(range(50), config=config) as run:
        assert len([outcome async for outcome in run]) == 50


async def _streamed(processor: BatchProcessor, config: Any, most: int | None = None) -> None:
    assert (
        len([piece async for piece in processor.stream_batch(range(50), config, max_concurrency=most)]) == 50
    )


async def _planned(processor: BatchProcessor, config: Any) -> None:
    await processor.aplan(range(50), config=config, sample=20)


WAYS = {
    "started": _started,
    "streamed": _streamed,
    "streamed, the lower of two": partial(_streamed, most=40),
    "planned": _planned,
}


@pytest.mark.parametrize("way", WAYS)
def test_max_concurrency_of_the_config_is_a_cap_whichever_way_rows_are_called(way: str) -> None:
    chain = Probe(0.05)
    virtual_run(WAYS[way](BatchProcessor(chain), {"max_concurrency": 2}))
    assert chain.peak == 2


@pytest.mark.parametrize("store", [None, "memory:"])
def test_max_concurrency_of_the_config_is_a_cap_when_its_failed_rows_are_done_again(
    store: str | None,
) -> None:
    chain = Probe(0.01, {row: [KeyError()] for row in range(20)})
    kept = {} if store is None else {"store": store, "run": "night"}
    processor = BatchProcessor(chain, retry=0, max_failures=1.0, **kept)
    processor.batch(list(range(20)), {"max_concurrency": 2}, return_exceptions=True)
    assert [outcome.status for outcome in processor.retry()] == ["ok"] * 20
    assert chain.peak == 2


@pytest.mark.parametrize("wrong", [0, -1, "2", 1.5])
def test_a_cap_that_is_no_number_of_rows_is_refused_by_its_name(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"max_concurrency=.* must be a whole number"):
        asyncio.run(_streamed(BatchProcessor(Probe()), None, wrong))
    with pytest.raises(ConfigError, match=r"max_concurrency=.* in the config must be a whole number"):
        BatchProcessor(Probe()).start([1], config={"max_concurrency": wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"tags": 5},
        {"tags": ("a", "b")},
        {"metadata": ["a"]},
        {"configurable": ["a"]},
        {"callbacks": 5},
        {"callbacks": [5]},
        {"recursion_limit": "5"},
    ],
)
def test_a_field_of_a_config_that_langchain_does_not_take_is_refused_by_its_name_before_anything_is_asked(
    wrong: Any,
) -> None:
    chain = Probe()
    processor = BatchProcessor(chain)
    [name] = wrong
    with pytest.raises(ConfigError, match=f"{name}.* in the config must be "):
        processor.batch([1, 2], wrong)
    with pytest.raises(ConfigError, match=rf"{name}.* in the config of row 2 \(index 1\) must be "):
        processor.batch([1, 2], [{}, wrong])
    with pytest.raises(ConfigError, match=f"{name}.* in the config must be "):
        processor.start(iter([1, 2]), config=wrong)
    assert chain.peak == 0
    allowed: Any = {"tags": None, "metadata": {}, "callbacks": CallbackManager([BaseCallbackHandler()])}
    assert processor.batch([1], allowed) == [("answer", 1)]


def test_max_concurrency_of_the_config_is_a_cap() -> None:
    chain = Probe()
    virtual_run(BatchProcessor(chain).abatch(list(range(200)), {"max_concurrency": 3}))
    assert chain.peak == 3


def test_auto_grows_while_nothing_pushes_back() -> None:
    chain = Probe()
    virtual_run(BatchProcessor(chain).abatch(list(range(5_000))))
    assert chain.peak > 200


def test_duplicates_in_flight_share_one_call_and_hold_no_place() -> None:
    chain = Probe()
    rows = [n % 10 for n in range(500)]
    processor = BatchProcessor(chain, cache=Cache(), concurrency=4)
    assert virtual_run(processor.abatch(rows)) == [("answer", n) for n in rows]
    assert set(chain.calls.values()) == {1}


def test_a_duplicate_asks_for_itself_when_the_first_one_failed() -> None:
    chain = Probe(faults={"x": [KeyError("first"), KeyError("second")]})
    processor = BatchProcessor(chain, cache=Cache(), concurrency=4)
    answers = virtual_run(processor.abatch(["x"] * 5, return_exceptions=True))
    assert [type(answer) for answer in answers[:2]] == [KeyError, KeyError]
    assert answers[2:] == [("answer", "x")] * 3
    assert chain.calls["x"] == 3


def test_cached_answers_are_copies_that_do_not_share_changes() -> None:
    class Lists(Probe):
        async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
            return [await super().ainvoke(input, config)]

    first, second = virtual_run(BatchProcessor(Lists(), cache=Cache()).abatch(["a", "a"]))
    first.append("changed")
    assert second == [("answer", "a")]


def test_one_bad_row_is_one_bad_row_and_the_lowest_failure_is_raised() -> None:
    chain = Probe(faults={30: [ValueError("thirty")], 20: [ValueError("twenty")]})
    processor = BatchProcessor(chain)

    async def main() -> None:
        with pytest.raises(ValueError, match="twenty") as caught:
            await processor.abatch(list(range(50)))
        assert "1 other of 50 rows failed" in caught.value.__notes__[0]

    virtual_run(main())
    run = processor.last_run
    assert run is not None
    assert [outcome.index for outcome in run.outcomes() if outcome.status == "failed"] == [20, 30]
    assert sum(outcome.status == "ok" for outcome in run.outcomes()) == 48


def test_transient_faults_of_the_rows_own_code_are_tried_again_and_others_are_not() -> None:
    chain = Probe(
        faults={
            1: [ConnectionError("a"), TimeoutError("b")],
            2: [KeyError("c")],
            3: [ConnectionError("d")] * 9,
        }
    )
    answers = virtual_run(BatchProcessor(chain, retry=2).abatch([0, 1, 2, 3], return_exceptions=True))
    assert answers[:2] == [("answer", 0), ("answer", 1)]
    assert isinstance(answers[2], KeyError)
    assert isinstance(answers[3], ConnectionError)
    assert dict(chain.calls) == {0: 1, 1: 3, 2: 1, 3: 3}


def test_a_row_asleep_for_its_next_try_holds_no_place() -> None:
    chain = Probe(delay_s=1.0, faults={n: [ConnectionError()] for n in range(10)})

    async def main() -> float:
        policy = RetryPolicy(base_s=1000.0, cap_s=1000.0)
        async with BatchProcessor(chain, concurrency=1, retry=policy).astart(range(30)) as run:
            got = 0
            async for outcome in run:
                got += outcome.index >= 10
                if got == 20:
                    break
        return asyncio.get_running_loop().time()

    assert virtual_run(main()) < 60, "the other rows did not wait out the backoff of the first ten"


def test_validate_asks_again_and_then_fails_the_row_with_its_kind() -> None:
    answers = {"good": ["no", "yes"], "bad": ["no"] * 9}

    class Says(Probe):
        async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
            await super().ainvoke(input, config)
            return answers[input].pop(0)

    def check(output: str) -> None:
        if output != "yes":
            raise ValueError(f"{output!r} is not yes")

    chain = Says()
    processor = BatchProcessor(chain, validate=check)
    got = virtual_run(processor.abatch(["good", "bad"], return_exceptions=True))
    assert got[0] == "yes"
    assert "is not yes" in str(got[1])
    assert chain.calls == {"good": 2, "bad": 2}
    run = processor.last_run
    assert run is not None
    assert run.outcomes()[1].error is not None
    assert run.outcomes()[1].error.kind is Kind.REASK


def test_fallbacks_are_asked_in_order_for_faults_another_model_could_mend() -> None:
    first = Probe(faults={"x": [ConnectionError()] * 9, "y": [KeyError("own code")]})
    second = Probe(faults={"x": [ConnectionError()] * 9})
    third = Probe()
    processor = BatchProcessor(first, fallbacks=[second, third], retry=1)
    answers = virtual_run(processor.abatch(["x", "y", "z"], return_exceptions=True))
    assert answers[0] == ("answer", "x")
    assert isinstance(answers[1], KeyError)
    assert answers[2] == ("answer", "z")
    assert (first.calls["x"], second.calls["x"], third.calls["x"]) == (2, 2, 1)
    assert not second.calls["y"]


def test_item_timeout_ends_a_row_exactly_then_even_if_the_chain_swallows_the_cancel() -> None:
    ends: dict[Any, float] = {}

    class Stubborn(Probe):
        async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
            try:
                return await super().ainvoke(input, config)
            except asyncio.CancelledError:
                if input == "stubborn":
                    return "swallowed"
                raise
            finally:
                ends[input] = asyncio.get_running_loop().time()

    chain = Stubborn(delay_s=lambda row: 1.0 if row == "quick" else 99.0)
    processor = BatchProcessor(chain, item_timeout=5.0, retry=0)
    answers = virtual_run(processor.abatch(["quick", "slow", "stubborn", "quick"], return_exceptions=True))
    assert answers[0] == answers[3] == ("answer", "quick")
    assert isinstance(answers[1], RowTimeout)
    assert "row 2 (index 1) took longer than item_timeout=5" in str(answers[1])
    assert ends["slow"] == 5.0
    assert answers[2] == "swallowed"


def test_a_cancelled_error_of_the_rows_own_is_a_failed_row() -> None:
    chain = Probe(faults={1: [asyncio.CancelledError()], 2: [GeneratorExit()], 3: [SystemExit(3)]})
    processor = BatchProcessor(chain, retry=0)
    answers = virtual_run(processor.abatch([0, 1, 2, 3, 4], return_exceptions=True))
    assert answers[0] == ("answer", 0)
    assert answers[4] == ("answer", 4)
    assert [type(answer.__cause__) for answer in answers[1:4]] == [
        asyncio.CancelledError,
        GeneratorExit,
        SystemExit,
    ]


@pytest.mark.parametrize("exc", [KeyboardInterrupt(), MemoryError()])
def test_an_interrupt_or_the_end_of_memory_stops_the_run_cleanly(exc: BaseException) -> None:
    chain = Probe(faults={5: [exc]})

    async def main() -> RunStopped:
        with pytest.raises(RunStopped) as caught:
            await BatchProcessor(chain, concurrency=2).abatch(list(range(100)))
        return caught.value

    stopped = virtual_run(main())
    done = [outcome for outcome in stopped.outcomes if outcome.status == "ok"]
    assert 4 <= len(done) < 10
    assert stopped.outcomes[5].status == "skipped"


def test_max_failures_as_a_number_and_as_a_share() -> None:
    async def main(bound: float, rows: int) -> int:
        chain = Probe(faults={n: [KeyError(n) if n % 2 else ValueError(n)] for n in range(rows)})
        with pytest.raises(RunStopped, match="max_failures") as caught:
            await BatchProcessor(chain, concurrency=1, max_failures=bound).abatch(list(range(rows)))
        assert caught.value.reason == "max_failures"
        return sum(outcome.status == "failed" for outcome in caught.value.outcomes)

    assert virtual_run(main(3, 50)) == 4
    assert virtual_run(main(0.5, 300)) == 100, "a share is judged from a hundred finished rows on"


def test_what_a_row_sets_in_its_context_variables_stays_with_the_row() -> None:
    mine: ContextVar[str] = ContextVar("mine", default="unset")
    seen = []

    class Sets(Probe):
        async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
            seen.append(mine.get())
            mine.set(f"row {input}")
            await super().ainvoke(input, config)
            return mine.get()

    async def main() -> list[str]:
        mine.set("caller's")
        answers = await BatchProcessor(Sets(), concurrency=2).abatch(list(range(20)))
        assert mine.get() == "caller's"
        return answers

    assert virtual_run(main()) == [f"row {n}" for n in range(20)]
    assert set(seen) == {"caller's"}


def test_events_tell_the_story_and_a_failing_observer_is_switched_off() -> None:
    class Broken_(Watch):
        def see(self, event: Any) -> None:
            super().see(event)
            raise RuntimeError("I am broken")

    watch, broken = Watch(), Broken_()
    processor = BatchProcessor(Probe(), observers=[broken, watch])
    virtual_run(processor.abatch([1, 2, 3]))
    assert len(broken.events) == 1
    assert [event.total for event in watch.of(RunStarted)] == [3]
    assert len(watch.of(RowStarted)) == len(watch.of(RowFinished)) == 3
    assert [event.reason for event in watch.of(RunEnded)] == [None]


def test_a_row_that_could_not_be_read_is_a_failed_row_without_a_call() -> None:
    chain = Probe()
    broken = Broken(ErrorRecord(Kind.FAIL_ROW, "BadLine", "line 2 is no JSON"))
    processor = BatchProcessor(chain)
    answers = virtual_run(processor.abatch([1, broken, 3], return_exceptions=True))
    assert answers[0] == ("answer", 1)
    assert "line 2 is no JSON" in str(answers[1])
    assert sum(chain.calls.values()) == 2


def test_a_source_that_raises_ends_there_and_what_was_read_is_done_first() -> None:
    async def rows() -> AsyncIterator[int]:
        yield 1
        yield 2
        raise OSError("the file is gone")

    async def collect() -> list[Any]:
        got: list[Any] = []
        async with BatchProcessor(Probe()).astart(rows()) as run:
            try:
                async for outcome in run:
                    got.append(outcome.output)  # noqa: PERF401 - what came before the exception counts
            except OSError as exc:
                got.append(str(exc))
        return got

    assert virtual_run(collect()) == [("answer", 1), ("answer", 2), "the file is gone"]


@pytest.mark.parametrize("given", [3, "high", {0: 1}, (n for n in (1, 2))])
def test_priorities_that_are_no_list_are_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="priorities must be a list with one for each row, or a function"):
        virtual_run(BatchProcessor(Probe()).abatch([1, 2], priorities=given))


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("what", ["priorities", "ids"])
def test_a_function_of_the_row_that_raises_says_at_which_row(what: str, *, lazy: bool) -> None:
    def of(row: dict[str, int]) -> int:
        return row["n"]

    processor = BatchProcessor(RunnablePassthrough(), priority=of if what == "priorities" else None)
    rows = [{"n": 1}, {"m": 2}, {"n": 3}] if what == "ids" else [{"m": 1}, {"n": 2}]
    with pytest.raises(KeyError) as raised:
        for _ in processor.start(iter(rows) if lazy else rows, ids=of if what == "ids" else None):
            pass
    at = "row 2 (index 1)" if what == "ids" else "row 1 (index 0)"
    assert raised.value.__notes__ == [f"cottonpalm: {at}: the function given for {what} raised this"]


@pytest.mark.parametrize("many", [1, 3])
def test_a_wrong_number_of_priorities_or_ids_is_refused(many: int) -> None:
    processor = BatchProcessor(Probe())
    with pytest.raises(ValueError, match="for 2 rows"):
        virtual_run(processor.abatch([1, 2], priorities=[0] * many))
    with pytest.raises(ConfigError, match="for 2 rows"):
        virtual_run(processor.abatch([1, 2], ids=["a"] * many))


def test_no_rows_are_no_work() -> None:
    processor = BatchProcessor(Probe())
    assert virtual_run(processor.abatch([])) == []
    assert processor.batch([]) == []
    assert list(processor.batch_as_completed([])) == []
    with processor.start(iter([])) as run:
        assert list(run) == []


async def _as_completed(processor: BatchProcessor[Any, Any]) -> list[Any]:
    return [pair async for pair in processor.abatch_as_completed([])]


@pytest.mark.parametrize(
    "nothing",
    [
        lambda processor: processor.batch([]),
        lambda processor: virtual_run(processor.abatch([])),
        lambda processor: list(processor.batch_as_completed([])),
        lambda processor: virtual_run(_as_completed(processor)),
        lambda processor: processor.map_table([]),
        lambda processor: virtual_run(processor.amap_table([])),
    ],
)
def test_after_no_rows_the_last_run_is_that_of_no_rows(nothing: Callable[[Any], list[Any]]) -> None:
    processor = BatchProcessor(RunnablePassthrough())
    processor.batch([1, 2])
    assert processor.last_run.stats.ok == 2
    assert nothing(processor) == []
    assert (processor.last_run.stats.ok, processor.last_run.outcomes()) == (0, [])


def test_retry_after_a_batch_of_no_rows_asks_none_of_an_earlier_batch() -> None:
    def broken(row: int) -> int:
        asked.append(row)
        raise ValueError("no")

    asked: list[int] = []
    processor = BatchProcessor(RunnableLambda(broken))
    processor.batch([1], return_exceptions=True)
    processor.batch([])
    assert (processor.retry(), asked) == ([], [1])


@pytest.mark.parametrize("name", ["accept_truncated", "store_inputs", "request_hook", "progress"])
def test_a_text_is_no_yes_and_no_no(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}='no' must be True or False"):
        BatchProcessor(RunnablePassthrough(), **{name: "no"})


@pytest.mark.parametrize("how", ["swallows it", "raises another", "goes on for a while", "is cancelled"])
def test_the_cancel_of_a_late_row_does_not_hit_the_next_row_of_its_worker(how: str) -> None:
    cancelling: list[int] = []

    class Late(Probe):  # its calls are part of the worker's own task
        async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
            task = asyncio.current_task()
            assert task is not None
            cancelling.append(task.cancelling())
            try:
                return await super().ainvoke(input)
            except asyncio.CancelledError:
                if how == "raises another":
                    raise ValueError(input) from None
                if how == "is cancelled":
                    raise
                if how == "goes on for a while":
                    await asyncio.sleep(3)
            return "late"

    chain = Late(lambda row: 100.0 if row % 2 else 0.5, faults={4: [KeyError("its own")]})
    processor = BatchProcessor(chain, item_timeout=1.0, concurrency=1, retry=0)
    answers = virtual_run(processor.abatch(list(range(9)), return_exceptions=True))
    ended = [answer if answer == "late" else type(answer) for answer in answers]
    late = RowTimeout if how in ("raises another", "is cancelled") else "late"
    assert ended == [tuple, late, tuple, late, KeyError, late, tuple, late, tuple]
    assert cancelling == [0] * 9
