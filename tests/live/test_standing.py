"""How far a run is, where its input is not read to its end."""

from __future__ import annotations

import re
from typing import Any

import pytest

from cottonpalm.cli.live import now_view, runs_view
from cottonpalm.cli.live.reading import Standing
from cottonpalm.protocols import Orders, RunInfo

pytestmark = pytest.mark.core


def standing(facts: dict[str, Any], *, holder: str | None = "vm 12 now") -> Standing:
    """A run with 244 rows done, 44 of them failed."""
    info = RunInfo(
        name="r",
        created=0.0,
        ok=200,
        failed=44,
        retryable=0,
        cost_pico=0,
        meta={"facts": facts},
        holder=holder,
    )
    return Standing(info, None, {"rows": 3, "total": None, "at": 0.0}, Orders(), True)


def drawn(each: Standing) -> list[float]:
    """The widths of the bar's parts, in per cent."""
    bar = runs_view.bar(each)
    return [float(width) for width in re.findall(r'class="share[^"]*"[^>]*width="([\d.]+)%', bar)]


def test_a_guess_of_how_many_rows_there_are_is_told_as_one() -> None:
    each = standing({"total": 2000, "exact": False})
    assert runs_view.counts_of(each) == "244 of about 2,000, 44 failed"
    said = now_view.verdict(each, now_view.glanced(each.info, None, "s.db"), "running", None)
    assert said == "12 % done: 244 of about 2,000 rows."
    assert "about 1,756</b> left" in now_view.parts_of(each, "s.db")["progress"]
    assert sum(drawn(each)) == pytest.approx(12.2)


def test_a_run_of_which_nobody_knows_how_far_it_is_has_no_full_bar() -> None:
    assert sum(drawn(standing({}))) == 0
    assert sum(drawn(standing({}, holder=None))) == pytest.approx(100)


def test_a_guess_that_was_too_low_is_not_passed() -> None:
    each = standing({"total": 100, "exact": False})
    assert runs_view.counts_of(each) == "244, 44 failed"
    assert sum(drawn(each)) <= 100
