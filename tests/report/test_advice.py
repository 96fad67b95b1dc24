"""What to change: each sentence with its numbers, and nothing where there is nothing to say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cottonpalm.observers.advice.rules import advice_of, why_nothing
from cottonpalm.observers.measures.reported import (
    BatchUse,
    Counts,
    ModelUse,
    Money,
    Repeats,
    SizeClass,
    Spread,
)
from tests.report.made import made, moments

if TYPE_CHECKING:
    from cottonpalm.observers.advice.advice import Advice
    from cottonpalm.observers.report import Report

pytestmark = pytest.mark.core


def only(report: Report) -> Advice:
    [advice] = advice_of(report)
    return advice


def test_twice_a_quota_that_bound_most_of_the_run_saves_half_of_that_time() -> None:
    course = moments(60, 80.0, tokens=666_667, state="tokens", in_flight=42, limit=96)
    advice = only(made(48_000, 4800.0, over_time=course, bound_s={"tokens": 0.92 * 4800}))
    assert advice.gain == pytest.approx(0.46 * 4800)
    assert advice.bars.then == pytest.approx(0.54 * 4800)
    assert advice.gained() == "-37 min"
    assert "bound 92 % of the run; twice as much would leave 43 min (42 of 96 were in flight)" in advice.why
    assert "about 500,000 tokens a minute" in advice.why
    assert not advice.exact


def test_a_limit_in_flight_just_above_takes_the_gain_of_a_higher_quota_away() -> None:
    course = moments(60, 10.0, state="requests", in_flight=80, limit=100)
    advice = only(made(over_time=course, bound_s={"requests": 600.0}))
    assert advice.gain == pytest.approx(600 * (1 - 80 / 100))
    assert "the limit of 100 in flight binds" in advice.why
    full = moments(60, 10.0, state="requests", in_flight=100, limit=100)
    assert advice_of(made(over_time=full, bound_s={"requests": 600.0})) == ()


@pytest.mark.parametrize(
    ("state", "what", "how"),
    [
        ("own requests", "Raise your rpm ceiling.", "--rpm"),
        ("own tokens", "Raise your tpm ceiling.", "--tpm"),
        ("maximum", "Allow more requests in flight.", "--max-concurrency"),
        ("cap", "Allow more rows at once.", "--concurrency"),
        ("concurrency", "Add an endpoint.", "--base-url"),
        ("pace", "Ask for a higher request rate.", "--base-url"),
        ("cpu", "Use a second process.", "--executor processes"),
    ],
)
def test_each_limit_is_loosened_in_its_own_way(state: str, what: str, how: str) -> None:
    advice = only(made(bound_s={state: 300.0}))
    assert (advice.what, advice.gain, advice.whole) == (what, 150.0, 600.0)
    assert how in advice.how


def test_a_chain_that_asks_no_model_is_not_told_to_add_endpoints() -> None:
    assert advice_of(made(bound_s={"concurrency": 300.0}, by_model={})) == ()


@pytest.mark.parametrize("state", ["reader", "source", "store", "budget", "pause", "down"])
def test_time_that_was_waited_for_somebody_is_gained_at_most(state: str) -> None:
    advice = only(made(bound_s={state: 120.0}))
    assert (advice.gain, advice.bars.then) == (120.0, 480.0)
    assert "2 min 00 s (20 % of the run): at most that can be gained" in advice.why


@pytest.mark.parametrize("state", ["held", "probe", "", "something of a later version"])
def test_nothing_is_said_of_what_nobody_can_change(state: str) -> None:
    assert advice_of(made(bound_s={state: 600.0})) == ()


def test_a_long_end_is_answered_by_starting_long_rows_first() -> None:
    spread = Spread(1000, 5000, 5, 4.0, 9, 10, 20, 150.0)
    advice = only(made(row_latency_s=spread, bound_s={"tail": 140.0}))
    assert (advice.what, advice.gain) == ("Start long rows first.", 136.0)
    assert "the slowest row took 2 min 30 s, the median one 4.0 s" in advice.why


def test_equal_rows_would_have_cost_nothing_with_a_cache() -> None:
    advice = only(made(48_000, cost_usd=25.0, repeats=Repeats(5760, 3.10)))
    assert (advice.what, advice.how, advice.exact) == ("Turn the cache on.", "`--cache`", True)
    assert (
        advice.why == "5,760 rows (12 %) asked what another row had asked already: their answers cost $3.10."
    )
    assert advice.gained() == "-$3.10"
    assert advice.bars.then == pytest.approx(21.90)
    assert not only(made(48_000, repeats=Repeats(5760, 3.10, exact=False))).exact


def test_equal_rows_are_told_as_rows_where_no_price_is_known_and_a_cache_that_is_on_is_not_turned_on() -> (
    None
):
    free = only(made(cost_usd=None, repeats=Repeats(120, 0.0)))
    assert (free.unit, free.gain, free.whole) == ("rows", 120, 1000)
    cached = only(made(counts=Counts(ok=1000, cached=300, cache_misses=700), repeats=Repeats(120, 3.0)))
    assert cached.what == "Let the cache hold more answers."


def test_a_few_long_rows_that_take_most_of_the_money_are_named_with_their_share() -> None:
    sizes = (SizeClass(512, 960, 1950.0, 3.9), SizeClass(8192, 40, 3050.0, 6.1))
    advice = only(made(sizes=sizes))
    assert "Rows of 8,192 tokens and more are 4 % of the rows" in advice.why
    assert "they take 61 % of the rows' time and 61 % of the money" in advice.why
    assert advice.gain == pytest.approx(
        6.1 / 3
    )  # from 1.5 times the border, the middle of the class, down to it
    assert advice_of(made(sizes=(SizeClass(512, 500, 900.0, 3.0), SizeClass(1024, 500, 1900.0, 7.0)))) == ()


def test_money_for_tries_without_an_answer_is_named() -> None:
    use = {"host/model": ModelUse(1100, 100, 1, 1, 10.0)}
    advice = only(made(by_model=use, money=Money(ok_usd=10.0, failed_tries_usd=0.9)))
    assert advice.why == "100 tries that brought no answer cost $0.90 (9 % of the money)."


def test_rows_that_ran_live_could_have_gone_through_a_batch_for_half_the_price() -> None:
    advice = only(made(1000, cost_usd=10.0, batch=BatchUse(380, 4.20)))
    assert advice.what == "Send rows through the batch lane."
    assert advice.why == (
        "380 rows (38 %) asked a model whose provider has a Batch API: half the price, answered within a day."
    )
    assert (advice.gained(), advice.bars.then) == ("-$4.20", pytest.approx(5.80))
    assert "--mode batch" in advice.how
    assert advice_of(made(1000, cost_usd=1.0, batch=BatchUse(1000, 0.5))) == (), "not for half a dollar"
    assert advice_of(made(1000, cost_usd=100.0, batch=BatchUse(10, 2.0))) == (), "not for two per cent"


def test_failed_rows_are_advised_by_kind_after_time_and_money_and_only_from_one_in_a_hundred_on() -> None:
    errors = {"reask": {"InvalidAnswer": 30}, "degrade": {"BadRequestError": 15}, "fail_row": {"X": 9}}
    found = advice_of(made(errors=errors, counts=Counts(ok=946, failed=54), bound_s={"reader": 60.0}))
    assert [advice.topic for advice in found] == ["bound by reader", "failed: reask", "failed: degrade"]
    assert found[1].why == "30 of 1,000 rows (3 %) got an answer that does not fit."
    assert "(30 of 1,000 rows, counted; " in found[1].text()
    assert found[2].why == "15 of 1,000 rows (2 %) had their answer cut, or are too long for the model."
    assert "--max-tokens" in found[2].how, "--max-output-tokens is refused without a budget"


def test_the_largest_gain_comes_first_whatever_its_unit() -> None:
    found = advice_of(made(bound_s={"reader": 60.0}, repeats=Repeats(300, 3.0), wall_s=600.0))
    assert [round(advice.share, 2) for advice in found] == [0.3, 0.1]


@pytest.mark.parametrize(
    ("report", "why"),
    [
        (made(99, 600.0, bound_s={"tokens": 600.0}), "99 rows of this run: fewer than 100 tell too little."),
        (made(1000, 59.0, bound_s={"tokens": 59.0}), "The run took less than a minute"),
        (
            made(1000, 600.0, bound_s={"reader": 29.0, "store": 10.0}),
            "No single change would save 5 % of the time",
        ),
        (made(1000, 600.0, repeats=Repeats(40, 0.4)), "No single change"),
        (made(0, 0.0), "No row was asked."),
    ],
)
def test_nothing_is_said_where_nothing_is_to_be_said_and_that_is_explained(report: Report, why: str) -> None:
    assert advice_of(report) == ()
    assert why_nothing(report).startswith(why)


def test_advice_is_one_paragraph_for_a_terminal() -> None:
    advice = only(made(48_000, cost_usd=25.0, repeats=Repeats(5760, 3.10)))
    assert advice.text().endswith("cost $3.10. (-$3.10 of $25.00, counted; `--cache`)")
