"""The simulator's providers over real HTTP, for seconds: `python -m bench.admission.http` is the long form."""

from __future__ import annotations

import itertools

import pytest
from bench.admission.drawn_http import CLIENTS
from bench.admission.drawn_http import over_http as drawn_over_http
from bench.admission.driven import Outcome, over_http
from bench.admission.scaled import BY_NAME
from bench.admission.small_worlds import fits, small
from bench.admission.virtual import ideal

pytestmark = pytest.mark.waits

WAITED = 0.03  # of the time, for a core; these worlds are ten times as quick as life, so a little matters


def hardly_rejected(found: Outcome) -> bool:
    return found.rejected <= 0.25 * found.accepted + 5


@pytest.mark.parametrize(("name", "most"), [("cap-200", 40), ("rpm-headers", 500)])
def test_a_provider_over_http_is_used_and_hardly_rejects_anything(name: str, most: int) -> None:
    for _ in range(6):
        found = over_http(BY_NAME[name], "BatchProcessor", 1, horizon_s=3.0)
        if hardly_rejected(found) or found.waited < WAITED:
            break  # else others had the CPU: who waits for a core hears of a rejection late
    assert found.accepted > 10
    assert found.accepted_peak <= most
    assert hardly_rejected(found)


@pytest.mark.parametrize("client", list(CLIENTS))
def test_a_drawn_world_is_met_over_http_as_in_the_simulator(client: str) -> None:
    """Its score is left to the bench: here others may have the CPU."""
    seed = next(filter(fits, itertools.count(91_140)))
    world = small(seed)
    met = drawn_over_http(world, client, ideal(world).wall_s)
    assert met.good == world.rows
    assert met.score > 0.1
