"""How many rows may be on their way to workers."""

from __future__ import annotations

import pytest

from cottonpalm.engine.backpressure import READY, Backpressure
from tests.request.kit import a_run

pytestmark = pytest.mark.core


def workers(cap: int | None, kept: int | None, wants: int = 100) -> Backpressure:
    """Of a run whose workers want so many rows together."""
    made = Backpressure(a_run(), cap, ordered=False, whole=False, kept=kept)
    made.workers = lambda: wants
    return made


def most_out(admission: Backpressure) -> int:
    return next(active for active in range(1_000) if not admission.want(active))


def test_workers_are_sent_as_many_rows_as_they_want() -> None:
    assert most_out(workers(None, None, wants=37)) == 37


def test_under_a_cap_that_workers_keep_themselves_as_many_rows_again_lie_ready_there() -> None:
    """A row's way to a worker takes longer than a short answer."""
    assert most_out(workers(16, 16)) == READY * 16
    assert most_out(workers(16, 16, wants=20)) == 20


def test_a_cap_that_workers_know_nothing_of_is_kept_to_the_row() -> None:
    told_later = workers(16, 16)
    told_later.cap = 5
    assert most_out(told_later) == 5
    assert most_out(workers(4, 16)) == most_out(workers(4, None)) == 4


def test_workers_of_a_run_that_is_held_are_sent_nothing() -> None:
    held = workers(None, None)
    held.held = True
    assert not held.want(0)
