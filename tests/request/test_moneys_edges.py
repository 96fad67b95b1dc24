"""Money at its edges: several answers of one request, a cancel that crosses a grant, a model after a fallback."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor, Budget, Limits
from cottonpalm.request.money.ledger import Ledger
from cottonpalm.request.money.rules.amounts import Amounts
from cottonpalm.request.money.rules.grants import Ask
from cottonpalm.request.money.spending import Spending
from cottonpalm.stores import open_store
from cottonpalm.types import PICO
from tests.request.kit import a_run
from tests.request.test_attempts import GOOD, a_call, answer
from tests.request.test_tightening import LIKELY, near_the_ceiling
from tests.support.loopback import Loopback
from tests.support.replies import Request, fails

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.core


def test_three_answers_of_one_request_are_tightened_as_three() -> None:
    one = near_the_ceiling(answer())
    one.run()
    three = near_the_ceiling(answer(), call=a_call(max_tokens=10_000, n=3))
    three.run()
    alone, each = (json.loads(hand.sendings[0].body)["max_tokens"] for hand in (one, three))
    assert three.sendings[0].body is not None
    assert LIKELY <= each <= alone // 3, "each has its third of the money"
    assert three.row.run.ledger.overshoot == 0


def test_an_answer_of_three_that_was_cut_by_us_is_asked_again_though_their_sum_is_above_the_maximum() -> None:
    cut = {
        **GOOD,
        "choices": [
            {"message": {"content": "so"}, "finish_reason": reason} for reason in ("stop", "length", "stop")
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 30},
    }
    hand = near_the_ceiling(answer(200, cut), answer(), call=a_call(max_tokens=10_000, n=3))
    sent = hand._do

    def do(step: str, value: Any) -> Any:
        if step == "send":
            hand.row.run.ledger.limits = Amounts(PICO)  # there is money for all of it now
        return sent(step, value)

    hand._do = do
    hand.run()
    assert len(hand.sendings) == 2
    assert hand.sendings[1].body is None, "as the chain wants it"


def test_a_cancel_that_crosses_a_grant_leaves_nothing_reserved() -> None:
    async def main() -> None:
        ledger, account = Ledger(Amounts(100)), Spending()
        ledger.attach(account)
        held = await ledger.agrant(Ask(80, 80), account=account)
        waiting = asyncio.create_task(ledger.agrant(Ask(80, 80), account=account))
        behind = asyncio.create_task(ledger.agrant(Ask(80, 80), account=account))
        await asyncio.sleep(0)
        ledger.settle(held, 10, account=account)  # grants it...
        waiting.cancel()  # ...before its task has seen the grant
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        async with asyncio.timeout(5):
            assert await behind == 80, "what came back goes to the next"
        assert (ledger.reserved, account.reserved, ledger.in_flight) == (80, 80, 1)
        ledger.settle(80, 80, account=account)
        assert (ledger.reserved, account.reserved, ledger.spent) == (0, 0, 90)

    asyncio.run(main())


def test_who_waits_for_money_is_judged_by_what_answers_have_told_meanwhile() -> None:
    async def main() -> None:
        ledger, known = Ledger(Amounts(100)), [90]
        held = await ledger.agrant(Ask(60, 60))
        waiting = asyncio.create_task(ledger.agrant(Ask(90, lambda: known[0])))
        await asyncio.sleep(0)
        assert ledger.waiting == 1
        known[0] = 30  # answers are shorter than was feared
        ledger.settle(held, 60)
        assert await waiting == 40, "it gets what is left"

    asyncio.run(main())


@pytest.mark.parametrize("fails_with", [500, 400])
def test_a_row_that_a_fallback_answers_is_priced_by_the_fallbacks_model(fails_with: int) -> None:
    def script(request: Request) -> Any:
        return fails(fails_with) if request.body["model"] == "dear" else None

    async def main() -> None:
        with Loopback(script=script) as server:

            def of(name: str) -> Any:
                model = ChatOpenAI(
                    base_url=server.openai_url, api_key="sk-0123456789", model=name, max_completion_tokens=50
                )
                return model | StrOutputParser()

            processor = BatchProcessor(
                of("dear").with_fallbacks([of("cheap")]),
                retry=0,
                prices={"dear": (1000, 1000), "cheap": (1, 1)},
                budget=Budget(total=1),
                limits=Limits(),
            )
            async with processor.astart(["hi"]) as run:
                (outcome,) = [outcome async for outcome in run]
            used = server.billed
        assert outcome.status == "ok"
        assert outcome.cost_usd == pytest.approx((used.input_tokens + used.output_tokens) / 10**6)

    asyncio.run(main())


def test_a_lease_that_the_store_refuses_at_once_is_told_to_whoever_waits_for_it(tmp_path: Path) -> None:
    store = open_store(tmp_path / "runs.db")
    run = store.open_run("night", None)
    account = Spending(run)
    told = list[str]()
    done = threading.Event()
    account.lease(1_000, None, done.set)
    assert done.wait(20), "durable"
    assert account.covers(1_000)
    assert account.failure is None
    run.close()
    store.close()
    account.lease(10**12, None, lambda: told.append("told"))
    assert told == ["told"], "the store is closed: nobody waits for ever"
    assert account.failure is not None
    assert not account.covers(10**12)
    assert not account.wants_lease(5, None), "none is asked for again"


def test_a_request_whose_money_is_only_being_written_down_does_not_wait_for_money(tmp_path: Path) -> None:
    store = open_store(tmp_path / "runs.db")
    ledger, line = Ledger(PICO), threading.Event()
    run = a_run(ledger=ledger, spending=Spending(store.open_run("night", None)))

    def asks(amount: int) -> threading.Thread:
        def grant() -> None:
            with run.flow.waiting_for_money():
                ledger.grant(amount, account=run.spending)

        thread = threading.Thread(target=grant)
        thread.start()
        while not ledger.waiting:
            line.wait(0.001)
        return thread

    with closing(sqlite3.connect(tmp_path / "runs.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # nothing can be written meanwhile
        first = asks(1_000)
        assert (run.flow.unpaid, run.unpaid) == (1, 0)
        other.execute("ROLLBACK")
    first.join(20)
    second = asks(PICO)
    assert (run.flow.unpaid, run.unpaid) == (1, 1), "the first one holds a part of it"
    ledger.settle(1_000, 0, account=run.spending)
    second.join(20)
    assert (run.flow.unpaid, ledger.reserved) == (0, PICO)
    store.close()


@pytest.mark.parametrize("wakes", [True, False], ids=["a thread that wakes late", "a request on its way"])
def test_the_account_is_closed_once_threads_of_closed_rows_gave_their_money_back(
    tmp_path: Path, *, wakes: bool
) -> None:
    store = open_store(tmp_path / "runs.db")
    run = store.open_run("night", None)
    account = Spending(run)
    done = threading.Event()
    account.lease(1_000, None, done.set)
    assert done.wait(20), "durable"
    account.reserve(300)
    back = threading.Timer(0.05, account.release, [300])
    if wakes:
        back.start()
    account.wait_for_threads()
    account.close()
    run.close()
    assert store.open_run("night", None).spent().leased == (0 if wakes else 300)
    store.close()
