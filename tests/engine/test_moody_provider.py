"""Whatever a provider went through: once it is well, a run goes on and ends, and hardly a row has failed."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.moody import Moody, run_against

SEEDS = range(10)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_goes_on_and_ends_once_its_provider_is_well(seed: int) -> None:
    provider = Moody(seed)
    went = run_against(provider)
    assert went.stopped is None
    counts = Counter(outcome.status for outcome in went.outcomes)
    assert counts["ok"] + counts["failed"] == provider.rows
    assert counts["failed"] <= 0.05 * provider.rows, (
        "tries are used up by what is the row's own, not by an outage"
    )
    assert provider.asked <= 1.5 * provider.rows + 300, "and nobody hammers it meanwhile"
    alone_s = provider.rows * provider.usual_s / 5
    assert went.took_s <= provider.well_s + 60 + alone_s, f"{provider.phases}"
