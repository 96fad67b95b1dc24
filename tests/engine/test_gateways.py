"""Whole runs against a full server behind a gateway, which tells it by a status of its own, on a virtual clock."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import Any

import httpx2
import pytest

from cottonpalm.testing import FlakyTransport
from tests.support.crowded import Crowded
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


class Small(Crowded):
    """A server with so many places behind a gateway that says 502 for all others."""

    PLACES = 32

    def __init__(self) -> None:
        super().__init__(answer_s=0.4)
        self.dropped = 0

    def says(self) -> int | None:
        full = self.there > self.PLACES
        self.dropped += full
        return 502 if full else None


def test_a_gateway_whose_server_drops_what_it_has_no_place_for_is_kept_just_below_that() -> None:
    server = Small()
    chain = asks(httpx2.AsyncClient(transport=server), "sk-not-a-key")
    went = run_all(chain, [f"row {n}" for n in range(4 * ROWS)])
    assert Counter(outcome.status for outcome in went.outcomes) == {"ok": 4 * ROWS}
    assert server.dropped < ROWS / 4
