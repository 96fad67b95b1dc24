"""What the document's attributes and methods mean here, class by class (the checkpoint has a file of its own)."""

from __future__ import annotations

import asyncio
import heapq
import logging
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import anthropic
import httpx
import openai
import pytest
from langchain_core.runnables import RunnableLambda

from cottonpalm import (
    AdaptiveBatchProcessor,
    AdaptiveConcurrency,
    Budget,
    Cache,
    CachedBatchProcessor,
    ChunkedBatchProcessor,
    ConfigError,
    CostAwareBatchProcessor,
    HybridBatchProcessor,
    PriorityBatchProcessor,
    PriorityTask,
    ProfilingBatchProcessor,
    ResumableBatchProcessor,
    RetryPolicy,
    RunStopped,
    SmartRetryBatch,
    clock,
)
from cottonpalm.events import ChunkFinished, Event
from cottonpalm.stores import open_store
from cottonpalm.testing import ScriptedChain
from tests.presets.kinds import Counted, rows_of
from tests.presets.kinds import openai as openai_chain
from tests.support.loopback import Loopback
from tests.support.replies import bad_key, fails, ok, too_many

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.core
QUICK = RetryPolicy(base_s=0.001, cap_s=0.002)


def echo() -> ScriptedChain:
    return ScriptedChain(then=lambda row: row)


async def _echo_later(row: Any) -> Any:
    await asyncio.sleep(0.01)  # less passes for a full server where others have the CPU for as long
    return row


def slow_echo() -> Any:
    return RunnableLambda(_echo_later)


class TestAdaptive:
    def test_concurrency_is_where_the_first_run_starts_and_then_what_it_found(self) -> None:
        processor = AdaptiveBatchProcessor(slow_echo(), 3)
        assert processor.concurrency == 3
        processor.batch(range(200))
        assert processor.concurrency > 3, "nothing pushed back, so it has grown"

    def test_concurrency_that_is_set_is_where_the_next_run_starts(self) -> None:
        processor = AdaptiveBatchProcessor(slow_echo(), 3)
        processor.batch(range(200))
        processor.concurrency = 5
        assert processor.concurrency == 5
        processor.batch(range(1))
        assert processor.concurrency == 5, "one row of five shows nothing"

    def test_the_initial_concurrency_goes_before_the_keyword_whose_bounds_are_kept(self) -> None:
        bounds = AdaptiveConcurrency(initial=4, minimum=2, maximum=8)
        processor = AdaptiveBatchProcessor(slow_echo(), initial_concurrency=6, concurrency=bounds)
        assert processor.concurrency == 6
        processor.batch(range(300))
        assert processor.concurrency <= 8

    @pytest.mark.parametrize("value", [0, -1, 2.5, True, None])
    def test_what_is_no_number_of_requests_is_refused(self, value: Any) -> None:
        with pytest.raises(ConfigError, match="must be a whole number, at least 1"):
            AdaptiveBatchProcessor(echo(), value)

    def test_the_success_rate_looks_back_a_hundred_rows(self) -> None:
        processor = AdaptiveBatchProcessor(Counted(bad="row 3").chain)
        processor.batch(rows_of(5))
        assert sorted(processor.success_rate) == [0, 1, 1, 1, 1]
        processor.batch(rows_of(500)[4:])
        assert list(processor.success_rate) == [1] * 100

    @pytest.mark.parametrize(
        ("rates", "before", "after"),
        [
            ([1] * 9, 10, 10),
            ([1] * 10, 10, 12),
            ([1] * 10, 49, 50),
            ([1] * 10, 80, 80),
            ([0] * 10, 10, 8),
            ([0] * 10, 6, 5),
            ([0] * 10, 3, 3),
            ([1] * 9 + [0], 10, 10),
        ],
    )
    def test_the_rule_by_hand(self, rates: list[int], before: int, after: int) -> None:
        processor = AdaptiveBatchProcessor(echo(), before)
        processor.success_rate.extend(rates)
        processor.adjust_concurrency()
        assert processor.concurrency == after

    def test_a_bad_key_stops_the_run_instead_of_giving_none_for_every_row(self) -> None:
        with Loopback(script=lambda _: bad_key()) as server:
            with pytest.raises(RunStopped) as stopped:
                AdaptiveBatchProcessor(openai_chain(server)).batch(rows_of(100))
            assert stopped.value.reason == "fatal"
            assert server.requests < 100


