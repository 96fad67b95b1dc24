"""The limiter on a few drawn worlds, shortened: floors below what `python -m bench.admission.drawn` shows."""

from __future__ import annotations

from dataclasses import replace
from statistics import mean

import pytest
from bench.admission.ablation import constants
from bench.admission.drawn import one
from bench.admission.family import draw
from bench.admission.measure import compare, oracle, run
from bench.admission.scenarios import BY_NAME
from bench.admission.virtual import ideal

SEEDS = (302, 303, 304, 307, 315, 316, 319, 331)


def test_the_limiter_comes_near_an_oracle_on_drawn_worlds() -> None:
    seen = []
    for seed in SEEDS:
        world = draw(seed, most_rows=800)
        seen.append(one("ours", world, ideal(world).wall_s))
    assert all(each.ended for each in seen)
    assert mean(each.score for each in seen) >= 0.75
    assert mean(each.rejected for each in seen) <= 0.12


@pytest.mark.parametrize(("share", "score"), [(0.05, 0.85), (0.1, 0.8), (0.15, 0.65)])
def test_rejections_at_random_are_not_taken_for_a_limit(share: float, score: float) -> None:
    """The same worlds, where so many are rejected whatever is sent."""
    seen = []
    for seed in SEEDS:
        world = replace(draw(seed, most_rows=1_500), chance_429=share)
        seen.append(one("ours", world, ideal(world).wall_s))
    assert mean(each.score for each in seen) >= score
    assert mean(each.rejected for each in seen) <= 2 * share + 0.1


def test_a_new_constant_replaces_another() -> None:
    """Each is one more that may fit only the worlds that it was tried on."""
    assert len(constants()) <= 25, sorted(constants())


def test_a_world_is_the_same_on_every_machine() -> None:
    world = draw(1007, most_rows=500)
    assert world.features == ("knee", "cap", "chance", "tail", "several")
    assert round(ideal(world).wall_s, 6) == 208.965989


@pytest.mark.parametrize(
    ("name", "seconds", "seed", "goodput", "rejected"),
    [
        ("cap-200", 150, 0, 0.9, 0.06),  # answers that differ much are no server that slows down
        ("window-headers", 70, 0, 0.85, 0.01),  # not all at once, when all of a quota is back
        ("rpm-small-burst", 200, 1, 0.95, 0.12),  # what a rate that is too high has rejected is not chance
        ("random-429-headers", 100, 0, 0.9, 0.03),  # a quota that is left explains no rejection
    ],
)
def test_a_named_provider_is_met_as_it_is(
    name: str, seconds: float, seed: int, goodput: float, rejected: float
) -> None:
    scenario = replace(BY_NAME[name], horizon_s=seconds)
    result = compare(scenario, run(scenario, seed, "ours")[0], oracle(scenario, seed))
    assert result.goodput >= goodput
    assert result.rejected <= rejected
