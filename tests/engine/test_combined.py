"""Techniques drawn at random and used together; `python bench/combined.py` draws as many as one likes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engine.combined import check, drawn

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("seed", range(100, 106))
def test_whatever_is_on_each_row_has_its_own_answer_and_the_sums_are_right(seed: int, tmp_path: Path) -> None:
    check(drawn(seed), tmp_path)