def sdk_error(module: Any, name: str, status: int, headers: dict[str, str] | None = None) -> Exception:
    request = httpx.Request("POST", "https://api.example/v1/chat/completions")
    response = httpx.Response(status, headers=headers, request=request)
    return getattr(module, name)("said the provider", response=response, body=None)


class TestSmartRetry:
    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (sdk_error(openai, "RateLimitError", 429), ("rate_limit", 60)),
            (sdk_error(openai, "RateLimitError", 429, {"retry-after": "7"}), ("rate_limit", 7)),
            (sdk_error(anthropic, "RateLimitError", 429, {"retry-after-ms": "500"}), ("rate_limit", 0.5)),
            (sdk_error(openai, "InternalServerError", 500), ("api_error", 1)),
            (sdk_error(openai, "InternalServerError", 503), ("api_error", 1)),
            (sdk_error(openai, "BadRequestError", 400), ("api_error", 1)),
            (sdk_error(anthropic, "APIStatusError", 529), ("api_error", 1)),
            (openai.APIConnectionError(request=httpx.Request("POST", "https://a.example")), ("api_error", 1)),
            (ConnectionError("reset"), ("api_error", 1)),
            (ValueError("no such column"), ("unknown", 0)),
            (KeyError("x"), ("unknown", 0)),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
    )
    def test_errors_in_the_document_s_words(self, error: Exception, expected: tuple[str, float]) -> None:
        assert SmartRetryBatch(echo()).classify_error(error) == expected

    def test_a_row_has_three_attempts_whatever_went_wrong_in_them(self) -> None:
        replies = {
            "row 0": [too_many(retry_after_ms=1), fails(500), fails(500)],
            "row 1": [too_many(retry_after_ms=1), too_many(retry_after_ms=1), ok()],
            "row 2": [fails(500), fails(500), ok()],
            "row 3": [fails(400)],
        }

        def script(request: Any) -> Any:
            mine = replies.get(request.text.removeprefix("Say it: "), [])
            return mine[request.nth - 1] if request.nth <= len(mine) else None

        with Loopback(script) as server:
            processor = SmartRetryBatch(openai_chain(server), 3, retry=QUICK)
            answers = processor.batch_with_smart_retry(rows_of(5))
            assert [answer is not None for answer in answers] == [False, True, True, False, True]
            assert [server.counts[f"Say it: row {n}"] for n in range(5)] == [3, 3, 3, 1, 1]
        assert processor.max_retries == 3

    def test_rows_that_are_always_rejected_end_after_their_attempts(self) -> None:
        with Loopback(lambda _: too_many(retry_after_ms=1)) as server:
            processor = SmartRetryBatch(openai_chain(server), max_retries=2, retry=QUICK)
            assert processor.batch_with_smart_retry(rows_of(7)) == [None] * 7
            assert set(server.counts.values()) == {2}

    def test_attempts_count_calls_of_the_chain_where_no_request_is_seen(self) -> None:
        error = sdk_error(openai, "RateLimitError", 429, {"retry-after-ms": "1"})
        chain = ScriptedChain(error, error, error, "too late")
        assert SmartRetryBatch(chain).batch_with_smart_retry(["row"]) == [None]
        assert len(chain.rows) == 3

    def test_no_attempt_at_all_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="max_retries=0"):
            SmartRetryBatch(echo(), 0)


@pytest.fixture
def later() -> Iterator[Any]:
    """Moves the clock forward by so many seconds."""

    def move(seconds: float) -> None:
        began = clock.now()
        clock.replace(now_=lambda: began + seconds)

    yield move
    clock.replace()


