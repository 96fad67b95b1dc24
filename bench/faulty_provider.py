"""Hung, dead and flapping providers, in virtual time, met by the real model class: `python bench/faulty_provider.py`.

What two per cent of calls that are never answered cost, what a dead provider is still sent, how soon one that flaps is
used again, and what a dead endpoint costs where there is a second one.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from random import Random
from statistics import median
from typing import TYPE_CHECKING, Any

import httpx2
from langchain_core.output_parsers import StrOutputParser
from langchain_openai import ChatOpenAI

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cottonpalm import BatchProcessor, Limits, clock
from cottonpalm.testing import FlakyTransport, Flaw, virtual_run

if TYPE_CHECKING:
    from collections.abc import Callable


class Provider(FlakyTransport):
    """Answers in 2 seconds in the median; `says(now)` gives another step than the ordinary answer.

    Args:
        says: clock -> None for an answer, or what `FlakyTransport` knows.
        cap: requests in flight above which it rejects...
        per_s: ...and requests a second.
        lost: the share of the calls that is never answered; they take no place of the provider's.
        held: the same, and they keep their place.
    """

    def __init__(
        self,
        says: Callable[[float], Any] = lambda _: None,
        *,
        cap: int = 10_000,
        per_s: float = 1e9,
        lost: float = 0.0,
        held: float = 0.0,
    ) -> None:
        super().__init__(then=lambda _: None)
        self._says, self._cap, self._per_s, self._lost, self._held = says, cap, per_s, lost, held
        self._rng, self._in_flight, self._tokens, self._filled_s = Random(7), 0, per_s, 0.0
        self.sent: list[float] = []
        self.answered: list[float] = []

    async def handle_async_request(self, request: Any) -> Any:
        """One request."""
        now, draw = clock.now(), self._rng.random()
        self.sent.append(now)
        if draw < self._lost:
            await asyncio.sleep(1e6)
        if (step := self._says(now) or self._full(now)) is not None:
            self._steps = iter([step])
            return await super().handle_async_request(request)
        self._in_flight += 1
        try:
            await asyncio.sleep(1e6 if draw < self._held else self._rng.lognormvariate(0.7, 0.4))
        finally:
            self._in_flight -= 1
        self.answered.append(clock.now())
        return await super().handle_async_request(request)

    def _full(self, now: float) -> Any:
        self._tokens = min(self._per_s, self._tokens + (now - self._filled_s) * self._per_s)
        self._filled_s = now
        if self._tokens < 1 or self._in_flight >= self._cap:
            return 429
        self._tokens -= 1
        return None


def run(rows: int, *providers: Provider) -> float:
    """Virtual seconds that so many rows take; all of them are answered."""

    async def main() -> float:
        chains = [
            ChatOpenAI(
                model="gpt-4o-mini",
                base_url=f"http://endpoint-{number}.invalid/v1",
                api_key="sk-none",
                http_async_client=httpx2.AsyncClient(transport=provider),
            )
            | StrOutputParser()
            for number, provider in enumerate(providers)
        ]
        processor = BatchProcessor(chains[0], replicas=chains[1:], limits=Limits())
        outputs = await processor.abatch([f"row {n}" for n in range(rows)])
        assert outputs == [f"answer to: row {n}" for n in range(rows)]
        return clock.now()

    return virtual_run(main(), 1)


def hung(rows: int) -> bool:
    """Calls that are never answered: the wall with them over the wall without."""
    good = True
    for name, limits, share, goal in (
        ("5 requests a second", {"per_s": 5.0}, "lost", 1.2),
        ("12 at once, lost calls take no place", {"cap": 12}, "lost", 1.2),
        ("12 at once, lost calls keep their place", {"cap": 12}, "held", None),
    ):
        without = run(rows, Provider(**limits))
        ratio = run(rows, Provider(**limits, **{share: 0.02})) / without
        verdict = "" if goal is None else f"  (goal: at most {goal})"
        print(f"hung: 2 % never answered, {name}: {ratio:.2f} of {without:.0f} s{verdict}", flush=True)
        good = good and (goal is None or ratio <= goal)
    return good


def dead(rows: int) -> bool:
    """A provider that is dead for ten minutes: what it is sent meanwhile."""
    provider = Provider(lambda now: Flaw.DROP if 30 <= now < 630 else None, cap=40)
    run(rows, provider)
    while_dead = [at for at in provider.sent if 30 <= at < 630]
    first = sum(at < 90 for at in while_dead)
    later = (len(while_dead) - first) / 9
    back_s = min(at for at in provider.answered if at > 630) - 630
    print(f"dead: {first} requests wasted in the first minute, {later:.1f} in each later one")
    print(f"dead: in use again {back_s:.0f} s after it lives", flush=True)
    return later <= 3 and back_s <= 35


def flapping(rows: int) -> bool:
    """A provider that is down for 20 of every 60 seconds: how soon it is used again."""
    provider = Provider(lambda now: Flaw.DROP if now % 60 >= 40 and now < 600 else None, cap=12)
    seconds = run(rows, provider)
    turns = range(60, min(600, int(seconds) // 60 * 60), 60)
    waits = [min(at for at in provider.sent if at >= turn) - turn for turn in turns]
    wasted = sum(at % 60 >= 40 and at < 600 for at in provider.sent) / max(1, len(turns))
    print(
        f"flapping: asked again {median(waits):.1f} s after it is back (worst {max(waits):.1f}), "
        f"{wasted:.0f} requests wasted each time it goes"
    )
    return max(waits) <= 21


def replicas(rows: int) -> bool:
    """Two endpoints of which one is dead: the wall over that of the other alone."""
    alone = run(rows, Provider(cap=40))
    corpse = Provider(lambda _: Flaw.DROP)
    ratio = run(rows, corpse, Provider(cap=40)) / alone
    both = run(rows, Provider(cap=40), Provider(cap=40)) / alone
    print(
        f"replicas: with a dead second endpoint {ratio:.2f} of {alone:.0f} s, {len(corpse.sent)} requests wasted"
    )
    print(f"replicas: with a good one {both:.2f}")
    return ratio <= 1.05 and both <= 0.6


def main() -> None:
    """Run them all."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=4_000)
    given = options.parse_args()
    good = [part(given.rows) for part in (hung, dead, flapping, replicas)]
    sys.exit(not all(good))


if __name__ == "__main__":
    main()
