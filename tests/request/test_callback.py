"""Chat models that do not speak through httpx: gated and counted by a callback, unless the hook sees them."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.llms import LLM
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatResult

from cottonpalm import BatchProcessor, Budget, RunStopped
from cottonpalm.request.limiter.rules.recovery import State
from cottonpalm.request.money.ledger import Ledger
from cottonpalm.request.money.rules.prices import PriceBook
from cottonpalm.request.transport.callback import handler, usage_of
from cottonpalm.types import PICO, Fault, Usage
from tests.request.kit import a_run, all_rows, all_rows_sync, in_flight, one, openai
from tests.support.loopback import Loopback

if TYPE_CHECKING:
    from cottonpalm.request.run_account import RunAccount

pytestmark = pytest.mark.core


class Own(BaseChatModel):
    """A user's chat model with a protocol of its own; counts how many calls are under way."""

    name_: str = "own-1"
    inner: Any = None
    seen: Any = None
    error: Any = None

    @property
    def _llm_type(self) -> str:
        return "own"

    def _get_ls_params(self, stop: Any = None, **_: Any) -> Any:
        return {"ls_provider": "own", "ls_model_name": self.name_, "ls_model_type": "chat"}

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **_: Any) -> ChatResult:
        with self.seen:
            threading.Event().wait(0.002)
            return self._result(messages)

    async def _agenerate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **_: Any
    ) -> ChatResult:
        with self.seen:
            await asyncio.sleep(0.002)
            if self.inner is not None:
                await self.inner.ainvoke(messages)
            return self._result(messages)

    def _result(self, messages: Any) -> ChatResult:
        if self.error is not None:
            raise self.error
        usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
        message = AIMessage(f"own answer to {messages[0].content}", usage_metadata=usage)
        return ChatResult(generations=[ChatGeneration(message=message)])


class Peak:
    def __init__(self) -> None:
        self.now = self.most = self.calls = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.calls += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.now -= 1


def test_a_model_without_httpx_takes_its_permit_by_the_callback() -> None:
    async def main() -> None:
        peak, run = Peak(), a_run(2)
        model, config = Own(seen=peak), {"callbacks": [handler()]}
        results = await all_rows(run, [lambda n=n: model.ainvoke(f"row {n}", config) for n in range(30)])
        assert (peak.calls, peak.most) == (30, 2)
        assert in_flight(run) == 0
        assert run.flow.grain == "model"
        assert run.flow.wants_handler
        assert [row.attempts for _, row in results] == [1] * 30
        assert results[0][1].usage == Usage(10, 5)

    asyncio.run(main())


def test_the_same_on_threads() -> None:
    peak, run = Peak(), a_run(2)
    model, config = Own(seen=peak), {"callbacks": [handler(threads=True)]}
    all_rows_sync(run, [lambda n=n: model.invoke(f"row {n}", config) for n in range(30)])
    assert (peak.calls, peak.most) == (30, 2)
    assert in_flight(run) == 0


def test_a_model_that_the_hook_sees_hands_its_permit_over_and_is_left_to_it() -> None:
    async def main() -> None:
        with Loopback(latency=0.002) as server:
            async with openai(server) as model:
                run, config = a_run(1), {"callbacks": [handler()]}
                results = await all_rows(
                    run, [lambda n=n: model.ainvoke(f"row {n}", config) for n in range(6)]
                )
                assert server.peak == 1
                assert [row.attempts for _, row in results] == [1] * 6, "counted once"
                assert in_flight(run) == 0
                assert run.flow.grain == "request"
                assert not run.flow.wants_handler

    asyncio.run(main())


def test_rows_in_line_for_a_permit_of_their_own_go_as_soon_as_requests_take_the_permits() -> None:
    """Else they stay behind the pace of a limiter that counts no longer, and nobody can say what they wait for."""

    async def main() -> None:
        run, entered = a_run(1), asyncio.Event()

        async def first() -> None:
            while run.flow.waiting < 3:
                await asyncio.sleep(0)
            run.flow.refine("request")
            await asyncio.wait_for(entered.wait(), 10)  # its own permit is not back yet

        async def other() -> None:
            if not run.flow.waiting:
                entered.set()

        results = await all_rows(run, [first, other, other, other])
        assert [result for result, _ in results] == [None] * 4
        assert in_flight(run) == 0

    asyncio.run(main())


def test_a_model_inside_a_model_holds_one_permit_between_them() -> None:
    async def main() -> None:
        peak, run = Peak(), a_run(1)
        inner = Own(seen=Peak(), name_="own-1")
        model, config = Own(seen=peak, inner=inner), {"callbacks": [handler()]}
        results = await all_rows(run, [lambda n=n: model.ainvoke(f"row {n}", config) for n in range(3)])
        assert not [result for result, _ in results if isinstance(result, Exception)]
        assert in_flight(run) == 0

    asyncio.run(main())


