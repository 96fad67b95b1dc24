"""Whole runs against a server that shares its speed and thrashes, on a virtual clock."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import Any

import httpx2

from cottonpalm.testing import FlakyTransport
from tests.support.lean import asks, run_all

ROWS = 300


class Sharing(FlakyTransport):
    """Does `most` at once, each in `alone_s` in the median; more share its speed, and disturb each other."""

    def __init__(self, most: int, alone_s: float) -> None:
        super().__init__()
        self.most, self.alone_s, self.there, self.asked = most, alone_s, 0, 0
        self._chance = Random(1)

    def _each_s(self) -> float:
        """How long the median request would take with as many as now."""
        more = max(0.0, self.there / self.most - 1)
        return self.alone_s * (1 + more) * (1 + 0.3 * more)

    async def handle_async_request(self, request: Any) -> Any:
        self.asked += 1
        self.there += 1
        left = self._chance.lognormvariate(0.0, 0.6)
        try:
            while left > 1e-9:
                each_s = self._each_s()
                seconds = min(left * each_s, 0.1 * self.alone_s)
                await asyncio.sleep(seconds)
                left -= seconds / each_s
        finally:
            self.there -= 1
        return await super().handle_async_request(request)


def test_a_server_that_was_flooded_before_its_first_answer_drains_and_is_used_as_it_likes() -> None:
    server = Sharing(8, 2.0)
    chain = asks(httpx2.AsyncClient(transport=server), "sk-not-a-key")
    went = run_all(chain, [f"row {n}" for n in range(ROWS)])
    assert went.stopped is None
    assert Counter(outcome.status for outcome in went.outcomes) == {"ok": ROWS}
    assert server.asked == ROWS, "and nobody asks twice"
    assert went.took_s < 400, "a flood that is kept full takes 520"