class TestCostAware:
    def test_costs_are_what_the_provider_counted_at_the_models_prices(self) -> None:
        with Loopback() as server:
            processor = CostAwareBatchProcessor(openai_chain(server))
            processor.batch(rows_of(12))
            billed = server.billed
            expected = billed.input_tokens * 0.15e-6 + billed.output_tokens * 0.60e-6
        assert processor.cost_tracker["total_cost"] == pytest.approx(expected)
        assert processor.cost_tracker["request_count"] == 12
        assert processor.estimated_cost == 0

    def test_a_chain_without_a_price_is_counted_at_the_document_s_rates_and_marked(self) -> None:
        processor = CostAwareBatchProcessor(RunnableLambda(lambda row: f"the answer to {row}"))
        processor.batch(["first row", "second row"])
        expected = processor.estimate_cost("first row", "the answer to first row") * 2
        assert processor.cost_tracker["total_cost"] == pytest.approx(expected)
        assert processor.estimated_cost == pytest.approx(expected)
        last = processor.processor.last_run
        assert last is not None
        assert {outcome.cost_source for outcome in last.outcomes()} == {"estimated"}

    def test_the_estimate_is_the_document_s_and_counts_scripts_without_spaces_too(self) -> None:
        processor = CostAwareBatchProcessor(echo())
        listed = (3 * 1.3 / 1000) * 0.00015 + (2 * 1.3 / 1000) * 0.0006
        assert processor.estimate_cost("one two three", "four five") == pytest.approx(listed)
        assert processor.estimate_cost("化骨绵掌", "") == pytest.approx(4 * 0.15e-6)
        assert processor.estimate_cost("", "") == 0

    def test_an_hour_that_cost_too_much_stops_the_run_and_keeps_what_was_done(self) -> None:
        asked: list[str] = []

        async def answer(row: str) -> str:
            asked.append(row)
            return await _echo_later(row)  # type: ignore[no-any-return]

        processor = CostAwareBatchProcessor(RunnableLambda(answer), budget_per_hour=1e-5, concurrency=2)
        with pytest.raises(RunStopped, match=r"the last hour cost \$0\.0000") as stopped:
            processor.batch([f"row {n}" for n in range(500)])
        assert stopped.value.reason == "budget"
        done = [outcome for outcome in stopped.value.outcomes if outcome.status == "ok"]
        assert 0 < len(done) == len(asked) < 500
        assert all(outcome.output == outcome.input for outcome in done)
        with pytest.raises(RunStopped):
            processor.check_budget()
        with pytest.raises(RunStopped):
            processor.batch(["one more"])
        assert len(asked) == len(done), "the next batch asked nothing"

    def test_a_budget_that_is_passed_by_the_last_rows_loses_no_answer(self) -> None:
        processor = CostAwareBatchProcessor(echo(), budget_per_hour=1e-9)
        assert processor.batch(["a b c"]) == ["a b c"]
        with pytest.raises(RunStopped):
            processor.check_budget()

    def test_the_window_is_a_sliding_hour_and_says_when_it_is_free(self, later: Any) -> None:
        processor = CostAwareBatchProcessor(echo(), budget_per_hour=1e-9)
        processor.batch(["a b c"])
        later(1800)
        with pytest.raises(RunStopped, match=r"Call again in (1799|1800) s"):
            processor.check_budget()
        later(1801)
        processor.check_budget()
        assert processor.cost_tracker["total_cost"] > 0, "what was spent before the window is still spent"

    def test_a_quiet_start_earns_no_credit_for_a_later_burst(self, later: Any) -> None:
        processor = CostAwareBatchProcessor(echo(), budget_per_hour=5e-6)
        later(36_000)  # ten hours idle: by the mean over all hours nothing was spent
        processor.batch(["word " * 40])
        with pytest.raises(RunStopped):
            processor.check_budget()

    def test_the_budget_can_be_raised(self) -> None:
        processor = CostAwareBatchProcessor(echo(), budget_per_hour=0)
        processor.batch(["a"])
        processor.budget_per_hour = 10.0
        processor.check_budget()
        with pytest.raises(ConfigError, match="cannot be negative"):
            processor.budget_per_hour = -1
        assert processor.budget_per_hour == 10.0

    def test_what_a_store_held_already_is_not_paid_again(self, tmp_path: Any) -> None:
        store: dict[str, Any] = {"store": tmp_path / "runs.db", "run": "cost"}
        CostAwareBatchProcessor(echo(), **store).batch(["a", "b"])
        again = CostAwareBatchProcessor(echo(), **store)
        assert again.batch(["a", "b", "c"]) == ["a", "b", "c"]
        assert again.cost_tracker["request_count"] == 1
        assert again.cost_tracker["total_cost"] == pytest.approx(again.estimate_cost("c", "c"))

    def test_a_priced_and_bounded_chain_never_passes_the_hour_s_money(self) -> None:
        prices = {"gpt-4o-mini": (1.0, 2.0)}
        with Loopback() as server:
            chain = openai_chain(server, max_tokens=100)
            processor = CostAwareBatchProcessor(chain, budget_per_hour=0.004, prices=prices, concurrency=50)
            with pytest.raises(RunStopped, match="the budget does not allow for another request") as stopped:
                processor.batch(rows_of(1_000))
            charged = server.billed.input_tokens * 1e-6 + server.billed.output_tokens * 2e-6
        assert 0.003 < charged <= 0.004
        assert processor.cost_tracker["total_cost"] == pytest.approx(charged)
        assert stopped.value.reason == "budget"
        assert any(outcome.status == "ok" for outcome in stopped.value.outcomes)
        processor.check_budget()  # never over it

    def test_a_model_without_a_price_is_let_through_and_counted_afterwards(self) -> None:
        with Loopback() as server:
            chain = openai_chain(server, model="nobody-knows-me")
            processor = CostAwareBatchProcessor(chain, budget_per_hour=1.0)
            assert len(processor.batch(rows_of(3))) == server.requests == 3
        assert processor.estimated_cost == processor.cost_tracker["total_cost"] > 0

    def test_a_budget_given_besides_keeps_its_total_and_is_strict(self) -> None:
        with Loopback() as server:
            chain = openai_chain(server, model="nobody-knows-me")
            processor = CostAwareBatchProcessor(chain, budget_per_hour=1.0, budget=Budget(total=2.0))
            with pytest.raises(RunStopped, match="no price is known for 'nobody-knows-me'"):
                processor.batch(rows_of(3))
            assert server.requests == 0

    @pytest.mark.parametrize(
        ("own", "given", "holds"), [(10.0, 1.0, 1.0), (10.0, 0.0, 0.0), (2.0, 5.0, 2.0), (2.0, None, 2.0)]
    )
    def test_of_two_hourly_budgets_the_smaller_one_holds(
        self, own: float, given: float | None, holds: float
    ) -> None:
        budget = Budget(total=20.0, per_hour=given)
        assert CostAwareBatchProcessor(echo(), own, budget=budget).budget_per_hour == holds
        assert (budget.per_hour, budget.total) == (holds, 20.0)

    def test_without_the_hook_the_hour_is_counted_afterwards(self) -> None:
        with Loopback() as server:
            processor = CostAwareBatchProcessor(openai_chain(server), request_hook=False)
            assert len(processor.batch(rows_of(3))) == 3

    def test_a_negative_budget_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="budget_per_hour=-1"):
            CostAwareBatchProcessor(echo(), -1)


