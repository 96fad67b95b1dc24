"""Rows that stand out, rows by size, and rows that repeat another: one pass, bounded memory, equal to the plain way."""

from __future__ import annotations

import json
from collections import Counter
from hashlib import blake2b
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm.observers.kept import LIVES, Kept, after, packed, read
from cottonpalm.observers.measures.reported import Counts, Spread
from cottonpalm.observers.measures.rows_seen import PLACES, TOP, TYPES, Glance, RowsSeen
from cottonpalm.observers.measures.sizes_and_repeats import RepeatedRows, Sizes, number_of
from tests.report.made import made, moments

pytestmark = pytest.mark.core
ERROR = ("reask", "InvalidAnswer", "no such label")


def key(question: object) -> int:
    number = number_of(blake2b(str(question).encode(), digest_size=16).digest(), None)
    assert number is not None
    return number


def test_the_slowest_and_the_dearest_rows_are_those_of_a_full_sort() -> None:
    rng = Random(4)
    rows = [Glance(at, rng.random(), rng.randrange(10**6), 1, 1) for at in range(3000)]
    seen = RowsSeen().add(rows)
    assert seen.slowest == sorted(rows, key=lambda row: -row.seconds)[:TOP]
    assert seen.dearest == sorted(rows, key=lambda row: -(row.cost_pico or 0))[:TOP]
    assert (seen.ok, seen.failed, seen.tokens) == (3000, 0, 3000)
    assert seen.cost_usd == pytest.approx(sum(row.cost_pico or 0 for row in rows) / 10**12)


def test_failed_rows_are_counted_by_kind_with_the_first_row_of_the_commonest_type() -> None:
    other = ("reask", "ValueError", "another")
    errors = {3: other, 5: ERROR, 7: ERROR, 9: ("degrade", "BadRequestError", "too long")}
    seen = RowsSeen().add(Glance(at, 1.0, 5, 1, 2, errors.get(at)) for at in range(10))
    assert {kind: each.rows for kind, each in seen.kinds.items()} == {"reask": 3, "degrade": 1}
    assert seen.kinds["reask"].example.at == 5
    assert (seen.ok, seen.failed, seen.failed_at) == (6, 4, [3, 5, 7, 9])


def test_failures_are_placed_along_the_input() -> None:
    rows = [Glance(at, 1.0, 0, 1, 1, ERROR if 5000 <= at < 5100 else None) for at in range(20_000)]
    places = RowsSeen().add(rows).places()
    assert len(places) == PLACES
    assert [at for at, number in enumerate(places) if number] == [50]
    assert places[50] == 100


def test_a_cost_that_is_not_known_makes_the_sum_unknown() -> None:
    assert RowsSeen().add([Glance(0, 1.0, 5, 1, 1), Glance(1, 1.0, None, 1, 1)]).cost_usd is None
    assert RowsSeen().add([Glance(0, 1.0, 5, 1, 1), Glance(1, 1.0, None, 1, 0)]).cost_usd is not None


def test_types_of_errors_stay_bounded() -> None:
    rows = (Glance(at, 1.0, 0, 1, 1, ("reask", f"Error{at}", "x")) for at in range(10 * TYPES))
    kind = RowsSeen().add(rows).kinds["reask"]
    assert (kind.rows, len(kind.messages)) == (10 * TYPES, TYPES + 1)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 100), st.integers(0, 10**9)), max_size=50))
def test_classes_of_size_hold_every_row_once(rows: list[tuple[int, int, int]]) -> None:
    sizes = Sizes()
    for tokens, seconds, cost in rows:
        sizes.add(tokens, seconds, cost)
    classes = sizes.classes()
    assert sum(each.rows for each in classes) == len(rows)
    assert sum(each.seconds for each in classes) == sum(seconds for _, seconds, _ in rows)
    for at, each in enumerate(classes):
        here = [row for row in rows if each.tokens <= row[0] < max(1, 2 * each.tokens)]
        assert each.rows == len(here)
        assert at == 0 or classes[at - 1].tokens < each.tokens


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 1000)), max_size=200))
def test_repeats_are_all_rows_whose_question_was_asked_before(rows: list[tuple[int, int]]) -> None:
    repeated, seen = RepeatedRows(), set[int]()
    times = cost = 0
    for question, price in rows:
        repeated.add(key(question), price)
        if question in seen:
            times, cost = times + 1, cost + price
        seen.add(question)
    counted = repeated.counted()
    assert (counted.rows, counted.exact) == (times, True)
    assert counted.cost_usd == pytest.approx(cost / 10**12)


