"""Advice on reports that nobody wrote down: each gain recomputed another way, silence below what is worth saying."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm import BatchProcessor, Cache, RateLimit
from cottonpalm.observers.advice.rules import advice_of, why_nothing
from cottonpalm.observers.advice.words import LIMITS, WAITS
from cottonpalm.observers.measures.reported import BatchUse, Counts, ModelUse, Money, Repeats, SizeClass
from cottonpalm.testing import ScriptedChain, virtual_run
from tests.engine.helpers import Probe
from tests.engine.test_report import report_of
from tests.report.made import made, moments

if TYPE_CHECKING:
    from cottonpalm.observers.report import Report

pytestmark = pytest.mark.core
WORTH = 0.05  # as the page says
SHARES = st.floats(0.0, 1.0)
ROWS = st.integers(100, 10**7)
WALL_S = st.floats(60.0, 10**6)


def by_topic(report: Report) -> dict[str, Any]:
    found = advice_of(report)
    assert len({each.topic for each in found}) == len(found), "nothing is said twice"
    for each in found:
        assert 0 < each.gain <= each.whole * 1.0001
        assert each.bars.then == pytest.approx(each.bars.now - each.gain, abs=1e-9)
    return {each.topic: each for each in found}


@given(st.sampled_from(sorted(LIMITS)), SHARES, WALL_S, st.floats(1.0, 100.0), st.floats(1.0, 100.0))
def test_twice_a_limit_saves_half_of_the_time_it_bound_unless_another_binds_sooner(
    state: str, share: float, wall_s: float, in_flight: float, limit: float
) -> None:
    course = moments(40, wall_s / 40, state=state, in_flight=in_flight, limit=limit)
    report = made(1000, wall_s, over_time=course, bound_s={state: share * wall_s})
    rates = ("tokens", "requests", "pace", "own requests", "own tokens")
    factor = min(2.0, max(1.0, limit / in_flight)) if state in rates else 2.0
    saved = share * wall_s * (1 - 1 / factor)
    found = by_topic(report)
    if saved / wall_s >= WORTH * 1.0001:
        assert found[f"bound by {state}"].gain == pytest.approx(saved)
    elif saved / wall_s < WORTH * 0.9999:
        assert found == {}


@given(st.sampled_from(sorted(WAITS)), SHARES, WALL_S)
def test_time_that_was_waited_is_gained_at_most(state: str, share: float, wall_s: float) -> None:
    found = by_topic(made(1000, wall_s, bound_s={state: share * wall_s}))
    if share >= WORTH * 1.0001:
        assert found[f"bound by {state}"].gain == pytest.approx(share * wall_s)
    elif share < WORTH * 0.9999:
        assert found == {}


@given(ROWS, SHARES, SHARES, st.floats(0.0001, 10**5))
def test_the_cache_saves_what_the_repeats_cost(rows: int, some: float, part: float, cost: float) -> None:
    repeats = Repeats(int(rows * some), part * cost)
    found = by_topic(made(rows, 600.0, cost_usd=cost, repeats=repeats))
    if repeats.rows and repeats.cost_usd / cost >= WORTH * 1.0001:
        assert found["repeats"].gain == pytest.approx(repeats.cost_usd)
        assert f"{repeats.rows:,} row" in found["repeats"].why
    elif repeats.rows and repeats.cost_usd and repeats.cost_usd / cost < WORTH * 0.9999:
        assert "repeats" not in found


@given(ROWS, SHARES, SHARES, st.floats(0.01, 10**5))
def test_the_lane_saves_half_of_what_could_go_there_from_a_dollar_on(
    rows: int, some: float, part: float, cost: float
) -> None:
    batch = BatchUse(int(rows * some), part * cost / 2)
    found = by_topic(made(rows, 600.0, cost_usd=cost, batch=batch))
    if batch.rows and batch.saves_usd >= 1.0 and part / 2 >= WORTH * 1.0001:
        assert found["batch lane"].gain == pytest.approx(part * cost / 2)
    elif batch.saves_usd < 1.0 or part / 2 < WORTH * 0.9999:
        assert found == {}


@given(st.lists(st.tuples(st.integers(0, 10**5), st.floats(0, 10**5), st.floats(0, 10**3)), max_size=10))
def test_long_rows_are_named_only_where_few_take_much_and_cost_what_is_above_their_border(
    classes: list[tuple[int, float, float]],
) -> None:
    sizes = tuple(
        SizeClass(2**at if at else 0, rows, seconds if rows else 0.0, cost if rows else 0.0)
        for at, (rows, seconds, cost) in enumerate(classes)
    )
    rows, cost = sum(size.rows for size in sizes), sum(size.cost_usd for size in sizes)
    found = by_topic(made(rows, 600.0, cost_usd=cost, sizes=sizes))
    if (advice := found.get("long rows")) is None:
        return
    fits = [
        at
        for at, size in enumerate(sizes)
        if size.tokens and 0 < sum(each.rows for each in sizes[at:]) <= rows / 10
    ]
    over = sizes[fits[0] :]
    of_money = sum(each.cost_usd for each in over) / cost
    of_time = sum(each.seconds for each in over) / sum(size.seconds for size in sizes)
    assert max(of_money, of_time) >= 0.4
    assert f"Rows of {over[0].tokens:,} tokens and more" in advice.why
    border = over[0].tokens
    assert advice.gain == pytest.approx(
        sum(each.cost_usd * (1 - border / (1.5 * each.tokens)) for each in over)
    )


@given(ROWS, SHARES, st.floats(0.001, 10**4), st.integers(1, 10**6))
def test_money_for_tries_without_an_answer_is_gained_whole(
    rows: int, part: float, cost: float, failed: int
) -> None:
    models = {"host/model": ModelUse(2 * failed, failed, 1, 1, cost)}
    found = by_topic(
        made(rows, 600.0, cost_usd=cost, by_model=models, money=Money(failed_tries_usd=part * cost))
    )
    if part >= WORTH * 1.0001:
        assert found["failed tries"].gain == pytest.approx(part * cost)
    elif part < WORTH * 0.9999:
        assert found == {}


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0.0, 10**5))
def test_a_run_in_which_nothing_stood_out_gets_no_advice_but_a_reason(
    ok: int, failed: int, wall_s: float
) -> None:
    report = made(ok, wall_s, counts=Counts(ok=ok, failed=failed))
    assert advice_of(report) == ()
    said = why_nothing(report)
    assert said.endswith(".")
    assert ("fewer than 100" in said) == (0 < ok + failed < 100)


@given(st.integers(0, 99), st.floats(0, 10**5), SHARES)
def test_of_few_rows_nothing_is_said_whatever_they_met(rows: int, wall_s: float, share: float) -> None:
    everything = dict.fromkeys([*LIMITS, *WAITS, "cpu", "tail"], share * wall_s)
    report = made(rows, wall_s, bound_s=everything, repeats=Repeats(rows, 10.0), batch=BatchUse(rows, 5.0))
    assert advice_of(report) == ()


@pytest.mark.parametrize("seed", range(4))
def test_of_random_runs_the_saving_of_a_cache_is_that_of_the_run_with_one(seed: int) -> None:
    """The same random rows without and with a cache: what is promised is what is saved."""
    chance = Random(seed)
    rows = [chance.randrange(chance.choice([20, 200, 2000])) for _ in range(600)]

    def run(**options: Any) -> tuple[Report, int]:
        chain = ScriptedChain(then=lambda row: row)
        processor = BatchProcessor(chain, concurrency=chance.randrange(1, 20), **options)

        async def main() -> Report:
            async with processor.astart(rows) as run:
                async for _ in run:
                    pass
                return run.report

        return virtual_run(main()), len(chain.rows)

    plain, asked = run()
    cached, asked_with = run(cache=Cache())
    assert plain.repeats.rows == asked - asked_with == len(rows) - len(set(rows))
    assert by_topic(plain)["repeats"].gain == asked - asked_with
    assert "repeats" not in by_topic(cached)


@pytest.mark.parametrize("seed", range(3))
def test_of_random_runs_with_a_ceiling_twice_as_much_is_as_fast_as_promised(seed: int) -> None:
    chance = Random(seed)
    rpm, delay = chance.randrange(60, 600), chance.uniform(0.1, 2.0)
    rows = range(4 * rpm + chance.randrange(200))
    slow, fast = (
        report_of(Probe(delay_s=delay), rows, rate_limit=RateLimit(requests_per_minute=times * rpm))
        for times in (1, 2)
    )
    advice = by_topic(slow)["bound by own requests"]
    assert advice.bars.then == pytest.approx(fast.wall_s, rel=0.15)


def test_a_run_bound_by_two_things_has_both_named_in_the_order_of_their_gains() -> None:
    for seed in range(50):
        chance = Random(seed)
        states = chance.sample([*LIMITS, *WAITS], 2)
        shares = [chance.uniform(0.2, 0.5) for _ in states]
        report = replace(
            made(1000, 600.0), bound_s={s: share * 600 for s, share in zip(states, shares, strict=True)}
        )
        gains = {s: share / (2 if s in LIMITS else 1) for s, share in zip(states, shares, strict=True)}
        wanted = [f"bound by {s}" for s in sorted(gains, key=lambda s: -gains[s])]
        assert list(by_topic(report)) == wanted
