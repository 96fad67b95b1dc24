"""Rules that bite seldom: when an answer may be billed, who waits how long, and whose request is whose."""

from __future__ import annotations

import random
from typing import Any

import httpx2
import pytest

from cottonpalm.config import RetryPolicy
from cottonpalm.protocols import Spent
from cottonpalm.providers.paths import family_of, model_in
from cottonpalm.request.money.ledger import Amounts, Ledger
from cottonpalm.request.money.rules.grants import Ask
from cottonpalm.request.money.rules.prices import PriceBook
from cottonpalm.request.money.spending import Spending
from cottonpalm.request.transport.hook import _call
from cottonpalm.testing import virtual_run
from cottonpalm.types import PICO
from tests.request.test_attempts import a_call, a_hand, answer
from tests.request.test_streams import WHOLE, _sse, through_a_stream

pytestmark = pytest.mark.core


@pytest.mark.parametrize("status", [408, 499, 502, 504, 520, 522, 524])
def test_an_answer_that_somebody_on_the_way_gave_up_on_may_have_been_billed(status: int) -> None:
    hand = a_hand(
        answer(status, {}),
        call=a_call(max_tokens=10),
        ledger=Ledger(PICO),
        prices=PriceBook({"gpt-4o-mini": (1.0, 1.0)}),
        retry=RetryPolicy(retries=0),
    )
    hand.run()
    assert hand.row.run.spending.uncertain > 0
    assert hand.row.run.spending.reported == 0


@pytest.mark.parametrize("status", [500, 503, 521, 523])
def test_an_answer_of_a_server_that_did_nothing_costs_nothing(status: int) -> None:
    hand = a_hand(
        answer(status, {}),
        call=a_call(max_tokens=10),
        ledger=Ledger(PICO),
        prices=PriceBook({"gpt-4o-mini": (1.0, 1.0)}),
        retry=RetryPolicy(retries=0, rejections=1, count_all=True),
    )
    hand.run()
    assert hand.row.run.spending.uncertain == 0


def test_with_no_retry_left_to_the_run_not_all_wait_the_same_time() -> None:
    policy = RetryPolicy(cap_s=60.0, allowance_share=0.0, allowance_floor=0)
    waits = set()
    random.seed(5)
    for _ in range(8):
        hand = a_hand(answer(500, {}), answer(), retry=policy)
        hand.generator.send(None)
        hand.generator.send(hand.limiter.force())
        step, seconds = hand.generator.send(answer(500, {}))
        assert step == "sleep"
        assert 30.0 <= seconds <= 60.0
        waits.add(seconds)
        hand.generator.close()
    assert len(waits) == 8


ARNS = [
    (
        "/model/arn:aws:bedrock:us-east-1:12:inference-profile/us.anthropic.claude-sonnet-4-v1:0/invoke",
        "us.anthropic.claude-sonnet-4-v1:0",
    ),
    ("/model/arn:aws:bedrock:us-east-1:12:application-inference-profile/ab12/invoke", "ab12"),
    ("/model/arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-v2/invoke", "anthropic.claude-v2"),
    ("/model/anthropic.claude-3-haiku-20240307-v1:0/invoke", "anthropic.claude-3-haiku-20240307-v1:0"),
]


@pytest.mark.parametrize(("path", "model"), ARNS)
def test_an_arn_of_bedrock_names_its_own_model(path: str, model: str) -> None:
    assert model_in(path) == model
    assert family_of(path) is not None


@pytest.mark.parametrize(("path", "model"), ARNS)
def test_the_same_holds_for_the_path_as_it_goes_over_the_wire(path: str, model: str) -> None:
    wire = path.replace(":", "%3A")
    head, _, tail = wire.removeprefix("/model/").rpartition("/")
    url = "https://bedrock-runtime.us-east-1.amazonaws.com/model/" + head.replace("/", "%2F") + "/" + tail
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
    call = _call(httpx2.Request("POST", url, json=body))
    assert call is not None
    assert call.model == model