def test_rows_without_a_key_are_told_apart_by_themselves_and_those_that_cannot_be_are_left_out() -> None:
    rows = ["a", "b", 1, 1.5, ("a", 2), {"x": "a"}, {"x": "a", "y": 2}, None]
    numbers = [number_of(None, row) for row in rows]
    assert None not in numbers
    assert len(set(numbers)) == len(rows)
    assert numbers == [number_of(b"", row) for row in rows]
    assert number_of(None, {"x": ["a"]}) is None
    assert max(number for number in numbers if number is not None) > 2**60, "spread over all 64 bits"


def test_beyond_the_sample_repeats_are_estimated_from_a_fair_part_and_memory_stays_bounded() -> None:
    rng, repeated = Random(2), RepeatedRows(most=1000)
    asked = Counter(rng.randrange(40_000) for _ in range(100_000))
    for question, times in asked.items():
        for _ in range(times):
            repeated.add(key(question), 10**6)
    counted = repeated.counted()
    exact = 100_000 - len(asked)
    assert not counted.exact
    assert counted.rows == pytest.approx(exact, rel=0.1)
    assert counted.cost_usd == pytest.approx(exact * 1e-6, rel=0.1)
    assert len(repeated._seen) <= 1000


# -- what is kept with the run


def kept(rows: int = 5, began: float = 100.0) -> Kept:
    spread = Spread(3, 6.0, 2.0, 1, 2, 3, 3, 3.0, ((1.0, 1), (3.1622776601683795, 2)))
    report = made(
        rows, 60.0, row_latency_s=spread, waits_s={"permit": spread}, over_time=moments(4, 15.0, state="tail")
    )
    return Kept(report, began, began + 60, "interrupted")


def test_a_report_comes_back_from_json_as_it_was() -> None:
    there = kept()
    back = read(json.loads(json.dumps(packed(there))))
    assert back is not None
    assert (back.began, back.ended, back.reason, back.over) == (100.0, 160.0, "interrupted", True)
    assert back.report.counts == there.report.counts
    assert back.report.over_time == there.report.over_time
    assert back.report.row_latency_s.bars == ((1.0, 1), (3.16228, 2))


def test_what_a_later_version_adds_is_left_out_and_what_an_earlier_one_lacked_counts_as_nothing() -> None:
    data = json.loads(json.dumps(packed(kept())))
    data["version"], data["new"], data["report"]["counts"]["moons"] = 9, [1], 3
    del data["report"]["money"], data["report"]["over_time"], data["report"]["counts"]["retries"]
    data["report"]["counts"]["ok"] = "many"
    back = read(data)
    assert back is not None
    assert back.report.counts == Counts()
    assert back.report.over_time == ()


@pytest.mark.parametrize(
    "data", [None, 3, [], "x", {}, {"report": {}}, {"report": {"counts": {}}}, {"report": []}]
)
def test_what_is_no_report_is_none(data: object) -> None:
    assert read(data) is None


def test_lives_of_a_run_are_remembered_if_they_did_anything_and_not_without_end() -> None:
    now = kept(3, 900.0)
    assert after(None, now).lives == ()
    assert after(packed(kept(7, 10.0)), now).lives == ((10.0, 60.0, 7),)
    assert after(packed(kept(0, 10.0)), now).lives == ()
    for n in range(2 * LIVES):
        now = after(packed(now), kept(1, 1000.0 + n))
    assert len(now.lives) == LIVES
    assert len(json.dumps(packed(now))) < 30_000
