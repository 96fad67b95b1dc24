"""The copy of a late request, step by step: permit and money of its own, settled once, whatever becomes of the two."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from cottonpalm import clock
from cottonpalm.request.attempt.attempts import attempts
from cottonpalm.request.attempt.copies import COPIES
from cottonpalm.request.attempt.steps import FOREVER_S, AskMoney, AskPermit, Done, Reply, Send, Sleep
from cottonpalm.request.hedges import Ticket
from cottonpalm.request.money.ledger import Ledger
from cottonpalm.request.money.rules.prices import PriceBook
from cottonpalm.request.row_account import RowAccount
from cottonpalm.runtime.wait_queue import RowClosed
from cottonpalm.types import PICO, Usage
from tests.request.kit import a_run, in_flight
from tests.request.test_attempts import a_call, a_hand, answer

pytestmark = pytest.mark.core
PRICES = PriceBook({"gpt-4o-mini": (1.0, 2.0)})
COST = 7 * 1_000_000 + 2 * 2_000_000  # of one GOOD answer, in pico-dollars
TEXT = "of" * 40


class Measured:
    """Counts what it is told of copies."""

    def __init__(self) -> None:
        self.copies = 0

    def hedged(self) -> None:
        self.copies += 1

    def __getattr__(self, _: str) -> Any:
        return lambda *_, **__: None


class Counting(Ticket):
    """Tells the pair of each copy that goes."""

    def __init__(self, pair: Pair) -> None:
        super().__init__(counted=True, above=False)
        self.pair = pair

    def goes(self, now: float) -> None:
        super().goes(now)
        self.pair.gone += 1


class Pair:
    """A request that is under way, and its copy, both driven by hand."""

    def __init__(self, budget: int | None = PICO, **settings: Any) -> None:
        ledger = None if budget is None else Ledger(budget)
        self.row = RowAccount(a_run(4, ledger=ledger, prices=PRICES, **settings), 0)
        self.run = self.row.run
        self.run.measure = self.measured = Measured()
        self.call = a_call(TEXT, max_tokens=10)
        self.first, sent = self.begin(attempts(self.row, self.call))
        assert sent.copy is not None
        assert self.run.hedges.take(1_000)
        self.gone = 0  # copies that were sent
        self.copier = partial(sent.copy, self.ticket())

    def ticket(self) -> Ticket:
        """It counts those that go."""
        return Counting(self)

    def begin(self, steps: Any) -> tuple[Any, Send]:
        """Drive it until it is sent."""
        step = steps.send(None)
        while not isinstance(step, Send):
            result: Any
            if isinstance(step, AskMoney):
                assert self.run.ledger is not None
                result = self.run.ledger.try_grant(step.ask, 0, self.run.spending)
            else:
                assert isinstance(step, AskPermit)
                result = self.run.flow.limiter(step.key).force()
            step = steps.send(result)
        return steps, step

    def end(self, steps: Any, reply: Reply) -> Any:
        """Give it its reply; what it returns."""
        with pytest.raises(StopIteration) as stopped:
            steps.send(reply)
        return stopped.value.value

    @property
    def bound(self) -> int:
        """What each of the two reserves."""
        ledger = self.run.ledger
        assert ledger is not None
        return ledger.reserved

    @property
    def booked(self) -> tuple[int, int]:
        spending = self.run.spending
        return spending.reported, spending.uncertain

    def check_nothing_is_held(self) -> None:
        assert in_flight(self.run) == 0
        assert self.row._open == self.row.on_wire == 0
        assert self.run.ledger is None or self.run.ledger.reserved == 0


def test_a_copy_has_a_permit_and_money_of_its_own_and_its_answer_counts_for_both() -> None:
    pair = Pair()
    bound = pair.bound
    steps = pair.copier()
    assert isinstance(steps.send(None), AskPermit)
    assert pair.gone == 0, "it is in line"
    steps.close()
    assert pair.run.hedges.take(1_000)
    copy, sent = pair.begin(pair.copier())
    assert pair.gone == 1
    assert in_flight(pair.run) == 2
    assert pair.bound == 2 * bound
    assert pair.row.attempts == 2
    assert sent.timeout_s == pair.run.timeout_s
    reply = pair.end(copy, answer())
    assert reply.copy is not None
    assert in_flight(pair.run) == 1, "the original's, until it is cut off"
    done = pair.end(pair.first, reply)
    assert isinstance(done, Done)
    assert done.raw is reply.raw
    assert pair.booked == (COST, bound), "what was cut off may have been answered, too"
    assert pair.run.flow.limiter(pair.call.key).accepted == 1
    assert (pair.row.usage, pair.row.attempts) == (Usage(7, 2), 2)
    assert (pair.run.hedges.sent, pair.measured.copies) == (1, 1)
    pair.check_nothing_is_held()


@pytest.mark.parametrize(
    ("first", "reported", "uncertain"),
    [
        (answer(), 2 * COST, 0),
        (answer(500, {}), COST, 0),
        (answer(504, {}), COST, 1),
        (answer(429, {}, retry_after="90"), COST, 0),
        (Reply(error=ConnectionResetError("gone")), COST, 1),
    ],
    ids=["an answer", "500", "504", "429", "broken off"],
)
def test_what_the_original_came_to_is_booked_as_it_came(first: Reply, reported: int, uncertain: int) -> None:
    pair = Pair()
    bound = pair.bound
    copy, _ = pair.begin(pair.copier())
    reply = pair.end(copy, answer())
    reply.instead_of = first
    assert pair.end(pair.first, reply).raw is reply.raw
    assert pair.booked == (reported, uncertain * bound)
    limiter = pair.run.flow.limiter(pair.call.key)
    assert limiter.accepted == 1 + (first.status == 200)
    assert (limiter.paused_until - clock.now() > 60) is (first.status == 429), (
        "a wait that is named is obeyed"
    )
    pair.check_nothing_is_held()


@pytest.mark.parametrize(
    ("reply", "counts", "paused", "uncertain"),
    [
        (answer(429, {}, retry_after="90"), False, True, 0),
        (answer(429, {}), False, False, 0),
        (answer(500, {}, retry_after="90"), True, False, 0),
        (answer(400, {}), True, False, 0),
        (Reply(error=ConnectionResetError("gone")), True, False, 1),
        (answer(200, {"choices": []}), True, False, 1),
    ],
    ids=["429 with a wait", "429", "500", "400", "broken off", "half an answer"],
)
def test_a_copy_that_fails_is_settled_and_the_original_goes_on(
    reply: Reply, counts: bool, paused: bool, uncertain: int
) -> None:
    pair = Pair()
    bound = pair.bound
    copy, _ = pair.begin(pair.copier())
    assert pair.end(copy, reply).copy is None
    assert pair.booked == (0, uncertain * bound)
    assert in_flight(pair.run) == 1, "the original's"
    limiter = pair.run.flow.limiter(pair.call.key)
    assert (limiter.paused_until - clock.now() > 60) is paused
    assert (pair.run.hedges.sent, pair.measured.copies) == (int(counts), int(counts)), (
        "a rejection is no copy"
    )
    assert pair.end(pair.first, answer()).raw is not None
    assert pair.booked == (COST, uncertain * bound)
    pair.check_nothing_is_held()


def test_a_copy_waits_for_no_money() -> None:
    poor = Pair(budget=3 * Pair().bound // 2)
    steps = poor.copier()
    with pytest.raises(StopIteration) as stopped:
        steps.send(None)
    assert stopped.value.value is None
    assert poor.run.hedges.sent == 0
    assert poor.measured.copies == 0
    poor.end(poor.first, answer())
    poor.check_nothing_is_held()


@pytest.mark.parametrize("at", ["permit", "send"])
def test_a_copy_that_is_cancelled_gives_back_what_it_holds_and_books_what_it_may_have_cost(at: str) -> None:
    pair = Pair()
    bound = pair.bound
    if at == "permit":
        copy = pair.copier()
        assert isinstance(copy.send(None), AskPermit)
        assert pair.bound == 2 * bound
    else:
        copy, _ = pair.begin(pair.copier())
    copy.close()
    assert pair.bound == bound
    assert in_flight(pair.run) == 1
    assert pair.booked == (0, 0 if at == "permit" else bound)
    assert pair.run.hedges.sent == pair.measured.copies == int(at == "send"), "it counts if it was sent"
    pair.end(pair.first, answer())
    pair.check_nothing_is_held()


def test_a_copy_of_a_row_that_has_ended_meanwhile_is_not_sent() -> None:
    pair = Pair()
    bound = pair.bound
    copy = pair.copier()
    ask = copy.send(None)
    pair.row.close()
    with pytest.raises(RowClosed):
        copy.send(pair.run.flow.limiter(ask.key).force())
    assert pair.booked == (0, 0)
    assert pair.bound == bound
    assert pair.run.hedges.sent == 0
    pair.first.close()
    assert pair.booked == (0, bound)
    pair.check_nothing_is_held()


def test_the_copy_of_a_copy_may_be_late_too_and_no_request_is_sent_more_often_than_that() -> None:
    pair = Pair()
    copier, copies = pair.copier, list[Any]()
    while copier is not None:
        steps, sent = pair.begin(copier())
        copies.append(steps)
        copier = sent.copy and partial(sent.copy, pair.ticket())
    assert len(copies) == COPIES == 3
    reply = pair.end(copies.pop(), answer())
    while copies:  # each hands on what the one after it came to
        reply = pair.end(copies.pop(), reply)
        assert reply.copy is not None
    pair.end(pair.first, reply)
    assert pair.booked[0] == COST
    assert pair.row.attempts == 1 + COPIES
    pair.check_nothing_is_held()


@pytest.mark.parametrize(
    "body",
    [{"store": True}, {"background": True}, {"previous_response_id": "r-1"}],
    ids=str,
)
def test_what_must_not_be_sent_twice_gets_no_copy(body: dict[str, Any]) -> None:
    row = RowAccount(a_run(4), 0)
    steps = attempts(row, a_call(**body))
    ask = steps.send(None)
    assert isinstance(ask, AskPermit)
    sent = steps.send(row.run.flow.limiter(ask.key).force())
    assert isinstance(sent, Send)
    assert sent.copy is not None
    with pytest.raises(StopIteration) as stopped:
        sent.copy(Ticket(counted=True, above=False)).send(None)
    assert stopped.value.value is None
    assert row.run.hedges.sent == -1, "one that had been taken is given back"
    steps.close()


def test_a_run_that_wants_no_copies_makes_none() -> None:
    row = RowAccount(a_run(4), 0)
    row.run.hedges.wanted = False
    steps = attempts(row, a_call())
    ask = steps.send(None)
    assert isinstance(ask, AskPermit)
    sent = steps.send(row.run.flow.limiter(ask.key).force())
    assert isinstance(sent, Send)
    assert sent.copy is None
    steps.close()


# -- other ways of a request


def test_a_plan_sees_the_request_and_it_is_never_sent() -> None:
    looked: list[Any] = []
    row = RowAccount(a_run(), 0)
    row.run.look = looked.append
    call = a_call()
    steps = attempts(row, call)
    assert steps.send(None) == Sleep(FOREVER_S)
    assert looked == [call]
    row.close()
    with pytest.raises(RowClosed):
        steps.send(None)
    assert row.attempts == 0


def test_without_a_bound_and_a_budget_the_run_stops_before_it_is_sent() -> None:
    from cottonpalm.providers import BudgetReached

    hand = a_hand(answer(), call=a_call(model="nobody-knows", max_tokens=10), ledger=Ledger(PICO))
    hand.row.run.refuses_unbounded = True
    with pytest.raises(BudgetReached, match="a budget is set, but"):
        hand.run()
    assert "send" not in hand.steps
    assert hand.row._open == 0


def test_money_that_ran_out_stops_the_run_before_it_is_sent() -> None:
    from cottonpalm.providers import BudgetReached

    hand = a_hand(answer(), call=a_call(max_tokens=10_000), ledger=Ledger(1_000), prices=PRICES)
    with pytest.raises(BudgetReached):
        hand.run()
    assert hand.steps == ["money"]
    assert in_flight(hand.row.run) == 0
    assert isinstance(AskMoney, type)


def test_a_final_failure_of_all_rows_is_marked_so_that_it_stops_the_run() -> None:
    stopped: list[Any] = []
    reply = answer(401, {"error": {"message": "bad key", "code": "invalid_api_key"}})
    hand = a_hand(reply)
    hand.row.run.alerts.on_stop = stopped.append
    assert hand.run().raw is reply.raw
    assert reply.headers["x-should-retry"] == "false"
    assert len(reply.headers) == 2, "and another says that it stops the run"
    assert hand.row.spent is not None
    ordinary = answer(400, {"error": {"message": "odd"}})
    a_hand(ordinary).run()
    assert list(ordinary.headers) == ["x-should-retry"]


def test_an_error_that_came_with_a_good_status_is_raised_with_its_message_and_given_again() -> None:
    body = {"error": {"code": 400, "message": "this prompt is odd"}}
    row, call = RowAccount(a_run(), 0), a_call()
    for replies in ([answer(200, body)], []):
        hand = a_hand(*replies, call=call)
        hand.generator = type(hand.generator)(attempts(row, call))
        hand.row = row
        with pytest.raises(Exception, match="this prompt is odd"):
            hand.run()
    assert row.attempts == 1


def test_the_users_own_word_on_an_error_goes_first() -> None:
    from cottonpalm.types import Kind

    error = RuntimeError("http 400")
    reply = answer(400, {"error": {"message": "odd"}})
    reply.as_error = lambda: error
    seen: list[BaseException] = []

    def classify(exc: BaseException) -> str:
        seen.append(exc)
        return "transient"

    hand = a_hand(reply, answer(), classify=classify)
    assert hand.run().raw is not None
    assert seen == [error]
    assert hand.steps.count("send") == 2
    assert hand.row.run.last_fault.kind is Kind.TRANSIENT
