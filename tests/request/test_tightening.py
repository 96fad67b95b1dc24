"""Near the ceiling a smaller maximum is sent along: when, how far, to whom never, and what a cut by it costs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from cottonpalm.request.attempt.reservation import THOUGHTS, Reservation
from cottonpalm.request.money.ledger import Ledger
from cottonpalm.request.money.rules.amounts import Amounts
from cottonpalm.request.money.rules.outputs import ENOUGH, MARGIN, Outputs
from cottonpalm.request.money.rules.prices import PriceBook
from cottonpalm.types import PICO
from tests.request.test_attempts import GOOD, Hand, a_call, a_hand, answer
from tests.support.calls import recognise

if TYPE_CHECKING:
    from cottonpalm.providers.call import Call
    from cottonpalm.request.money.rules.grants import Ask

pytestmark = pytest.mark.core
PRICES = {"*": (1.0, 2.0)}
SEEN = 50  # tokens of the answers seen so far
LIKELY = int(MARGIN * SEEN)
CUT = {**GOOD, "choices": [{"message": {"content": "so far"}, "finish_reason": "length"}]}


def near_the_ceiling(*replies: Any, call: Call | None = None, seen: int = SEEN, **settings: Any) -> Hand:
    """A request of 10,000 tokens at most, where there is money for about 200, after enough answers were seen."""
    call = call or a_call(max_tokens=10_000)
    hand = a_hand(*replies, call=call, ledger=Ledger(None), prices=PriceBook(PRICES), **settings)
    for _ in range(ENOUGH):
        hand.row.run.pricing.outputs(call).note(seen, 0)
    hand.row.run.ledger.limits = Amounts(1_400 * PICO // 10**6)
    return hand


def cut_at(tokens: int) -> Any:
    return answer(200, {**CUT, "usage": {"prompt_tokens": 7, "completion_tokens": tokens}})


def maximum_sent(hand: Hand, number: int = 0) -> int | None:
    body = hand.sendings[number].body
    return None if body is None else json.loads(body)["max_tokens"]


def ask_of(hand: Hand) -> Ask:
    money = Reservation(hand.row, hand.call)
    assert money.bound is not None
    return money.ask()


def test_a_tighter_maximum_is_sent_along_and_nothing_else_changes() -> None:
    hand = near_the_ceiling(answer())
    before = bytes(hand.call.content)
    identity = hand.call.identity
    hand.run()
    body = json.loads(hand.sendings[0].body)
    assert LIKELY <= body["max_tokens"] < 10_000
    assert {**body, "max_tokens": 10_000} == json.loads(before)
    assert (hand.call.content, hand.call.identity) == (before, identity), (
        "keys come from the chain's own body"
    )


def test_far_from_the_ceiling_the_body_goes_out_as_it_is() -> None:
    hand = near_the_ceiling(answer())
    hand.row.run.ledger.limits = Amounts(PICO)
    hand.run()
    assert hand.sendings[0].body is None


def test_an_answer_cut_by_our_maximum_is_paid_for_and_asked_again_with_the_chains_own() -> None:
    hand = near_the_ceiling(cut_at(10_000), answer())
    sent = LIKELY
    hand.replies[0] = cut_at(sent)
    steps = hand.generator.send(None)
    while steps[0] != "send":
        steps = hand.generator.send(hand._do(*steps))
    sent = json.loads(steps[1].body)["max_tokens"]
    step, value = hand.generator.send(cut_at(sent))
    assert step == "money", "asked again at once"
    assert value.least == value.most, "with the whole maximum"
    hand.row.run.ledger.limits = Amounts(PICO)
    while step != "send":
        step, value = hand.generator.send(hand._do(step, value))
    assert value.body is None
    good = answer()
    with pytest.raises(StopIteration) as stop:
        hand.generator.send(good)
    row = hand.row
    assert stop.value.value.raw is good.raw
    assert not row.truncated
    assert row.partial is None
    assert row.run.pricing.repeated == 1
    assert row.run.spending.reported == (7 + 7) * 10**6 + (sent + 2) * 2 * 10**6
    assert row.cost_pico == row.run.spending.reported
    assert row.attempts == 2


def test_the_repeat_stops_the_run_where_its_money_is_not_there() -> None:
    from cottonpalm.providers import BudgetReached

    hand = near_the_ceiling(answer(200, {**CUT, "usage": None}))
    with pytest.raises(BudgetReached):
        hand.run()
    assert hand.row.run.pricing.repeated == 1


def test_a_stop_below_our_maximum_is_the_chains_own_cut() -> None:
    from cottonpalm.providers import CutAnswer

    hand = near_the_ceiling(cut_at(LIKELY - 1))
    with pytest.raises(CutAnswer):
        hand.run()
    assert hand.row.run.pricing.repeated == 0


def test_a_cut_at_the_users_own_maximum_is_a_cut() -> None:
    from cottonpalm.providers import CutAnswer

    call = a_call()
    hand = a_hand(cut_at(30), call=call, ledger=Ledger(PICO), prices=PriceBook(PRICES), max_output_tokens=30)
    with pytest.raises(CutAnswer):
        hand.run()


def test_it_can_be_switched_off() -> None:
    ask = ask_of(near_the_ceiling(tighten=False))
    assert ask.least == ask.most


def test_without_enough_answers_nothing_is_known_and_nothing_tightened() -> None:
    hand = a_hand(call=a_call(max_tokens=10_000), ledger=Ledger(PICO), prices=PriceBook(PRICES))
    hand.row.run.pricing.outputs(hand.call).note(5, 0)
    ask = ask_of(hand)
    assert ask.least == ask.most


def seen(path: str, headers: dict[str, str] | None = None, host: str = "h", **body: Any) -> Call:
    content = json.dumps({"model": "m", **body}).encode()
    call = recognise("POST", ("https", host, None, path), headers or {}, content)
    assert call is not None
    return call


HI = [{"role": "user", "content": "hi"}]
CHAT = {"messages": HI, "max_tokens": 10_000}
AWS = {"authorization": "AWS4-HMAC-SHA256 Credential=AKIA/20260101/x/bedrock/aws4_request, Signature=1"}


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(seen("/model/anthropic.claude/invoke", AWS, **CHAT), id="signed"),
        pytest.param(
            seen(
                "/v1/responses",
                model="gpt-4o-mini",
                input="x",
                previous_response_id="r",
                max_output_tokens=9999,
            ),
            id="kept conversation",
        ),
        pytest.param(
            seen("/v1/responses", input="x", background=True, max_output_tokens=10_000), id="background"
        ),
        pytest.param(
            seen(
                "/v1/messages",
                **{**CHAT, "model": "claude-haiku-4-5"},
                tools=[{"type": "web_search_20250305", "name": "web_search", "max_uses": 1}],
            ),
            id="the provider's tools",
        ),
    ],
)
def test_some_requests_are_never_tightened(call: Call) -> None:
    hand = a_hand(call=call, ledger=Ledger(PICO), prices=PriceBook())
    hand.row.run.pricing.prices = PriceBook({"m": (1.0, 2.0)})
    for _ in range(ENOUGH):
        hand.row.run.pricing.outputs(call).note(SEEN, 0)
    ask = ask_of(hand)
    assert ask.least == ask.most


def test_a_stream_is_never_tightened() -> None:
    call = a_call(max_tokens=10_000)
    call.streams = True
    ask = ask_of(near_the_ceiling(call=call))
    assert ask.least == ask.most


def test_thinking_is_left_its_budget_and_an_answer() -> None:
    call = seen(
        "/v1/messages", messages=HI, max_tokens=10_000, thinking={"type": "enabled", "budget_tokens": 4_000}
    )
    hand = near_the_ceiling(call=call)
    hand.row.run.ledger.limits = Amounts(PICO)
    ask, money = ask_of(hand), Reservation(hand.row, call)
    money.granted(ask.least)
    assert money.sent == 4_000 + THOUGHTS


def test_a_model_that_was_seen_to_reason_is_left_room_for_it() -> None:
    hand = near_the_ceiling()
    hand.row.run.pricing.outputs(hand.call).note(SEEN, 40)
    money = Reservation(hand.row, hand.call)
    money.granted(ask_of(hand).least)
    assert money.sent == LIKELY + THOUGHTS


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (seen("/v1/chat/completions", messages=HI, max_tokens=10_000), ["max_tokens"]),
        (seen("/v1/chat/completions", messages=HI, max_completion_tokens=10_000), ["max_completion_tokens"]),
        (seen("/v1/responses", input="x", max_output_tokens=10_000), ["max_output_tokens"]),
        (seen("/v1/messages", messages=HI, max_tokens=10_000), ["max_tokens"]),
        (
            seen(
                "/v1beta/models/m:generateContent", contents=[], generationConfig={"maxOutputTokens": 10_000}
            ),
            ["generationConfig", "maxOutputTokens"],
        ),
        (seen("/api/chat", messages=HI, options={"num_predict": 10_000}), ["options", "num_predict"]),
    ],
)
def test_the_providers_own_field_is_used(call: Call, field: list[str]) -> None:
    hand = near_the_ceiling(call=call)
    money = Reservation(hand.row, call)
    money.granted(ask_of(hand).least)
    assert money.body is not None
    found: Any = json.loads(money.body)
    for name in field:
        found = found[name]
    assert found == LIKELY


@pytest.mark.parametrize(
    ("host", "field"), [("api.openai.com", "max_completion_tokens"), ("127.0.0.1", "max_tokens")]
)
def test_a_request_without_a_field_gets_the_one_its_server_knows(host: str, field: str) -> None:
    call = seen("/v1/chat/completions", host=host, messages=HI)
    hand = a_hand(call=call, ledger=Ledger(PICO), prices=PriceBook(PRICES), max_output_tokens=9)
    money = Reservation(hand.row, call)
    money.granted(money.bound or 0)
    assert money.body is not None
    assert json.loads(money.body)[field] == 9


def test_a_maximum_is_never_below_what_the_provider_takes() -> None:
    call = seen("/v1/responses", input="x", max_output_tokens=10_000)
    hand = near_the_ceiling(call=call, seen=1)
    money = Reservation(hand.row, call)
    money.granted(ask_of(hand).least)
    assert money.sent == 16


@pytest.mark.parametrize("amount", range(1000, 3000, 111))
def test_what_is_sent_always_fits_into_what_was_granted(amount: int) -> None:
    hand = near_the_ceiling()
    money = Reservation(hand.row, hand.call)
    money.granted(amount * PICO // 10**6)
    assert money.sent is not None
    assert not isinstance(money.extent, str)
    assert money.tariff.bound(money.extent._replace(output_tokens=money.sent)) <= amount * PICO // 10**6


def test_a_likely_length_is_above_nearly_all_that_were_seen() -> None:
    outputs = Outputs()
    for length in range(1, 101):
        outputs.note(length, 0)
    assert outputs.likely() == int(MARGIN * 100)
    assert not outputs.reasons


def test_a_body_that_asks_for_the_prompt_cache_goes_out_with_and_without_a_maximum_of_ours() -> None:
    money = Reservation(near_the_ceiling(answer()).row, a_call())
    assert money.body is None, "the chain's own"
    money.instead = {"model": "m", "messages": [], "prompt_cache_key": "k"}
    assert money.body is not None
    assert json.loads(money.body) == money.instead
    money.sent = 77
    assert json.loads(money.body) == {**money.instead, "max_completion_tokens": 77}
