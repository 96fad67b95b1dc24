"""Runs of several lives, each with settings of its own; `python bench/lives.py` draws as many as one likes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engine.lives import KEY, check, drawn

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # of LangChain's own


@pytest.mark.parametrize("seed", range(107, 111))
def test_whatever_changes_between_two_lives_each_row_has_its_own_answer_and_the_sums_are_right(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    check(drawn(seed, heavy=False, postgres=False), tmp_path)
