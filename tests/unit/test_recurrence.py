"""Rejections that come back at the same number in flight."""

from __future__ import annotations

import pytest

from cottonpalm.request.limiter.rules.recurrence import Recurrence

pytestmark = pytest.mark.core


def test_four_rejections_at_one_number_say_that_it_has_fallen_and_then_it_takes_four_new_ones() -> None:
    recurrence = Recurrence()
    assert [recurrence.rejected(ordinal) for ordinal in (34, 35, 36, 34)] == [False, False, False, True]
    assert [recurrence.rejected(34) for _ in range(4)] == [False, False, False, True]


def test_rejections_at_numbers_that_scatter_say_nothing() -> None:
    recurrence = Recurrence()
    assert not any(recurrence.rejected(ordinal) for ordinal in (34, 28, 41, 33, 25, 38) * 10)
