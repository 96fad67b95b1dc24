"""Whatever fails while a try is settled, its permit goes back and its money is booked."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from cottonpalm.errors import ConfigError
from cottonpalm.events import Paused, RequestFinished, Unreachable
from cottonpalm.request.attempt.settlement import verdict_of
from cottonpalm.request.attempt.steps import Reply
from cottonpalm.request.money.ledger import Ledger
from cottonpalm.request.money.rules.prices import PriceBook
from cottonpalm.types import PICO, Fault, Kind, Usage, Verdict
from tests.request.kit import in_flight
from tests.request.test_attempts import GOOD, a_call, a_hand, answer

pytestmark = pytest.mark.core
SILENT = {name: value for name, value in GOOD.items() if name != "usage"}


class Moody:
    """A function for `prices=` that fails from some moment on."""

    failing = False

    def __call__(self, model: str, usage: Usage) -> float:
        if self.failing:
            raise KeyError("no such tier")
        return 1e-6 * (usage.input_tokens + usage.output_tokens)


def a_moody_hand(price: Moody, *replies: Reply, **settings: Any) -> Any:
    call = a_call(max_tokens=10)
    return a_hand(*replies, call=call, ledger=Ledger(PICO), prices=PriceBook(price), **settings)


@pytest.mark.parametrize("body", [GOOD, SILENT], ids=["with usage", "without usage"])
def test_a_function_of_prices_that_fails_after_the_send_keeps_neither_permit_nor_money(body: Any) -> None:
    price = Moody()
    hand = a_moody_hand(price, answer(200, body))
    sent = hand._do

    def do(step: str, value: Any) -> Any:
        price.failing = step == "send"
        return sent(step, value)

    hand._do = do
    hand.run()
    ledger = hand.row.run.ledger
    assert in_flight(hand.row.run) == 0
    assert (ledger.reserved, ledger.in_flight) == (0, 0)
    assert ledger.spent > 0, "it may have been billed up to its bound"


def test_a_function_of_prices_that_fails_while_money_is_granted_reserves_nothing_for_good() -> None:
    price = Moody()
    call = a_call(max_tokens=1000)
    hand = a_hand(call=call, ledger=Ledger(PICO // 2000), prices=PriceBook(price))  # less than the bound
    outputs = hand.row.run.pricing.outputs(hand.call)
    for _ in range(50):
        outputs.note(1, 0)
    asked = hand._do

    def do(step: str, value: Any) -> Any:
        result = asked(step, value)
        price.failing = step == "money"
        return result

    hand._do = do
    with pytest.raises(ConfigError, match="no such tier"):
        hand.run()
    assert "money" in hand.steps
    assert hand.row.run.ledger.reserved == 0


def test_an_observer_of_measures_that_fails_keeps_no_permit() -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise LookupError(name)

    hand = a_hand(answer())
    hand.row.run.measure = Broken()
    with pytest.raises(LookupError):
        hand.run()
    assert in_flight(hand.row.run) == 0


def test_headers_that_cannot_be_read_keep_no_permit() -> None:
    class Headers(dict[str, str]):
        def items(self) -> Any:
            raise LookupError("no such header")

    reply = answer()
    reply.headers = Headers({"x-ratelimit-limit-requests": "1"})
    hand = a_hand(reply)
    with pytest.raises(LookupError):
        hand.run()
    assert in_flight(hand.row.run) == 0


# -- what is told of a try


class Measured:
    """What a run's measure is told."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, Any, Any, bool]] = []
        self.retries = 0

    def request(self, label: str, _: float, usage: Any, cost: Any, *, ok: bool, flex: bool) -> None:
        assert not flex
        self.requests.append((label, usage, cost, ok))

    def retried(self) -> None:
        self.retries += 1

    def waited(self, *_: Any) -> None:
        """Not looked at here."""


def told(*replies: Reply, **settings: Any) -> tuple[Any, list[Any], Measured]:
    """The hand after its run, the events, and what was measured."""
    hand, events, measured = a_hand(*replies, **settings), list[Any](), Measured()
    hand.row.run.alerts.emit, hand.row.run.measure = events.append, measured
    hand.run()
    return hand, events, measured


