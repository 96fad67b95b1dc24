"""The limiter on a few drawn worlds, shortened: floors below what `python -m bench.admission.drawn` shows."""

from __future__ import annotations

from statistics import mean

from bench.admission.drawn import one
from bench.admission.family import draw
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


def test_a_world_is_the_same_on_every_machine() -> None:
    world = draw(1007, most_rows=500)
    assert world.features == ("knee", "cap", "chance", "tail", "several")
    assert round(ideal(world).wall_s, 6) == 208.965989
