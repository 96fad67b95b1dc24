"""Budgets as runs meet them: a ceiling at any concurrency, alarms, changes while it goes, and all lives of a run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from langchain_core.runnables import RunnableLambda

from cottonpalm import BatchProcessor, Budget, RunStopped
from cottonpalm.engine.shared import ledger_of
from cottonpalm.events import BudgetShare, CostSpike, Event
from cottonpalm.request.money.rules.alarms import Shares, Spikes
from cottonpalm.stores import open_store
from cottonpalm.testing import virtual_run
from cottonpalm.types import PICO, pico
from tests.request.kit import openai, openai_sync
from tests.support import replies
from tests.support.loopback import Loopback
from tests.support.spender import BOUND, spend

if TYPE_CHECKING:
    from pathlib import Path

SMALL_BUDGET = BOUND * 100 // 3  # of which the dearest request's bound is three per cent


class Seen(list[Event]):
    """An observer that remembers."""

    def see(self, event: Event) -> None:
        self.append(event)

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self if isinstance(event, kind)]


@pytest.mark.parametrize("slots", [200, 500])
@pytest.mark.parametrize("seed", range(10))
def test_a_ceiling_is_never_passed_and_nearly_all_of_it_is_spent(seed: int, slots: int) -> None:
    result = spend(seed, slots=slots, budget=SMALL_BUDGET)
    result.check()
    assert result.spent >= 0.97


@pytest.mark.parametrize("seed", range(2))
def test_answers_that_get_lost_stay_booked_at_their_bounds_and_the_ceiling_holds(seed: int) -> None:
    result = spend(seed, slots=200, budget=SMALL_BUDGET, losses=0.05)
    result.check()
    assert result.provider.lost > 0


def test_without_tightening_it_holds_too_and_no_answer_is_paid_twice() -> None:
    result = spend(0, slots=200, budget=SMALL_BUDGET, tighten=False)
    result.check()
    assert result.repeated == 0


def test_over_real_http_nothing_is_overspent_and_every_token_is_counted() -> None:
    faults = replies.faulty(5, [(0.15, replies.fails(500)), (0.05, replies.too_many(0.01))])

    async def main() -> None:
        with Loopback(script=faults, latency=0.002) as server:
            async with openai(server, max_tokens=400) as model:
                seen = Seen()
                budget = Budget(total=0.02)
                processor = BatchProcessor(
                    model, concurrency=100, retry=5, budget=budget, observers=[seen], prices={"*": (1, 2)}
                )
                rows = [f"row {n} " + "word " * (n % 120) for n in range(1_500)]
                with pytest.raises(RunStopped, match="budget"):
                    await processor.abatch(rows)
                stats = processor.last_run.stats  # type: ignore[union-attr]
                billed = server.billed
                assert (
                    pico(stats.reported_usd) == billed.input_tokens * 10**6 + billed.output_tokens * 2 * 10**6
                )
                assert pico(stats.uncertain_usd) == 0
                assert 0.9 * 0.02 * PICO <= pico(stats.reported_usd) <= 0.02 * PICO
                assert [event.share for event in seen.of(BudgetShare)] == [0.5, 0.8, 1.0]
                assert pico(stats.budget_left_usd) == round(0.02 * PICO) - pico(stats.reported_usd)

    asyncio.run(main())


def test_a_rows_time_stands_still_while_it_waits_for_money() -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 50}
    body = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": usage}

    async def main() -> list[Any]:
        transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json=body))
        async with httpx2.AsyncClient(transport=transport) as client:

            async def ask(row: str) -> int:
                asked = {"model": "ours", "max_tokens": 50, "messages": [{"role": "user", "content": row}]}
                reply = await client.post("https://sim.invalid/v1/chat/completions", json=asked)
                return reply.status_code

            processor = BatchProcessor(
                RunnableLambda(ask),
                budget=Budget(per_hour=0.001, on_exceed="wait"),
                prices={"ours": (1, 2)},
                item_timeout=60,
                stall_timeout=10**6,
            )
            return await processor.abatch([f"row {n}" for n in range(12)])

    assert virtual_run(main()) == [200] * 12  # for more than an hour


def test_near_the_end_of_a_budget_rows_that_have_paid_answers_get_its_money_first() -> None:
    """Of three requests a row: else all get as far as their second one or third, and what was paid for them is lost."""
    usage = {"prompt_tokens": 100, "completion_tokens": 50}
    body = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": usage}
    budget = 15 * 3 * 0.0002  # what 15 of the rows cost

    async def answer(_: httpx2.Request) -> httpx2.Response:
        await asyncio.sleep(1)
        return httpx2.Response(200, json=body)

    async def main() -> list[Any]:
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as client:

            async def ask(row: str) -> str:
                asked = {"model": "ours", "max_tokens": 500, "messages": [{"role": "user", "content": row}]}
                for _ in range(3):
                    await client.post("https://sim.invalid/v1/chat/completions", json=asked)
                return row

            processor = BatchProcessor(
                RunnableLambda(ask), budget=Budget(budget), prices={"ours": (1, 2)}, concurrency=40
            )
            return await processor.abatch([f"row {n}" for n in range(40)], return_exceptions=True)

    done = [answer for answer in virtual_run(main()) if isinstance(answer, str)]
    assert len(done) >= 10


def test_rows_that_end_with_the_budget_on_threads_leave_no_errors_of_callbacks_in_the_log(
    caplog: Any,
) -> None:
    """Of a chain that is called within a row, whose other requests go on to the models that are refused then."""
    with Loopback(latency=0.01) as server, openai_sync(server, max_tokens=50) as model:

        def ask(row: str) -> list[Any]:
            return model.batch([f"{row} {part}" for part in range(20)])

        chain = RunnableLambda(ask)
        processor = BatchProcessor(chain, budget=Budget(total=0.0003), concurrency=16)
        processor.batch([f"row {number}" for number in range(16)], return_exceptions=True)
    run = processor.last_run
    assert run is not None
    assert run.stopped is not None
    assert run.stopped.reason == "budget"
    assert [record.message for record in caplog.records if "callback" in record.message] == []


def test_a_budget_is_raised_while_the_run_goes_and_lowered() -> None:
    with Loopback(script=lambda _: replies.held()) as server, openai_sync(server, max_tokens=200) as model:
        one = 0.0006  # a request's bound is a little below it
        processor = BatchProcessor(model, budget=Budget(total=one), prices={"*": (1, 2)})
        with processor.start([f"row {n}" for n in range(4)]) as run:
            server.wait(in_flight=1)
            assert run.budget is not None
            run.budget.total = 3 * one
            server.wait(in_flight=3)
            run.budget.total = 0.0
            server.release()
            with pytest.raises(RunStopped, match="budget"):
                list(run)
        assert server.requests == 3
        with pytest.raises(ValueError, match="cannot be negative"):
            run.budget.total = -1
        assert run.budget.total == 0.0


def test_a_resumed_run_counts_what_its_earlier_lives_spent(tmp_path: Path) -> None:
    with Loopback() as server, openai_sync(server, max_tokens=20) as model:
        rows = [f"row {n}" for n in range(40)]

        def life(dollars: float) -> bool:
            """Whether the budget stopped it."""
            processor = BatchProcessor(
                model, budget=Budget(total=dollars), store=tmp_path / "runs.db", run="r", prices={"*": (1, 2)}
            )
            answers = processor.batch(rows, return_exceptions=True)
            return any(isinstance(answer, RunStopped) for answer in answers)

        assert life(0.0006)
        spent = server.billed.input_tokens * 1e-6 + server.billed.output_tokens * 2e-6
        assert 0 < spent <= 0.0006
        asked = server.requests
        assert life(0.0006)
        assert server.requests == asked, "the money of this run is spent"
        assert not life(1.0)
        store = open_store(tmp_path / "runs.db")
        [info] = store.runs()
        kept = store.open_run("r", None)
        billed = server.billed.input_tokens * 10**6 + server.billed.output_tokens * 2 * 10**6
        assert (kept.spent().reported, kept.spent().uncertain, info.uncertain_pico) == (billed, 0, 0)
        kept.close()
        store.close()


def test_one_budget_over_two_runs_of_one_store_counts_each_once(tmp_path: Path) -> None:
    with Loopback() as server, openai_sync(server, max_tokens=20) as model:
        budget = Budget(total=1.0)
        for name in ("a", "b", "a"):
            BatchProcessor(
                model, budget=budget, store=tmp_path / "runs.db", run=name, prices={"*": (1, 2)}
            ).batch([f"{name} {n}" for n in range(3)])
        billed = server.billed.input_tokens * 10**6 + server.billed.output_tokens * 2 * 10**6
        ledger = ledger_of(budget)
        assert ledger is not None
        assert ledger.spent == billed


def test_what_a_chain_makes_of_a_refusal_for_money_is_no_answer_and_the_row_is_asked_again(
    tmp_path: Path,
) -> None:
    """The first request of the row is paid, and the budget has nothing left for the second."""
    with Loopback() as server, openai_sync(server, max_tokens=20) as model:

        def calm(row: str) -> str:
            said = model.invoke(row).text
            try:
                return said + model.invoke(f"{row}, once more, and at length").text
            except Exception:
                return "made up"

        def batch(budget: float) -> list[Any]:
            kept = {"store": tmp_path / "runs.db", "run": "r", "prices": {"*": (1, 1000)}}
            processor = BatchProcessor(RunnableLambda(calm), budget=budget, **kept)  # type: ignore[arg-type]
            return processor.batch(["a row"])

        with pytest.raises(RunStopped) as stopped:
            batch(0.0205)
        assert stopped.value.reason == "budget"
        assert server.counts == {"a row": 1}
        assert batch(1.0) == ["answer to: a rowanswer to: a row, once more, and at length"]


def test_an_hourly_budget_that_waits_lets_all_rows_through_in_the_end() -> None:
    with Loopback() as server, openai_sync(server, max_tokens=20) as model:
        budget = Budget(per_hour=1.0, on_exceed="wait")
        answers = BatchProcessor(model, budget=budget, prices={"*": (1, 2)}).batch(
            [f"r {n}" for n in range(20)]
        )
        assert len(answers) == 20
        assert server.requests == 20


def test_each_share_is_told_once() -> None:
    shares = Shares()
    assert [shares.passed(share) for share in (0.1, 0.5, 0.6, 0.85, 0.9, 1.0, 1.0)] == [
        None,
        0.5,
        None,
        0.8,
        None,
        1.0,
        None,
    ]
    assert Shares().passed(0.9) == 0.8


def test_a_row_far_dearer_than_the_others_is_told() -> None:
    spikes = Spikes()
    assert spikes.found([100] * 30 + [5_000, 5_001, 200]) == [(31, 100)]


def test_a_cost_spike_is_an_event_with_its_row() -> None:
    seen = Seen()
    script = lambda request: replies.ok("x" * 40_000) if request.text == "row 30" else None  # noqa: E731
    with Loopback(script=script) as server, openai_sync(server) as model:
        rows = [f"row {n}" for n in range(31)]
        BatchProcessor(model, concurrency=1, observers=[seen]).batch(rows)
        [spike] = seen.of(CostSpike)
        assert spike.index == 30
        assert spike.cost_usd > 50 * spike.median_usd
