"""kill -9 at any moment, then the same command: nothing lost, nothing doubled, nothing stored paid again."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.cli.killing import Killed

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.waits


@pytest.mark.timeout(300)
def test_five_kills_lose_nothing_double_nothing_and_repay_nothing_stored(tmp_path: Path) -> None:
    report = Killed(tmp_path, rows=500, kills=5, rng=Random(5)).run()
    assert report.kills == 5
    assert report.clean, str(report)


@pytest.mark.timeout(300)
def test_kills_in_a_second_pass_leave_no_row_as_it_was_before_it(tmp_path: Path) -> None:
    report = Killed(tmp_path, rows=120, kills=2, rng=Random(7), again=True).run()
    assert report.kills >= 1
    assert report.clean, str(report)
