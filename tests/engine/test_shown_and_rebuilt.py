"""Two parameters that change no answer: what is shown meanwhile, and what a stored answer comes back as."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.runnables import RunnableLambda
from pydantic import BaseModel

from cottonpalm import BatchProcessor, Budget

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.core


class Verdict(BaseModel):
    good: bool


CLASSES = {"verdict": Verdict}


def test_a_class_that_the_chain_does_not_show_comes_back_by_output_type(tmp_path: Path) -> None:
    chain: Any = RunnableLambda(lambda name: CLASSES[name](good=True))
    for _ in range(2):
        processor = BatchProcessor(chain, store=tmp_path / "s.db", run="r", output_type=Verdict)
        assert processor.batch(["verdict"]) == [Verdict(good=True)]
    assert processor.last_run is not None
    assert processor.last_run.stats.stored == 1


def test_progress_goes_to_standard_error(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    chain: Any = RunnableLambda(str.upper)
    for progress in (False, True):
        assert BatchProcessor(chain, progress=progress).batch(["a"]) == ["A"]
        out, err = capsys.readouterr()
        assert out == ""
        assert ("rows" in err or "of 1" in err) == progress


def test_progress_holds_the_money_against_the_budget_as_it_is_now(
    capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    budget = Budget(total=0.5)
    chain: Any = RunnableLambda(str.upper)
    processor = BatchProcessor(chain, progress=True, budget=budget)
    for dollars, shown in ((0.5, "$0 of $0.50"), (0.25, "$0 of $0.25")):
        budget.total = dollars
        processor.batch(["a"])
        assert shown in capsys.readouterr().err