def test_each_try_is_told_and_measured_once_and_the_second_is_a_retry() -> None:
    prices = PriceBook({"gpt-4o-mini": (1.0, 2.0)})
    hand, events, measured = told(answer(500, {}), answer(), prices=prices)
    label, usage = hand.call.label, Usage(7, 2)
    finished = [event for event in events if isinstance(event, RequestFinished)]
    assert [(e.status, e.kind, e.usage) for e in finished] == [
        (500, Kind.TRANSIENT, None),
        (200, None, usage),
    ]
    assert measured.requests == [(label, None, None, False), (label, usage, 11_000_000, True)]
    assert measured.retries == 1
    assert hand.row.run.last_fault.kind is Kind.TRANSIENT
    assert (hand.row.attempts, hand.row.on_wire, hand.row.got) == (2, 0, True)


@pytest.mark.parametrize(
    ("reply", "told_s"),
    [
        (answer(429, {}, retry_after="0.5"), [0.5]),
        (answer(429, {}, retry_after="7"), [7.0]),
        (answer(429, {}), []),
        (answer(500, {}, retry_after="0.5"), []),
    ],
    ids=["half a second", "seven", "no wait", "a fault of this request alone"],
)
def test_a_pause_is_told_where_the_provider_names_it_for_all(reply: Reply, told_s: list[float]) -> None:
    _, events, measured = told(reply, answer())
    said = [event.seconds for event in events if isinstance(event, Paused)]
    assert len(said) == len(told_s)
    assert all(least <= seconds <= 1.25 * least for seconds, least in zip(said, told_s, strict=True))
    assert [ok for *_, ok in measured.requests] == [False, True]


def test_a_server_that_cannot_be_reached_is_told_with_its_address_and_one_that_answers_is_reached() -> None:
    refused = httpx2.ConnectError("refused")
    refused.__cause__ = ConnectionRefusedError(111, "Connection refused")
    hand, events, _ = told(Reply(error=refused), answer(500, {}), answer())
    [unreachable] = [event for event in events if isinstance(event, Unreachable)]
    assert "api.openai.com" in unreachable.reason
    assert hand.row.run.reach.trouble == ""


@pytest.mark.parametrize(
    ("fault", "status", "verdict"),
    [
        (None, 200, Verdict.SUCCESS),
        (Kind.THROTTLE, 429, Verdict.DROPPED),
        (Kind.THROTTLE, 503, Verdict.DROPPED),
        (Kind.THROTTLE, None, Verdict.DROPPED),
        (Kind.TRANSIENT, None, Verdict.LOST),
        (Kind.TRANSIENT, 502, Verdict.LOST),
        (Kind.TRANSIENT, 504, Verdict.LOST),
        (Kind.TRANSIENT, 522, Verdict.LOST),
        (Kind.TRANSIENT, 500, Verdict.IGNORED),
        (Kind.TRANSIENT, 503, Verdict.IGNORED),
        (Kind.FAIL_ROW, 400, Verdict.IGNORED),
    ],
)
def test_what_a_fault_says_of_the_providers_room(
    fault: Kind | None, status: int | None, verdict: Verdict
) -> None:
    assert verdict_of(None if fault is None else Fault(fault, "E", "x"), status) is verdict


def test_an_overload_of_all_users_says_nothing_of_our_own_limits() -> None:
    assert verdict_of(Fault(Kind.THROTTLE, "E", "x", overload=True), 503) is Verdict.OVERLOADED


@pytest.mark.parametrize("counts", [(-7, 2), (7, -2), (0, 0), (7, 1 << 50), ("7", 2)], ids=str)
@pytest.mark.parametrize("budget", [Ledger(PICO), None], ids=["budget", "no budget"])
def test_an_answer_whose_usage_is_nonsense_is_booked_at_its_bound_and_shown_as_estimated(
    counts: tuple[Any, Any], budget: Ledger | None
) -> None:
    prices, call = PriceBook({"gpt-4o-mini": (1.0, 2.0)}), a_call(max_tokens=10)
    usage = dict(zip(("prompt_tokens", "completion_tokens"), counts, strict=True))
    hands = []
    for body in ({**GOOD, "usage": usage}, SILENT):
        ledger = None if budget is None else Ledger(PICO)
        hand = a_hand(answer(200, body), call=call, ledger=ledger, prices=prices)
        hand.run()
        hands.append(hand)
    odd, silent = (hand.row for hand in hands)
    assert odd.run.spending.uncertain == silent.run.spending.uncertain >= 20_000_000
    assert odd.run.spending.reported == 0
    assert (odd.cost_pico, odd.cost_source) == (silent.cost_pico, "estimated")
    assert odd.cost_pico > 0
