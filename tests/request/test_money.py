"""Money per request: reserved before the permit, settled by real usage, never above the ceiling."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anthropic as anthropic_sdk
import httpx2
import openai as openai_sdk
import pytest

from cottonpalm.config import RetryPolicy
from cottonpalm.providers import BudgetBusy, BudgetReached, classify
from cottonpalm.providers.answer import Answer
from cottonpalm.request.attempt.reservation import Reservation
from cottonpalm.request.money.bounds import extent
from cottonpalm.request.money.ledger import Ledger
from cottonpalm.request.money.rules.prices import PriceBook
from cottonpalm.request.row_account import RowAccount
from cottonpalm.types import PICO, Fault, Kind, Usage
from tests.request.kit import (
    MODEL,
    a_run,
    all_rows,
    all_rows_sync,
    in_flight,
    one,
    one_sync,
    openai,
    openai_sync,
)
from tests.request.test_attempts import GOOD, a_call, a_hand, answer
from tests.support import replies
from tests.support.loopback import Loopback

pytestmark = pytest.mark.core
PRICES = {MODEL: (1.0, 2.0), "ours": (1.0, 2.0)}  # dollars per million tokens
IN, OUT = PICO // 10**6, 2 * PICO // 10**6  # pico-dollars per token


def with_money(dollars: float | None, **settings: Any) -> dict[str, Any]:
    ceiling = None if dollars is None else int(dollars * PICO)
    return {"ledger": Ledger(ceiling), "prices": PriceBook(PRICES), **settings}


def bound_of(call: Any, output: int, answers: int = 1) -> int:
    found = extent(call, PriceBook(PRICES).tariff(call.model, call.url), output)
    assert not isinstance(found, str)
    assert found.output_tokens == output * answers
    return found.input_tokens * IN + found.output_tokens * OUT


def test_money_is_reserved_before_the_permit_and_settled_by_usage() -> None:
    call = a_call(max_tokens=50)
    hand = a_hand(answer(), call=call, **with_money(0.05))
    step, ask = hand.generator.send(None)
    assert (step, ask.most, ask.least) == ("money", bound_of(call, 50), bound_of(call, 50))
    assert hand.row.run.ledger.reserved == 0
    hand.steps.append(step)
    amount = hand._do(step, ask)
    assert amount == ask.most
    step, value = hand.generator.send(amount)
    assert step == "permit"
    permit = hand._do(step, value)
    hand.generator.send(permit)
    with pytest.raises(StopIteration):
        hand.generator.send(answer())
    ledger = hand.row.run.ledger
    assert (ledger.reserved, ledger.spent) == (0, 7 * IN + 2 * OUT)
    assert hand.row.cost_pico == ledger.spent
    assert hand.row.cost_source == "reported"


def test_failed_tries_that_were_billed_count_and_error_answers_do_not() -> None:
    broken = {**GOOD, "choices": []}  # no usable answer, so nobody knows what it used
    hand = a_hand(
        answer(500, {}), answer(200, broken), answer(), call=a_call(max_tokens=50), **with_money(1.0)
    )
    hand.run()
    ledger, spending = hand.row.run.ledger, hand.row.run.spending
    assert (spending.reported, spending.uncertain) == (7 * IN + 2 * OUT, bound_of(hand.call, 50))
    assert ledger.spent == spending.total
    assert hand.row.cost_source == "estimated"


def test_a_request_without_an_answer_stays_booked_at_its_bound() -> None:
    from cottonpalm.request.attempt.steps import Reply

    policy = RetryPolicy(retries=0)
    hand = a_hand(
        Reply(error=httpx2.ReadTimeout("late")), call=a_call(max_tokens=50), **with_money(1.0, retry=policy)
    )
    with pytest.raises(httpx2.ReadTimeout):
        hand.run()
    spending = hand.row.run.spending
    assert (spending.reported, spending.uncertain) == (0, bound_of(hand.call, 50))
    assert hand.row.run.ledger.spent == spending.uncertain
    refused = a_hand(
        Reply(error=httpx2.ConnectError("no")), call=a_call(max_tokens=50), **with_money(1.0, retry=policy)
    )
    with pytest.raises(httpx2.ConnectError):
        refused.run()
    assert refused.row.run.ledger.spent == 0, "it never got there"
    assert refused.row.run.ledger.reserved == 0


@pytest.mark.parametrize("at", ["permit", "send"])
def test_a_cancel_gives_back_what_was_not_sent_and_books_what_was(at: str) -> None:
    hand = a_hand(answer(), call=a_call(max_tokens=50), **with_money(1.0))
    step, value = hand.generator.send(None)
    while step != at:
        step, value = hand.generator.send(hand._do(step, value))
    hand.generator.close()
    ledger = hand.row.run.ledger
    assert ledger.reserved == 0
    assert ledger.spent == (0 if at == "permit" else bound_of(hand.call, 50))


def test_an_answer_without_usage_is_booked_at_its_bound_and_marked() -> None:
    silent = {name: value for name, value in GOOD.items() if name != "usage"}
    hand = a_hand(answer(200, silent), call=a_call(max_tokens=50), **with_money(None))
    hand.run()
    spending = hand.row.run.spending
    assert (spending.reported, spending.uncertain) == (0, bound_of(hand.call, 50))
    estimate = len(hand.call.content) // 4 * IN + 1 * OUT
    assert (hand.row.cost_pico, hand.row.cost_source) == (estimate, "estimated"), "two letters are one token"
    assert hand.row.usage is None


def test_the_maximum_counts_for_each_of_n_answers() -> None:
    call = a_call(max_completion_tokens=50, n=3)
    hand = a_hand(call=call, **with_money(0.05))
    step, ask = hand.generator.send(None)
    assert (step, ask.most) == ("money", bound_of(call, 50, answers=3))
    hand.generator.close()


@pytest.mark.parametrize("dollars", [0.05, None])
def test_a_function_of_prices_that_raises_fails_no_paid_row(
    dollars: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    def price(_model: str, usage: Usage) -> float:
        if usage.output_tokens == 2:  # as the answer reports
            raise KeyError("no such tier")
        return (usage.input_tokens + 2 * usage.output_tokens) / 10**6

    call = a_call(max_tokens=50)
    hand = a_hand(answer(), answer(), call=call, **with_money(dollars) | {"prices": PriceBook(price)})
    hand.run()
    spending = hand.row.run.spending
    assert (spending.reported, spending.uncertain) == (0, bound_of(call, 50))
    assert hand.row.usage is not None
    assert hand.row.cost_pico is None
    assert "the function given as prices= failed for 'gpt-4o-mini' (KeyError: 'no such tier')" in caplog.text


@pytest.mark.parametrize("fields", [{}, {"n": 3}, {"tools": [{"type": "function"}]}])
@pytest.mark.parametrize("longer", [1, 7], ids=["input", "both"])
def test_answers_in_flight_that_count_more_than_their_bounds_stretch_the_later_bounds_once(
    fields: dict[str, Any], longer: int
) -> None:
    """Each of them was stretched upon the one before: after thirty, a request could cost more than there is money."""
    call = a_call(max_tokens=50, **fields)
    hand = a_hand(call=call, **with_money(1.0))
    run = hand.row.run
    plain = extent(call, run.pricing.tariff(call), None)
    assert not isinstance(plain, str)
    flying = [Reservation(hand.row, call) for _ in range(30)]
    for one_of_them in flying:
        assert one_of_them.bound is not None
        one_of_them.granted(run.ledger.try_grant(one_of_them.bound, account=run.spending))
    usage = Usage(plain.input_tokens * 5, plain.output_tokens * longer)
    for one_of_them in flying:
        one_of_them.settle(Answer(complete=True, usage=usage), billed=True)
    assert Reservation(hand.row, call).bound == usage.input_tokens * IN + usage.output_tokens * OUT


def test_without_price_and_budget_the_cost_is_unknown() -> None:
    call = a_call(model="nobody-knows-me")
    hand = a_hand(answer(200, {**GOOD, "model": "nobody-either"}), call=call)
    hand.run()
    assert hand.row.cost_pico is None
    assert hand.row.cost_source is None
    assert hand.row.usage.input_tokens == 7


@pytest.mark.parametrize(
    ("body", "settings", "says"),
    [
        ({"model": "ours"}, {}, "max-output-tokens"),
        ({"max_tokens": 5, "model": "nobody-knows-me"}, {}, "--price nobody-knows-me=IN:OUT"),
        ({"max_tokens": 5, "previous_response_id": "resp_1", "model": "ours"}, {}, "without a budget"),
    ],
)
def test_what_cannot_be_bounded_is_refused_with_what_to_set(body: Any, settings: Any, says: str) -> None:
    stops: list[Fault] = []
    hand = a_hand(call=a_call(**body), **with_money(1.0, **settings))
    hand.row.run.alerts.on_stop = stops.append
    with pytest.raises(BudgetReached, match=says):
        hand.run()
    assert hand.row.attempts == 0
    assert [fault.kind for fault in stops] == [Kind.STOP_RUN]


def test_the_runs_own_maximum_bounds_requests_that_name_none() -> None:
    hand = a_hand(answer(), call=a_call(), **with_money(1.0, max_output_tokens=9))
    hand.run()
    [sending] = hand.sendings
    assert json.loads(sending.body)["max_completion_tokens"] == 9, "the provider is to keep it too"
    assert "max_completion_tokens" not in hand.call.body, "the chain's own body is left as it is"


def test_a_free_model_needs_no_maximum() -> None:
    hand = a_hand(answer(), call=a_call(), ledger=Ledger(0), prices=PriceBook({MODEL: (0.0, 0.0)}))
    hand.run()
    assert hand.row.cost_pico == 0


@pytest.mark.parametrize("threads", [False, True], ids=["async", "sync"])
def test_the_ceiling_is_never_passed_and_rows_that_do_not_fit_say_so(threads: bool) -> None:
    async def main() -> None:
        faults = replies.faulty(
            3, [(0.1, replies.fails(500)), (0.1, replies.too_many()), (0.1, replies.resets())]
        )
        with Loopback(script=faults, latency=0.001) as server:
            async with openai(server, max_tokens=20, max_retries=0) as model:
                run = a_run(8, **with_money(0.0008))
                stops: list[Fault] = []
                run.alerts.on_stop = stops.append
                if threads:
                    works = [lambda n=n: model.invoke(f"row {n}") for n in range(80)]
                    results = await asyncio.to_thread(all_rows_sync, run, works)
                else:
                    results = await all_rows(run, [lambda n=n: model.ainvoke(f"row {n}") for n in range(80)])
                billed = [server.billed, server.billed_unseen]
                real = sum(one.input_tokens * IN + one.output_tokens * OUT for one in billed)
                assert real <= run.ledger.spent <= run.ledger.limits.total
                assert run.ledger.reserved == 0
                assert in_flight(run) == 0
                refused = [result for result, _ in results if isinstance(result, BudgetReached)]
                assert refused
                assert isinstance(refused[0], openai_sdk.OpenAIError)
                assert isinstance(refused[0], anthropic_sdk.AnthropicError)
                assert classify(refused[0]).kind is Kind.STOP_RUN
                left = [row.too_dear for result, row in results if isinstance(result, BudgetReached)]
                assert all(error is not None and error.least > run.ledger.unspent() for error in left)
                assert stops == [], "a row that costs less may still be paid"
                assert run.ledger.overshoot == 0
                seen = server.billed
                assert run.spending.reported == seen.input_tokens * IN + seen.output_tokens * OUT
                assert run.spending.reported + run.spending.uncertain == run.ledger.spent

    asyncio.run(main())


def test_who_does_not_fit_yet_waits_for_money_to_come_back() -> None:
    async def main() -> None:
        with Loopback(script=lambda r: replies.held() if r.text == "first" else None) as server:
            async with openai(server, max_tokens=10) as model:
                one_request = (210 * IN + 10 * OUT) / PICO
                run = a_run(5, **with_money(one_request))
                first = asyncio.create_task(one(run, 0, lambda: model.ainvoke("first")))
                await asyncio.to_thread(server.wait, in_flight=1)
                second = asyncio.create_task(one(run, 1, lambda: model.ainvoke("second")))
                while not run.ledger.waiting:
                    await asyncio.sleep(0)
                assert server.requests == 1
                server.release()
                results = [await first, await second]
                assert not [result for result, _ in results if isinstance(result, Exception)]

    asyncio.run(main())


def test_a_blocking_call_on_a_loop_cannot_wait_for_money_and_says_so() -> None:
    async def main() -> None:
        with Loopback(script=lambda r: replies.held() if r.text == "first" else None) as server:
            async with openai(server, max_tokens=10) as model:
                run = a_run(5, **with_money((210 * IN + 10 * OUT) / PICO))
                first = asyncio.create_task(one(run, 0, lambda: model.ainvoke("first")))
                await asyncio.to_thread(server.wait, in_flight=1)

                async def blocking() -> Any:
                    return model.invoke("second")

                result, _ = await one(run, 1, blocking)
                assert isinstance(result, BudgetBusy)
                assert classify(result).kind is Kind.TRANSIENT
                assert run.alerts.stopped is None
                server.release()
                await first

    asyncio.run(main())


def test_a_streams_money_is_settled_at_its_end() -> None:
    with Loopback() as server, openai_sync(server, max_tokens=10, stream_usage=True) as model:
        run = a_run(**with_money(1.0))
        _, row = one_sync(run, 0, lambda: list(model.stream("hi")))
        assert run.ledger.reserved == 0
        assert (
            run.ledger.spent
            == row.cost_pico
            == server.billed.input_tokens * IN + server.billed.output_tokens * OUT
        )


def test_threads_that_add_to_one_row_lose_nothing() -> None:
    from concurrent.futures import ThreadPoolExecutor

    row = RowAccount(a_run(), 0)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(500):
            pool.submit(row.book, Usage(1, 2), 3, "reported", "m")
            pool.submit(row.sent)
    assert (row.attempts, row.usage, row.cost_pico) == (500, Usage(500, 1000), 1500)
