"""Providers drawn at random that go down and come back, on a virtual clock: what a run loses by it."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any

import httpx2

from cottonpalm import clock
from cottonpalm.testing import FlakyTransport, Flaw
from tests.support.lean import asks, run_all

if TYPE_CHECKING:
    from collections.abc import Callable

# How it is down, and after how many of its usual answer times that is seen. A gateway says 502 or 503 for a server that
# is gone; a listener without a server hangs until the client's patience ends.
WAYS: dict[str, tuple[Any, float]] = {
    "cuts connections": (Flaw.DROP, 0.0),
    "cuts late": (Flaw.DROP, 1.0),
    "500": (500, 0.0),
    "500, late": (500, 1.0),
    "502": (502, 0.0),
    "503": (503, 0.0),
    "503, late": (503, 2.0),
    "429": (429, 0.0),
    "hangs": (Flaw.STALL, 0.0),
}
UNREACHED = "no connection"  # beside WAYS, where there are several


@dataclass(frozen=True)
class Drawn:
    """One world.

    Attributes:
        seed: that it was drawn from.
        way: how it is down.
        fits: requests in flight that it takes; it rejects more.
        per_s: requests a second, in a bucket of a second; infinity for no such limit.
        answer_s: how long an answer takes in the mean.
        every_s: from one outage to the next.
        down_s: of that, at its end.
        outages: so many.
        most: requests in flight that the user allows; None for as many as are found.
        rows: of the run.
        later_s: all that, so long after the run began.
    """

    seed: int
    way: str
    fits: int
    per_s: float
    answer_s: float
    every_s: float
    down_s: float
    outages: int
    most: int | None
    rows: int
    later_s: float = 0.0

    def is_down(self, now: float) -> bool:
        """Whether it is, so long after the run began."""
        now -= self.later_s
        return 0 <= now < self.every_s * self.outages and now % self.every_s >= self.every_s - self.down_s

    @property
    def ideal_s(self) -> float:
        """Who knew the limits and the outages would take so long."""
        rate = min(min(self.fits, self.most or math.inf) / self.answer_s, self.per_s)
        work_s = self.rows / rate + self.answer_s
        passed = min(self.outages, math.floor(work_s / (self.every_s - self.down_s)))
        return work_s + passed * self.down_s


def drawn(seed: int) -> Drawn:
    """A world."""
    rng = Random(f"outages {seed}")
    fits, answer_s = rng.choice((3, 6, 12, 25, 60)), rng.choice((0.5, 2.0, 6.0))
    most = rng.choice((None, None, 1, 2, 4, 8))
    per_s = rng.choice((math.inf, math.inf, 0.7)) * fits / answer_s
    every_s = rng.choice((30.0, 60.0, 150.0)) * max(1.0, answer_s / 2)
    down_s = every_s * rng.uniform(0.1, 0.4)
    rate = min(min(fits, most or math.inf) / answer_s, per_s)
    rows = int(min(3_000, max(60, rate * every_s * rng.uniform(2.0, 5.0))))
    return Drawn(seed, rng.choice(list(WAYS)), fits, per_s, answer_s, every_s, down_s, 8, most, rows)


def drawn_together(seed: int) -> list[Drawn]:
    """Two or three endpoints of one run, which go down nearly together, or at any times."""
    rng, world = Random(f"together {seed}"), drawn(seed)
    shifts = rng.choice((0.15 * world.down_s, 0.15 * world.down_s, world.every_s))
    rows = int(min(2_000, world.rows * rng.choice((0.5, 1.0, 2.0))))
    return [
        replace(
            world,
            way=rng.choice([*WAYS, UNREACHED]),
            fits=max(1, int(world.fits * rng.uniform(0.5, 1.5))),
            rows=rows,
            later_s=rng.uniform(0, shifts),
        )
        for _ in range(rng.choice((2, 2, 3)))
    ]


class Provider(FlakyTransport):
    """It answers each row by its own number, as long as it is up and has room."""

    def __init__(self, world: Drawn) -> None:
        super().__init__(then=lambda _: None)
        self.world, self.sent, self.answered = world, 0, list[int]()
        self._rng, self._in_flight = Random(world.seed), 0
        self._left, self._filled_s = world.per_s, 0.0

    async def handle_async_request(self, request: Any) -> Any:
        """One request."""
        self.sent += 1
        world = self.world
        if world.is_down(clock.now()) and world.way == UNREACHED:
            raise httpx2.ConnectError("nobody is there", request=request) from ConnectionRefusedError(
                111, "x"
            )
        if world.is_down(clock.now()):
            step, late = WAYS[world.way]
            await asyncio.sleep(late * world.answer_s)
            return await self._says(step, request)
        if not self._admits(clock.now()):
            return await self._says(429, request)
        self._in_flight += 1
        try:
            await asyncio.sleep(world.answer_s * self._rng.lognormvariate(-0.08, 0.4))
        finally:
            self._in_flight -= 1
        number = json.loads(request.content)["messages"][-1]["content"].split()[-1]
        self.answered.append(int(number))
        return await self._says(number, request)

    async def _says(self, step: Any, request: Any) -> Any:
        self._steps = iter([step])
        return await super().handle_async_request(request)

    def _admits(self, now: float) -> bool:
        world = self.world
        if self._in_flight >= world.fits:
            return False
        if world.per_s < math.inf:
            self._left = min(max(1.0, world.per_s), self._left + (now - self._filled_s) * world.per_s)
            self._filled_s = now
            if self._left < 1:
                return False
            self._left -= 1
        return True


@dataclass(frozen=True)
class Went:
    """How it went.

    Attributes:
        speed: the ideal time over what it took.
        failed: rows.
        wrong: rows with another one's answer.
        twice: answers to rows that were answered before.
        asked: requests for each row.
        stopped: why it ended early; "" where it did not.
    """

    speed: float
    failed: int
    wrong: int
    twice: int
    asked: float
    stopped: str


def went(world: Drawn, told: Callable[[Any], None] = lambda _: None) -> Went:
    """Run it; `told` gets each event."""
    return went_together([world], told)


def went_together(worlds: list[Drawn], told: Callable[[Any], None] = lambda _: None) -> Went:
    """Run them as equal endpoints of one run; the ideal is that of one of them alone."""
    providers, world = [Provider(world) for world in worlds], worlds[0]
    chain, *replicas = [_chain(number, provider) for number, provider in enumerate(providers)]
    more: dict[str, Any] = {} if world.most is None else {"concurrency": world.most}
    observer = type("Told", (), {"see": staticmethod(told)})()
    outcomes, stopped, took_s = run_all(
        chain,
        range(world.rows),
        timeout=20 * world.answer_s,
        stall_timeout=3_600,
        observers=[observer],
        replicas=replicas,
        **more,
    )
    answered = [number for provider in providers for number in provider.answered]
    return Went(
        speed=world.ideal_s / took_s,
        failed=sum(outcome.status == "failed" for outcome in outcomes),
        wrong=sum(outcome.status == "ok" and outcome.output != str(outcome.index) for outcome in outcomes),
        twice=len(answered) - len(set(answered)),
        asked=sum(provider.sent for provider in providers) / world.rows,
        stopped="" if stopped is None else stopped.reason,
    )


def _chain(number: int, provider: Provider) -> Any:
    client = httpx2.AsyncClient(transport=provider, timeout=20 * provider.world.answer_s)
    url = f"https://server-{number}.example/v1"
    return asks(client, "sk-not-a-key", url=url, says=lambda row: f"row {row}")