class TestCached:
    def test_duplicates_in_one_call_are_one_miss_and_hits(self) -> None:
        chain = echo()
        processor = CachedBatchProcessor(chain)
        assert processor.batch(["a", "b", "a", "a"]) == ["a", "b", "a", "a"]
        assert (processor.cache_hits, processor.cache_misses, len(processor.cache)) == (2, 2, 2)
        assert processor.batch(["b", "c"]) == ["b", "c"]
        assert (processor.cache_hits, processor.cache_misses, len(chain.rows)) == (3, 3, 3)

    def test_rows_need_not_be_json(self) -> None:
        rows = [(1, 2), {3, 4}, b"five", None, 6.0, 6, (1, 2), {4, 3}]
        processor = CachedBatchProcessor(slow_echo())
        assert processor.batch(rows) == rows
        assert (processor.cache_hits, processor.cache_misses) == (2, 6), "6 and 6.0 are different questions"

    def test_the_cache_holds_so_many_answers(self) -> None:
        processor = CachedBatchProcessor(echo(), cache_size=2)
        processor.batch(["a"])
        processor.batch(["b"])
        processor.batch(["c"])
        assert len(processor.cache) == processor.cache_size == 2
        processor.batch(["a"])
        assert processor.cache_hits == 0, "the oldest went first"

    def test_failures_are_not_kept(self) -> None:
        counted = Counted(bad="row 0")
        processor = CachedBatchProcessor(counted.chain)
        for _ in range(2):
            with pytest.raises(ValueError, match="cannot be answered"):
                processor.batch(rows_of(2))
        assert counted.calls == {"row 0": 2, "row 1": 1}

    def test_a_cache_of_this_size_is_shared_and_one_of_another_size_is_copied(self) -> None:
        shared, counted = Cache(max_entries=50), Counted()
        for _ in range(2):
            CachedBatchProcessor(counted.chain, cache_size=50, cache=shared).batch(rows_of(1))
        assert counted.calls == {"row 0": 1}
        assert CachedBatchProcessor(counted.chain, cache_size=5, cache=shared).cache_size == 5