def test_a_cancelled_call_leaves_no_permit_although_it_fires_no_end() -> None:
    async def main() -> None:
        peak, run = Peak(), a_run(1)
        model, config = Own(seen=peak), {"callbacks": [handler()]}
        tasks = [asyncio.create_task(one(run, n, lambda: model.ainvoke("hi", config))) for n in range(2)]
        while not peak.now:
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert in_flight(run) == 0

    asyncio.run(main())


def test_a_throttle_teaches_the_turnstile() -> None:
    from langchain_core.exceptions import ModelRateLimitError

    async def main() -> RunAccount:
        run = a_run(2)
        model, config = Own(seen=Peak(), error=ModelRateLimitError("slow down")), {"callbacks": [handler()]}
        for index in range(4):  # one alone might have been rejected at random
            result, row = await one(run, index, lambda: model.ainvoke("hi", config))
            assert isinstance(result, ModelRateLimitError)
            assert row.attempts == 1
        return run

    run = asyncio.run(main())
    assert in_flight(run) == 0
    limiter = run.flow.limiter("own/own-1")
    assert limiter.admission.refusals.seen == 4, "each is heard"
    assert limiter.generation == 1, "they are found to be no chance, and then the probes ask, to no avail"
    assert limiter.admission.recovery.refused >= 1
    assert limiter.admission.recovery.state is State.HELD


