"""Shares, money and the marks of axes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm.observers.words import numbers as n
from cottonpalm.observers.words.formatting import money
from cottonpalm.types import pico
from tests.report.made import made, moments

pytestmark = pytest.mark.core


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (0.86, "86 %"),
        (0.004, "0.4 %"),
        (0.991, "99.1 %"),
        (1e-05, "< 0.1 %"),
        (0.99999, "> 99.9 %"),
        (1.7, "170 %"),
        (0.01, "1 %"),
        (751.9, "75,190 %"),
    ],
)
def test_percent_has_no_digits_but_at_both_ends_and_says_0_and_100_only_where_that_is_exact(
    share: float, said: str
) -> None:
    assert n.percent(share) == said


@pytest.mark.parametrize(
    ("dollars", "said"),
    [
        (0, "$0"),
        (20.52, "$20.52"),
        (0.41, "$0.41"),
        (0.0312, "$0.0312"),
        (0.00043, "$0.00043"),
        (1234.5, "$1,234.50"),
        (1.2e-06, "$0.0000012"),
        (1.0, "$1.00"),
        (0.5, "$0.50"),
    ],
)
def test_money_keeps_two_digits_that_count_and_the_cents(dollars: float, said: str) -> None:
    assert n.money_usd(dollars) == said


@pytest.mark.parametrize(
    ("dollars", "said"),
    [(0, "$0"), (12.345, "$12.35"), (0.0123, "$0.0123"), (0.000012, "$0.000012"), (3.1e-8, "$0.00000003")],
)
def test_no_amount_on_a_terminal_is_shown_as_nothing_that_is_something(dollars: float, said: str) -> None:
    assert money(pico(dollars)) == said


@pytest.mark.parametrize(
    ("value", "said"), [(0.44, "0.44"), (3.14, "3.1"), (18.2, "18"), (1240, "1,240"), (0, "0")]
)
def test_seconds_in_a_table_have_two_digits(value: float, said: str) -> None:
    assert n.two(value) == said


@given(st.floats(1e-7, 99_999))
def test_seconds_in_a_narrow_column_have_at_most_six_characters(value: float) -> None:
    assert len(n.brief(value)) <= (5 if value < 9_999 else 6)


@given(st.floats(1e-6, 1e9), st.integers(3, 6))
def test_an_axis_has_few_round_marks_below_its_top(top: float, most: int) -> None:
    marks = n.linear(top, most)
    assert 1 <= len(marks) <= most
    assert all(0 < mark.value <= top * 1.000001 for mark in marks)
    assert len({mark.label for mark in marks}) == len(marks)


@given(st.floats(0.5, 1e7))
def test_an_axis_of_time_begins_at_0_and_names_its_unit_once(end_s: float) -> None:
    marks = n.times(end_s)
    assert marks[0] == (0.0, "0")
    assert len(marks) <= 9
    assert all(mark.value <= end_s * 1.000001 for mark in marks)
    assert sum(" " in mark.label for mark in marks) == (len(marks) > 1)


def test_a_logarithmic_axis_is_marked_at_1_and_3() -> None:
    assert [mark.label for mark in n.logarithmic(0.09, 31)] == [
        "0.1 s",
        "0.3 s",
        "1 s",
        "3 s",
        "10 s",
        "30 s",
    ]
    assert [mark.label for mark in n.logarithmic(0.0009, 110)] == [
        "1 ms",
        "10 ms",
        "0.1 s",
        "1 s",
        "10 s",
        "100 s",
    ]
    assert len(n.logarithmic(1e-6, 1e6)) <= 8


def test_the_lines_of_what_changed_keep_one_time_where_parts_of_it_were_not_looked_at() -> None:
    seen = [*moments(3, 1.0, in_flight=4, limit=8), *moments(3, 1.0, in_flight=8, limit=8)]
    seen[1] = replace(seen[1], in_flight=None, limit=None)
    seen = [replace(each, at_s=float(at)) for at, each in enumerate(seen)]
    found = made(rows=6, wall_s=6.0, over_time=tuple(seen)).text().splitlines()
    marks = {line[:11].rstrip(): line[11:17] for line in found}
    assert (marks["in flight"], marks["limit"]) == ("▄ ▄███", "█ ████")
    assert " " not in marks["rows/s"]
