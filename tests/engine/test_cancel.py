"""A run cancelled at any await leaves nothing behind. `bench/cancels.py` does it 300 times."""

from __future__ import annotations

import pytest

from tests.engine.cancels import cancelled_run, left_behind

pytestmark = pytest.mark.core


@pytest.mark.parametrize("seed", range(20))
def test_a_run_cancelled_at_a_random_await_leaves_nothing_behind(seed: int) -> None:
    result = cancelled_run(seed)
    assert not left_behind(result), result