class Chunks:
    """An observer that keeps what is told of chunks."""

    def __init__(self) -> None:
        self.seen: list[ChunkFinished] = []

    def see(self, event: Event) -> None:
        if isinstance(event, ChunkFinished):
            self.seen.append(event)


class TestChunked:
    def test_chunks_are_counted_and_told_of(self, caplog: pytest.LogCaptureFixture) -> None:
        chunks = Chunks()
        processor = ChunkedBatchProcessor(Counted(bad="row 3").chain, 10, observers=[chunks])
        with caplog.at_level(logging.INFO, "cottonpalm"):
            answers = processor.batch(rows_of(25), 4)
        assert [n for n, answer in enumerate(answers) if answer is None] == [3]
        told = sorted((chunk.index, chunk.rows, chunk.failed) for chunk in chunks.seen)
        assert told == [(0, 10, 1), (1, 10, 0), (2, 5, 0)]
        assert "chunk 1: 10 rows, 1 failed" in caplog.text
        assert processor.chunk_size == 10

    def test_a_straggler_holds_up_no_other_chunk(self) -> None:
        last = asyncio.Event()

        async def answer(row: int) -> int:
            if row == 0:
                await last.wait()  # for ever, were there a barrier behind its chunk
            if row == 29:
                last.set()
            return row

        processor = ChunkedBatchProcessor(RunnableLambda(answer), chunk_size=10)
        assert processor.batch(range(30), max_concurrency=2) == list(range(30))

    def test_a_pause_is_made_only_where_it_is_asked_for(self) -> None:
        starts: list[tuple[int, float]] = []

        async def answer(row: int) -> int:
            starts.append((row, clock.now()))
            return row

        ChunkedBatchProcessor(RunnableLambda(answer), 2, chunk_pause=0.2).batch(range(4))
        at = dict(starts)
        assert min(at[2], at[3]) - max(at[0], at[1]) >= 0.2

    def test_an_empty_chunk_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="chunk_size=0"):
            ChunkedBatchProcessor(echo(), 0)


class TestPriority:
    def test_higher_priorities_start_first_and_answers_come_in_input_order(self) -> None:
        chain = echo()
        answers = PriorityBatchProcessor(chain).batch(list("abcde"), [1, 5, 3, 2, 4], 1)
        assert answers == list("abcde")
        assert chain.rows == list("becda")

    def test_without_priorities_rows_start_in_order_unless_the_processor_has_a_rule(self) -> None:
        plain, ruled = echo(), echo()
        PriorityBatchProcessor(plain).batch([1, 2, 3], max_concurrency=1)
        PriorityBatchProcessor(ruled, priority=lambda row: row).batch([1, 2, 3], max_concurrency=1)
        assert (plain.rows, ruled.rows) == ([1, 2, 3], [3, 2, 1])

    @pytest.mark.parametrize(("rows", "priorities"), [("abc", [1, 2]), ("", [1]), ("a", [])])
    def test_a_wrong_number_of_priorities_is_a_value_error(self, rows: str, priorities: list[int]) -> None:
        with pytest.raises(ValueError, match="give one for each"):
            PriorityBatchProcessor(echo()).batch(list(rows), priorities)

    def test_priorities_may_come_from_an_iterator(self) -> None:
        assert PriorityBatchProcessor(echo()).batch(["a", "b"], iter([1, 2])) == ["a", "b"]

    def test_tasks_are_ordered_by_priority_alone_the_smallest_first(self) -> None:
        heap = [PriorityTask(-p, n, {"x": n}) for n, p in enumerate([1, 5, 3])]
        heapq.heapify(heap)
        assert [heapq.heappop(heap).index for _ in range(3)] == [1, 2, 0]
        assert PriorityTask(1, 0, "a") == PriorityTask(1, 9, "b")
        assert PriorityTask(priority=1, index=2, input=3).input == 3


