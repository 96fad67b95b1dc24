"""A provider: its limits, its server, its bad hours, and what it says about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Final, Literal

from bench.admission.calls import Call, Reply
from bench.admission.servers import Elastic

if TYPE_CHECKING:
    from random import Random

    from bench.admission.limits import Limit
    from bench.admission.servers import Server

Says = Literal["headers", "retry-after", "nothing"]
FAILS_AFTER_S: Final = 0.3


@dataclass(slots=True)
class Outage:
    """Between two moments, this share of the calls fails with this status."""

    since_s: float
    until_s: float
    share: float
    status: int


@dataclass(slots=True)
class Provider:
    """Asked at the moment a call arrives. No events of its own: `world.py` moves time.

    Attributes:
        says: rate limit headers on every answer and a wait with rejections; the wait alone; or nothing.
    """

    rng: Random
    limits: list[Limit]
    server: Server = field(default_factory=Elastic)
    says: Says = "nothing"
    outages: list[Outage] = field(default_factory=list)

    def refusal(self, now: float, call: Call) -> Reply | None:
        """The answer to a call that is not taken; None takes it."""
        for outage in self.outages:
            if outage.since_s <= now < outage.until_s and self.rng.random() < outage.share:
                return Reply(outage.status, self._headers(now) if self.says == "headers" else {})
        waits = [limit.wait_s(now, call) for limit in self.limits]
        if self.server.full():
            waits.append(None)
        if all(wait == 0.0 for wait in waits):
            for limit in self.limits:
                limit.take(now, call)
            return None
        for limit in self.limits:
            limit.refuse(now, call)
        return Reply(429, self._rejected(now, waits))

    def leave(self, now: float, call: Call) -> Reply:
        """It was answered."""
        for limit in self.limits:
            limit.leave(now, call)
        return Reply(200, {})

    def said(self, now: float) -> dict[str, str]:
        """The headers of a call taken now."""
        return self._headers(now) if self.says == "headers" else {}

    def fits_in_s(self, now: float, call: Call) -> float | None:
        """For the oracle: 0 if the call would be taken and begun now, seconds until it may, None: when one leaves."""
        waits = [limit.wait_s(now, call) for limit in self.limits]
        if None in waits or not self.server.room(call):
            return None
        return max((wait for wait in waits if wait is not None), default=0.0)

    def _rejected(self, now: float, waits: list[float | None]) -> dict[str, str]:
        if self.says == "nothing":
            return {}
        headers = self._headers(now) if self.says == "headers" else {}
        known = [wait for wait in waits if wait]
        headers["retry-after"] = str(ceil(max(known))) if known else "1"
        return headers

    def _headers(self, now: float) -> dict[str, str]:
        headers = {}
        for limit in self.limits:
            if (shown := limit.shown(now)) is None:
                continue
            name, most, left, reset_s = shown
            headers[f"x-ratelimit-limit-{name}"] = str(int(most))
            headers[f"x-ratelimit-remaining-{name}"] = str(int(left))
            headers[f"x-ratelimit-reset-{name}"] = f"{round(reset_s * 1000)}ms"
        return headers
