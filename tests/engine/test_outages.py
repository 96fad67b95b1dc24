"""Outages drawn at random fail no row; `python bench/outages.py` draws as many as one likes."""

from __future__ import annotations

import pytest

from tests.engine.outages import drawn, drawn_together, went, went_together


@pytest.mark.parametrize("seed", range(200, 208))
def test_whatever_goes_down_and_comes_back_no_row_fails_and_none_is_asked_twice(seed: int) -> None:
    how = went(drawn(seed))
    assert (how.failed, how.wrong, how.twice, how.stopped) == (0, 0, 0, "")


@pytest.mark.parametrize("seed", [22, 31, 42, 46])
def test_several_endpoints_that_go_down_together_fail_no_row(seed: int) -> None:
    how = went_together(drawn_together(seed))
    assert (how.failed, how.wrong, how.twice, how.stopped) == (0, 0, 0, "")