class TestProfiling:
    def test_laps_add_up_to_rows_and_time(self, capsys: pytest.CaptureFixture[str]) -> None:
        processor = ProfilingBatchProcessor(echo())
        processor.batch(range(25))
        metrics = processor.metrics
        assert metrics["batch_size"] == [10, 10, 5]
        rates = [
            size / seconds
            for size, seconds in zip(metrics["batch_size"], metrics["batch_duration"], strict=True)
        ]
        assert metrics["throughput"] == rates
        processor.batch(range(7), 4)
        assert metrics["batch_size"] == [10, 10, 5, 4, 3]
        assert "rows: 25" in capsys.readouterr().out

    def test_the_report_is_printed_also_where_a_row_failed(self, capsys: pytest.CaptureFixture[str]) -> None:
        processor = ProfilingBatchProcessor(Counted(bad="row 0").chain)
        with pytest.raises(ValueError, match="cannot be answered"):
            processor.batch(rows_of(3))
        assert sum(processor.metrics["batch_size"]) == 3
        assert "rows: 3" in capsys.readouterr().out

    def test_the_report_by_hand(self, capsys: pytest.CaptureFixture[str]) -> None:
        ProfilingBatchProcessor(echo()).print_report(total_inputs=10, total_duration=4.0)
        said = capsys.readouterr().out
        assert "rows: 10" in said
        assert "total time: 4.00 s" in said
        assert "throughput: 2.50 rows/s" in said

    def test_the_report_says_what_bound_the_run_and_what_to_change(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        processor = ProfilingBatchProcessor(echo())
        processor.batch([f"row {n % 10}" for n in range(200)])
        said = capsys.readouterr().out
        assert "\nbound by: " in said
        assert "\nadvice: Turn the cache on. 190 rows (95 %) asked what another row had asked" in said
        assert max(map(len, said.splitlines())) <= 80
        processor.batch(range(50))
        assert (
            "advice: nothing. 50 rows of this run: fewer than 100 tell too little." in capsys.readouterr().out
        )

    def test_the_lists_stay_in_step_over_threads(self) -> None:
        processor = ProfilingBatchProcessor(echo())
        threads = [threading.Thread(target=processor.batch, args=(range(40),)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sizes, seconds, rates = (
            processor.metrics[name] for name in ("batch_size", "batch_duration", "throughput")
        )
        assert sum(sizes) == 120
        assert [size / lap for size, lap in zip(sizes, seconds, strict=True)] == rates


class TestHybrid:
    def test_rows_run_either_way_and_nothing_is_kept_once_all_are_answered(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        processor = HybridBatchProcessor(echo())
        assert processor.batch(["a"], use_batch_api=False, max_concurrency=2) == ["a"]
        assert processor.batch(["a", "b"], True) == ["a", "b"]
        with closing(open_store(tmp_path / "cottonpalm" / "batches.db")) as store:
            assert store.runs() == []
        assert isinstance(processor.langasync_available, bool)


@pytest.mark.parametrize(
    ("preset", "wrong"),
    [
        (CachedBatchProcessor, {"cache": True}),
        (CachedBatchProcessor, {"cache_size": "9"}),
        (ChunkedBatchProcessor, {"observers": None}),
        (ResumableBatchProcessor, {"checkpoint_file": None}),
    ],
)
def test_an_argument_that_cannot_work_is_refused_by_its_name(preset: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        preset(ScriptedChain(), **wrong)


def test_a_small_hourly_budget_is_told_as_it_is() -> None:
    processor = CostAwareBatchProcessor(ScriptedChain(then=lambda row: row), budget_per_hour=0.000001)
    processor.batch(["a few words"])
    with pytest.raises(RunStopped, match=r"the budget is \$0\.000001 an hour"):
        processor.check_budget()
