"""A whole run learns what an answer takes among few from the first answers that come, whatever came before them."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import Any

import httpx2
import pytest

from cottonpalm.testing import FlakyTransport
from tests.support.lean import asks, run_all

ROWS = 3_000


class Starting(FlakyTransport):
    """Without a limit; the first so many requests fail, as where it has just been started."""

    def __init__(self, failing: int) -> None:
        super().__init__(then=lambda request: request.extensions["says"])
        self.failing, self.asked, self.there, self.peak = failing, 0, 0, 0
        self._chance = Random(1)

    async def handle_async_request(self, request: Any) -> Any:
        self.asked += 1
        self.there += 1
        self.peak = max(self.peak, self.there)
        fails = self.asked <= self.failing
        request.extensions["says"] = 500 if fails else None
        try:
            await asyncio.sleep(0.05 if fails else 0.5 * self._chance.lognormvariate(0.0, 0.2))
        finally:
            self.there -= 1
        return await super().handle_async_request(request)


@pytest.mark.parametrize("failing", [0, 9, 16])
def test_whoever_fails_at_first_is_asked_by_as_many_as_it_takes_afterwards(failing: int) -> None:
    server = Starting(failing)
    chain = asks(httpx2.AsyncClient(transport=server), "sk-not-a-key")
    went = run_all(chain, [f"row {n}" for n in range(ROWS)])
    assert Counter(outcome.status for outcome in went.outcomes) == {"ok": ROWS}
    assert server.peak > 300, "and not by 40 for all of the run"
