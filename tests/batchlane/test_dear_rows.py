"""A row that what is left of the budget does not cover keeps no other row out of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cottonpalm import Budget, RunStopped
from tests.batchlane.kit import batched, rows, simple

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.batch_provider import BatchProvider


@pytest.mark.parametrize("mode", ["batch", "auto"])
def test_the_others_go_out_in_batches_and_a_higher_budget_does_the_rest(
    server: BatchProvider, tmp_path: Path, mode: str
) -> None:
    asked = rows(12)
    for large in (0, 7):
        asked[large]["text"] += "word " * 20_000  # may cost twenty cents
    chain = simple(server, max_tokens=50)
    for _ in range(2):
        processor = batched(chain, server, tmp_path, budget=Budget(total=0.05), mode=mode)
        answers = processor.batch(asked, return_exceptions=True)
        left = [number for number, answer in enumerate(answers) if isinstance(answer, RunStopped)]
        assert left == [0, 7]
        assert processor.last_run is not None
        assert processor.last_run.stopped is not None
        assert processor.last_run.stopped.reason == "budget"
        assert len(server.bills) == 10
    lines = batched(chain, server, tmp_path, budget=Budget(total=5), mode=mode)
    lines.batch(asked, return_exceptions=True)  # the large rows' answers repeat them, and are cut
    assert (len(server.bills), server.paid_twice()) == (12, {})
