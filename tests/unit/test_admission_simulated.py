"""The limiter against a few simulated providers, shortened: floors well below what the whole command shows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench.admission import measure
from bench.admission.scale import Scale
from bench.admission.scenarios import BY_NAME


@pytest.mark.parametrize(
    ("name", "round_trips", "goodput", "rejected"),
    [
        ("cap-200", 60, 0.88, 0.02),
        ("cap-equal", 100, 0.9, 0.05),
        ("cap-alike", 100, 0.92, 0.05),
        ("cap-tiny", 200, 0.85, 0.06),
        ("rpm-headers", 60, 0.85, 0.01),
        ("rpm-nothing", 60, 0.85, 0.03),
        ("knee-thrash", 120, 0.75, 0.0),
        ("kv-reject", 120, 0.9, 0.03),
        ("errors-500", 60, 0.88, 0.03),
        ("random-429-headers", 60, 0.85, 0.03),
        ("random-429-1", 100, 0.8, 0.05),
    ],
)
def test_the_turnstile_comes_near_a_client_that_is_told_the_limits(
    name: str, round_trips: int, goodput: float, rejected: float
) -> None:
    scenario = replace(BY_NAME[name], horizon_s=BY_NAME[name].median_s * round_trips)
    best = measure.oracle(scenario, seed=1)
    result = measure.compare(scenario, measure.run(scenario, 1, "ours")[0], best)
    assert result.goodput >= goodput
    assert result.rejected <= rejected


def test_from_ten_to_a_limit_of_five_hundred_takes_less_than_ten_round_trips() -> None:
    scenario = replace(BY_NAME["cap-500"], horizon_s=60.0)
    best = measure.oracle(scenario, seed=2)
    result = measure.compare(scenario, measure.run(scenario, 2, "ours")[0], best)
    assert result.reach is not None
    assert result.reach <= 10


def test_a_limit_that_falls_while_few_happen_to_be_in_flight_is_not_taken_for_a_pace_for_long() -> None:
    scenario = BY_NAME["cap-steps"].scaled(Scale(faster=10, smaller=5), horizon_s=60.0)
    best = measure.oracle(scenario, seed=5)
    result = measure.compare(scenario, measure.run(scenario, 5, "ours")[0], best)
    assert result.goodput >= 0.85
