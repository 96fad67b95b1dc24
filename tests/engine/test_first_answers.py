"""A whole run learns what an answer takes among few from the first answers that come, whatever came before them."""

from __future__ import annotations

from collections import Counter

import httpx2
import pytest

from tests.support.crowded import Crowded
from tests.support.lean import asks, run_all

ROWS = 3_000


class Starting(Crowded):
    """Without a limit; the first so many requests fail, as where it has just been started."""

    def __init__(self, failing: int) -> None:
        super().__init__(answer_s=0.5)
        self.failing = failing

    def says(self) -> int | None:
        return 500 if self.asked <= self.failing else None


@pytest.mark.parametrize("failing", [0, 9, 16])
def test_whoever_fails_at_first_is_asked_by_as_many_as_it_takes_afterwards(failing: int) -> None:
    server = Starting(failing)
    chain = asks(httpx2.AsyncClient(transport=server), "sk-not-a-key")
    went = run_all(chain, [f"row {n}" for n in range(ROWS)])
    assert Counter(outcome.status for outcome in went.outcomes) == {"ok": ROWS}
    assert server.peak > 300, "and not by 40 for all of the run"
