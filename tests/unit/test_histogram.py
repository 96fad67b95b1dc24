"""The histogram and the timeline: right within their stated error, bounded in memory."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm.observers.measures.bounded import ERROR, LEAST, MOST, POINTS, Histogram, Timeline, in_buckets

values = st.lists(st.floats(LEAST, MOST), min_size=1, max_size=200)
shares = st.floats(0, 1)


def histogram_of(seen: list[float]) -> Histogram:
    histogram = Histogram()
    half = len(seen) // 2
    histogram.add(seen[:half])
    histogram.add(seen[half:])
    return histogram


@given(values, shares)
def test_a_quantile_is_within_its_error_of_the_exact_value_of_that_rank(
    seen: list[float], share: float
) -> None:
    exact = sorted(seen)[int(share * (len(seen) - 1))]
    assert histogram_of(seen).quantile(share) == pytest.approx(exact, rel=ERROR * 1.001)


@given(st.lists(st.floats(0, 1e300), max_size=300))
def test_whatever_it_counts_its_memory_is_bounded(seen: list[float]) -> None:
    histogram = histogram_of(seen)
    assert len(histogram) <= 1_730
    assert histogram.count == len(seen)


def test_the_whole_range_takes_the_buckets_it_says() -> None:
    histogram, value = Histogram(), LEAST
    while value < MOST:
        histogram.add([value])
        value *= 1.005
    assert 1_700 < len(histogram) <= 1_730


def test_zeros_and_nothing_are_counted_as_such() -> None:
    assert (Histogram().quantile(0.5), Histogram().mean) == (0.0, 0.0)
    zeros = histogram_of([0.0] * 9 + [5.0])
    assert zeros.quantile(0.5) == 0.0
    assert zeros.quantile(1.0) == pytest.approx(5.0, rel=ERROR)
    assert zeros.mean == 0.5
    assert histogram_of([-1.0]).quantile(0.5) == 0.0, "a clock that went back"


@given(st.lists(st.integers(0, 9)), st.sets(st.integers(0, 9)).map(sorted))
def test_each_value_is_in_the_bucket_of_the_least_bound_that_it_does_not_exceed(
    seen: list[int], bounds: list[int]
) -> None:
    places = Counter(bisect_left(bounds, value) for value in seen)
    assert in_buckets(seen, bounds) == [places[bucket] for bucket in range(len(bounds) + 1)]


@given(st.lists(st.tuples(st.floats(0, 1e7), st.integers(0, 5)), max_size=300))
def test_a_timeline_loses_nothing_and_stays_short(seen: list[tuple[float, int]]) -> None:
    timeline = Timeline()
    for at_s, value in seen:
        timeline.add(at_s, value)
    points = timeline.points()
    assert len(points) <= POINTS
    assert sum(point.total for point in points) == sum(value for _, value in seen)
    assert sum(point.samples for point in points) == len(seen)
    for point in points:
        inside = [value for at_s, value in seen if point.at_s <= at_s < point.at_s + point.width_s]
        assert point.samples == len(inside)


def test_the_last_stretch_of_a_timeline_ends_with_the_run() -> None:
    timeline = Timeline()
    timeline.add(0.05, 1)
    timeline.add(0.15, 1)
    assert timeline.points(0.175)[-1].width_s == pytest.approx(0.05)
    assert timeline.points()[-1].width_s == 0.125
