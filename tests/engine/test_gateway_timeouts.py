"""Whole runs against a server behind a gateway that waits only so long for it, on a virtual clock."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import Any

import httpx2
import pytest

from cottonpalm.testing import FlakyTransport
from tests.support.lean import asks, run_all

ROWS = 300


class Impatient(FlakyTransport):
    """Answers `SLOTS` at once, the others in line; who waits for `PATIENCE_S` gets this status from the gateway."""

    SLOTS, ANSWER_S, PATIENCE_S = 4, 2.0, 6.0

    def __init__(self, status: int) -> None:
        super().__init__(then=lambda request: request.extensions["says"])
        self.status, self.gave_up = status, 0
        self._slots = asyncio.Semaphore(self.SLOTS)
        self._chance = Random(1)

    async def handle_async_request(self, request: Any) -> Any:
        request.extensions["says"] = None
        try:
            async with asyncio.timeout(self.PATIENCE_S):
                await self._slots.acquire()
        except TimeoutError:
            self.gave_up += 1
            request.extensions["says"] = self.status
            return await super().handle_async_request(request)
        try:
            await asyncio.sleep(self.ANSWER_S * self._chance.lognormvariate(0.0, 0.2))
        finally:
            self._slots.release()
        return await super().handle_async_request(request)


@pytest.mark.parametrize("status", [408, 504, 524])
def test_a_gateway_that_gives_up_tells_of_a_full_server_as_our_own_timeout_does(status: int) -> None:
    server = Impatient(status)
    chain = asks(httpx2.AsyncClient(transport=server), "sk-not-a-key")
    went = run_all(chain, [f"row {n}" for n in range(ROWS)])
    assert went.stopped is None
    assert Counter(outcome.status for outcome in went.outcomes) == {"ok": ROWS}
    assert server.gave_up < ROWS, "and hardly more than were sent before the first one was known"