def test_its_money_is_counted_and_the_run_stops_when_it_is_spent() -> None:
    async def main() -> None:
        run = a_run(1, ledger=Ledger(25 * PICO // 10**6), prices=PriceBook({"own-1": (1.0, 1.0)}))
        stops: list[Fault] = []
        run.alerts.on_stop = stops.append
        model, config = Own(seen=Peak()), {"callbacks": [handler()]}
        _, row = await one(run, 0, lambda: model.ainvoke("hi", config))
        assert row.cost_pico == 15 * PICO // 10**6
        assert not stops
        await one(run, 1, lambda: model.ainvoke("hi", config))
        assert len(stops) == 1

    asyncio.run(main())


def test_langchains_own_usage_is_read_with_its_details() -> None:
    told = {
        "input_tokens": 100,
        "output_tokens": 20,
        "input_token_details": {"cache_read": 30, "cache_creation": 0, "ephemeral_5m_input_tokens": 7},
        "output_token_details": {"reasoning": 11},
    }
    assert usage_of(told) == Usage(100, 20, 30, 7, 11)


@pytest.mark.parametrize(
    ("inputs", "read", "written", "for_an_hour"),
    [
        ({}, 0, 0, 0),
        ({"cache_creation": 9}, 0, 9, 0),
        ({"cache_creation": 0, "ephemeral_5m_input_tokens": 7, "ephemeral_1h_input_tokens": 4}, 0, 11, 4),
        ({"priority_cache_read": 3}, 3, 0, 0),
        ({"flex_cache_read": 4, "flex_cache_creation": 2}, 4, 2, 0),
        ({"cache_read": 5, "priority_cache_read": 5}, 5, 0, 0),
    ],
)
def test_what_was_cached_is_read_in_every_word_that_langchain_has_for_it(
    inputs: dict[str, int], read: int, written: int, for_an_hour: int
) -> None:
    used = usage_of({"input_tokens": 100, "output_tokens": 20, "input_token_details": inputs})
    assert used == Usage(100, 20, read, written, cache_write_1h_tokens=for_an_hour)


class Told(Own):
    """One that says of its answer what it is told to."""

    usage: Any = None
    served: Any = None
    counts: Any = None

    def _result(self, messages: Any) -> ChatResult:
        about = {} if self.served is None else {"model_name": self.served}
        if self.counts is not None:
            about["token_usage"] = self.counts
        message = AIMessage("told", usage_metadata=self.usage, response_metadata=about)
        return ChatResult(generations=[ChatGeneration(message=message)])


USED = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}


def charged(prices: Any = None, total: int | None = None, **more: Any) -> tuple[Any, Any, list[Fault]]:
    """The run, the row and what stopped the run, after one call of a model without HTTP."""

    async def main() -> tuple[Any, Any, list[Fault]]:
        run = a_run(1, ledger=None if total is None else Ledger(total), prices=PriceBook(prices))
        stops: list[Fault] = []
        run.alerts.on_stop = stops.append
        model = Told(seen=Peak(), **more)
        answer, row = await one(run, 0, lambda: model.ainvoke("hi", {"callbacks": [handler()]}))
        assert answer.content == "told", "whatever is said of its cost, the row has its answer"
        return run, row, stops

    return asyncio.run(main())


def test_a_call_without_a_budget_is_booked_all_the_same() -> None:
    run, row, stops = charged({"own-1": (1.0, 1.0)}, usage=USED)
    assert (row.cost_pico, run.spending.reported, row.model) == (15_000_000, 15_000_000, "own-1")
    assert (row.attempts, row.usage, stops) == (1, Usage(10, 5), [])


def test_a_model_is_priced_as_what_it_is_called_else_as_what_served_it() -> None:
    _, row, _ = charged({"real-1": (2.0, 2.0)}, usage=USED, served="real-1")
    assert (row.cost_pico, row.model) == (30_000_000, "real-1")
    _, row, _ = charged({"own-1": (1.0, 1.0), "real-1": (2.0, 2.0)}, usage=USED, served="real-1")
    assert row.cost_pico == 15_000_000


@pytest.mark.parametrize("usage", [None, {**USED, "total_cost": 0}])
def test_what_says_nothing_of_its_use_or_came_from_a_cache_is_booked_as_nothing(usage: Any) -> None:
    run, row, _ = charged({"own-1": (1.0, 1.0)}, usage=usage)
    assert (run.spending.reported, row.usage) == (0, None)
    assert (row.attempts, row.known) == ((1, 0) if usage is None else (0, 1))


def test_under_a_budget_a_model_without_a_price_stops_the_run_and_one_within_it_does_not() -> None:
    _, row, [stop] = charged(None, total=PICO, usage=USED, name_="nobody-knows-it")
    assert "calls of own/nobody-knows-it cannot be held to a budget" in stop.message
    assert (row.cost_pico, row.usage) == (None, Usage(10, 5))
    run, _, stops = charged({"own-1": (1.0, 1.0)}, total=PICO, usage=USED)
    assert (run.ledger.spent, stops) == (15_000_000, [])


@pytest.mark.parametrize("usage", [None, dict.fromkeys(USED, 0)], ids=["none", "all zero"])
def test_what_says_nothing_of_its_use_stops_a_run_with_a_budget_unless_it_is_free(usage: Any) -> None:
    _, row, [stop] = charged({"own-1": (1.0, 1.0)}, total=PICO, usage=usage)
    assert stop.message == "calls of own/own-1 cannot be held to a budget: they do not say what they used"
    assert (row.cost_pico, row.attempts) == (None, 1)
    assert charged({"own-1": (0.0, 0.0)}, total=PICO, usage=None)[2] == []


def test_without_a_budget_that_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    charged(None, usage=None)
    assert [record.message for record in caplog.records] == [
        "answers of own/own-1 do not say what they used, so what they cost is not counted"
    ]


@pytest.mark.parametrize(
    ("into", "out"), [("input_tokens", "output_tokens"), ("prompt_tokens", "completion_tokens")]
)
def test_counts_are_read_where_a_package_leaves_them_as_its_provider_names_them(into: str, out: str) -> None:
    run, row, stops = charged({"own-1": (1.0, 1.0)}, total=PICO, usage=None, counts={into: 10, out: 5})
    assert (row.cost_pico, run.ledger.spent, row.usage, stops) == (15_000_000, 15_000_000, Usage(10, 5), [])


class Text(LLM):
    """A user's model in the old style."""

    @property
    def _llm_type(self) -> str:
        return "text"

    def _call(self, prompt: str, stop: Any = None, run_manager: Any = None, **_: Any) -> str:
        return f"own answer to {prompt}"


@pytest.mark.parametrize("awaited", [False, True], ids=["batch", "abatch"])
def test_a_model_of_the_old_style_whose_requests_are_not_seen_stops_a_run_with_a_budget(
    awaited: bool,
) -> None:
    rows = [f"row {number}" for number in range(60)]
    processor = BatchProcessor(Text() | StrOutputParser(), budget=Budget(total=1), concurrency=2)
    with pytest.raises(
        RunStopped, match="cannot be held to a budget, as nothing says what it costs"
    ) as stopped:
        asyncio.run(processor.abatch(rows)) if awaited else processor.batch(rows)
    assert stopped.value.reason == "budget"
    assert 1 <= processor.last_run.report.counts.ok < 10
    assert BatchProcessor(Text()).batch(rows[:1]) == ["own answer to row 0"]


def test_a_function_of_prices_that_fails_is_named_and_costs_no_row() -> None:
    calls = []

    def price(model: str, usage: Usage) -> float:
        calls.append(model)
        if usage.input_tokens == 10:
            raise KeyError("no price today")
        return 0.001 * usage.input_tokens

    run, row, _ = charged(price, usage=USED)
    assert (row.cost_pico, run.spending.reported) == (None, 0)
    assert "own-1" in calls


def test_a_call_that_fails_gives_its_permit_back_and_counts_as_one_that_was_sent() -> None:
    async def main() -> None:
        run = a_run(1)
        model = Own(seen=Peak(), error=ValueError("no good"))
        error, row = await one(run, 0, lambda: model.ainvoke("hi", {"callbacks": [handler()]}))
        assert isinstance(error, ValueError)
        assert (in_flight(run), row.attempts, row.on_wire, row.got) == (0, 1, 0, False)

    asyncio.run(main())