def test_an_end_mark_inside_the_text_of_an_answer_is_only_text() -> None:
    said = '{"choices":[{"index":0,"delta":{"content":"data: [DONE]"},"finish_reason":null}]}'
    whole = _sse(said, *WHOLE)
    for pieces in ([whole], [whole[n : n + 9] for n in range(0, len(whole), 9)], [_sse(said), _sse(*WHOLE)]):
        row, read = through_a_stream(pieces)
        assert read == whole
        assert row.usage.input_tokens == 5, "read to its real end"


def test_a_server_that_waits_after_a_quoted_end_mark_is_waited_for() -> None:
    import asyncio

    said = '{"choices":[{"index":0,"delta":{"content":"data: [DONE]"},"finish_reason":null}]}'

    class Body(httpx2.AsyncByteStream):
        async def __aiter__(self) -> Any:
            yield _sse(said)
            await asyncio.sleep(30.0)
            yield _sse(*WHOLE)

    from cottonpalm.request.row_account import ROW, RowAccount
    from tests.request.kit import a_run

    async def main() -> bytes:
        ROW.set(RowAccount(a_run(timeout_s=600.0), 0))
        transport = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=Body()))
        async with httpx2.AsyncClient(transport=transport, timeout=None) as client:
            body = {"model": "m", "messages": [], "stream": True}
            async with client.stream("POST", "http://x/v1/chat/completions", json=body) as response:
                return await response.aread()

    assert virtual_run(main()) == _sse(said, *WHOLE)


def test_an_even_pace_after_a_resume_goes_by_what_a_request_costs_now() -> None:
    """What earlier lives spent is no cost of the first requests of this one."""

    async def main() -> int:
        ledger = Ledger(Amounts(per_hour=3600 * 1000, wait=True))
        account = Spending()
        account.earlier = Spent("a run", reported=3_000_000)  # long ago
        ledger.attach(account)
        granted = await ledger.agrant(Ask(100, 100), account=account)
        ledger.settle(granted, 100, account=account)
        return sum(isinstance(ledger.try_grant(Ask(100, 100), account=account), int) for _ in range(50))

    assert virtual_run(main()) == 50


def test_why_there_is_no_money_is_said_with_its_figures() -> None:
    prices = PriceBook({"gpt-4o-mini": (1.0, 1.0)})
    hand = a_hand(call=a_call(max_tokens=10), ledger=Ledger(5 * PICO // 10**6), prices=prices)
    pricing, bound = hand.row.run.pricing, 40 * PICO // 10**6
    assert pricing.budget_left() == 5_000_000
    said = pricing.why_no_money("gpt-4o-mini", lambda: bound)
    assert "for another request to 'gpt-4o-mini', which can cost $0.000040; $0.000005 is left" in said
    assert "which can cost" not in pricing.why_no_money("m", lambda: 5_000_000), "it was freed since"
    hand.row.run.spending.failure = OSError("no space left on device")
    assert "no space left on device" in pricing.why_no_money("m", lambda: bound)
    assert a_hand(call=a_call()).row.run.pricing.budget_left() is None


def test_a_model_without_a_price_is_told_once_with_what_says_it(caplog: pytest.LogCaptureFixture) -> None:
    run = a_hand(call=a_call(), prices=PriceBook({"priced": (1.0, 2.0)})).row.run
    unknown, known = a_call(model="nobody-knows"), a_call(model="priced")
    for _ in range(3):
        assert run.pricing.rates(unknown, None, None) is None
        assert run.pricing.rates(unknown, "another-nobody-knows", None) is None
        assert run.pricing.rates(known, None, None) is not None
        assert run.pricing.rates(unknown, "priced", None) is not None, "by the model that answered"
    said = [record.getMessage() for record in caplog.records if "no price is known" in record.getMessage()]
    assert len(said) == 1
    assert "'nobody-knows'" in said[0]
    assert "--price nobody-knows=IN:OUT" in said[0]
