"""Whatever fails while a try is settled, its permit goes back and its money is booked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cottonpalm.request.money.ledger import Ledger
from cottonpalm.request.money.rules.prices import PriceBook
from cottonpalm.types import PICO, Usage
from tests.request.kit import in_flight
from tests.request.test_attempts import GOOD, a_call, a_hand, answer

if TYPE_CHECKING:
    from cottonpalm.request.steps import Reply

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
    with pytest.raises(KeyError):
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
        def get(self, *_: Any) -> Any:
            raise LookupError("no such header")

    reply = answer()
    reply.headers = Headers({"x-ratelimit-limit-requests": "1"})
    hand = a_hand(reply)
    with pytest.raises(LookupError):
        hand.run()
    assert in_flight(hand.row.run) == 0
