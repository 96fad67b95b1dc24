"""Rows a second as they are drawn and told: over as long as it takes for a rate to mean something."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm.observers.measures.rates import rates, widths, window_s
from cottonpalm.observers.measures.reported import Moment
from tests.report.drawn import Page
from tests.report.made import made

pytestmark = pytest.mark.core


def course(rows: list[int], width_s: float, last_s: float) -> object:
    """A report of moments in which so many rows ended, the last one cut short by the end of the run."""
    lasts = [width_s] * (len(rows) - 1) + [last_s]
    moments = tuple(
        Moment(n * width_s, number / lasting, 10, 5)
        for n, (number, lasting) in enumerate(zip(rows, lasts, strict=True))
    )
    return made(sum(rows), width_s * (len(rows) - 1) + last_s, over_time=moments)


def test_a_last_moment_of_a_few_milliseconds_is_no_thousand_rows_a_second() -> None:
    report = course([5, 5, 5, 5, 5], 1.0, 0.005)
    assert report.over_time[-1].rows_per_s == 1000
    assert max(rates(report)) < 10
    page = Page(report.to_html())
    assert "1,000" not in page.section("Over time").said
    assert "1,000" not in report.text()


def test_moments_in_which_many_rows_end_are_drawn_as_they_were() -> None:
    report = course([40, 0, 20, 100, 40], 2.0, 2.0)
    assert rates(report) == [20, 0, 10, 50, 20]


def test_where_few_rows_end_in_each_moment_a_rate_is_counted_over_several_and_says_so() -> None:
    report = course([1, 0, 0, 1, 1, 0, 0, 1, 0, 1] * 10, 0.125, 0.125)
    assert window_s(report) == pytest.approx(10 / 4)
    assert 2.8 <= min(rates(report)) <= max(rates(report)) <= 4.8
    assert "each point is 0.1 s, a rate is over 2.5 s" in Page(report.to_html()).section("Over time").said


def test_a_run_of_few_rows_has_a_mean_and_no_line() -> None:
    report = course([0, 0, 0, 1, 3], 1.0, 0.1)
    assert window_s(report) is None
    section = Page(report.to_html()).section("Over time")
    assert "Too few rows for a line." in section.said
    assert "0.98 mean" in section.said
    assert "most" not in section.said


@given(st.lists(st.integers(0, 50), min_size=1, max_size=120), st.floats(0.001, 1.0))
def test_no_rate_is_above_what_ended_in_its_window_nor_below_nothing(rows: list[int], last_s: float) -> None:
    report = course(rows, 1.0, last_s)
    found = rates(report)
    assert len(found) == len(rows) == len(widths(report))
    assert all(rate >= 0 for rate in found)
    if over_s := window_s(report):
        assert all(rate * over_s <= sum(rows) + 1e-6 for rate in found)
