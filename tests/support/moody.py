"""A provider whose moods change for a while and which then is well for good, on a virtual clock."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any, Final, NamedTuple

import httpx2

from cottonpalm import clock
from cottonpalm.testing import FlakyTransport, Flaw
from tests.support.lean import Went, asks, run_all

MOODS: Final = (
    "well", "well", "slow", "full", "full", "busy", "rejects", "rejects, names a wait", "rejects some", "overloaded",
    "broken", "hangs", "some hang", "drops",
)  # fmt: skip
STATUSES: Final = {"overloaded": (503, 529), "broken": (500, 502)}
ROUND_TRIP_S: Final = 0.02
NEVER_S: Final = 1e6


class Phase(NamedTuple):
    """One mood, until then.

    Attributes:
        fits: in flight, where it is full; a second, where it is busy.
        share: of the requests, that hang or are rejected.
        says: how it rejects.
    """

    until_s: float
    mood: str
    fits: int
    share: float
    says: Any


class Moody(FlakyTransport):
    """Its moods follow from the seed.

    Attributes:
        well_s: from then on it has no limit any more, and answers in `usual_s`.
        rows: of a run against it.
        timeout_s: for each of its requests: ten times the usual.
        asked: requests so far.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(then=lambda request: request.extensions["says"])
        self.chance = chance = Random(seed)
        self.usual_s, self._sigma = chance.choice([0.5, 2.0, 6.0]), chance.choice([0.1, 0.6])
        self.well_s, self.rows = chance.choice([10.0, 30.0, 90.0]), chance.choice([300, 1_000])
        self.timeout_s = 10 * self.usual_s
        self.asked, self._there = 0, 0
        self._level, self._level_s = 1.0, 0.0
        self.phases, end_s = list[Phase](), 0.0
        while end_s < self.well_s:
            end_s = min(self.well_s, end_s + 0.2 + chance.expovariate(1 / 15))
            self.phases.append(self._phase(end_s, chance.choice(MOODS)))

    def _phase(self, until_s: float, mood: str) -> Phase:
        chance = self.chance
        named = {"retry-after": str(chance.choice([1, 2, 10]))}
        rejects = (429, named) if mood == "rejects, names a wait" or chance.random() < 0.3 else 429
        says = chance.choice(STATUSES[mood]) if mood in STATUSES else rejects
        return Phase(until_s, mood, chance.choice([1, 3, 20]), chance.uniform(0.1, 0.9), says)

    async def handle_async_request(self, request: Any) -> Any:
        self.asked += 1
        await asyncio.sleep(ROUND_TRIP_S)
        now = clock.now()
        phase = next((each for each in self.phases if now < each.until_s), None)
        request.extensions["says"] = None if phase is None else self._says(phase, now)
        if request.extensions["says"] is None:
            await self._answers(phase)
        return await super().handle_async_request(request)

    def _says(self, phase: Phase, now: float) -> Any:
        """How it refuses this one; None: it does not."""
        mood, fits = phase.mood, phase.fits
        if mood == "drops":
            return Flaw.DROP
        if mood == "busy":
            self._level = min(fits, self._level + (now - self._level_s) * fits)
            self._level_s = now
            if self._level < 1:
                return phase.says
            self._level -= 1
        refuses = (
            mood in ("rejects", "rejects, names a wait", *STATUSES)
            or (mood == "full" and self._there >= fits)
            or (mood == "rejects some" and self.chance.random() < phase.share)
        )
        return phase.says if refuses else None

    async def _answers(self, phase: Phase | None) -> None:
        mood, chance = "well" if phase is None else phase.mood, self.chance
        self._there += 1
        try:
            if mood == "hangs" or (mood == "some hang" and phase and chance.random() < phase.share):
                await asyncio.sleep(NEVER_S)
            slower = 10 if mood == "slow" else 1
            await asyncio.sleep(slower * self.usual_s * chance.lognormvariate(0.0, self._sigma))
        finally:
            self._there -= 1


def run_against(provider: Moody) -> Went:
    """All rows, with nothing told of the provider but a time limit."""
    chain = asks(httpx2.AsyncClient(transport=provider), "sk-not-a-key")
    return run_all(chain, [f"row {n}" for n in range(provider.rows)], timeout=provider.timeout_s)
