"""What providers limit: per minute, per window, at once. Each is asked before a call is taken."""

from __future__ import annotations

from math import ceil, floor, sqrt
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from bench.admission.calls import Call

OTHERS_EVERY_S: Final = 0.2  # how often the other clients of the account come
Steps = list[tuple[float, float]]  # (from this second on, this value), in order; the first is at 0


def at(steps: Steps, now: float) -> float:
    """The value in force."""
    value = steps[0][1]
    for since, this in steps:
        if since > now:
            break
        value = this
    return value


def request(_call: Call) -> float:
    return 1.0


def tokens(call: Call) -> float:
    return float(call.tokens)


class Limit(Protocol):
    """One limit. `wait_s`: 0 if the call fits now, else seconds until it may; None if only a leaving call helps."""

    def wait_s(self, now: float, call: Call) -> float | None: ...
    def take(self, now: float, call: Call) -> None: ...
    def refuse(self, now: float, call: Call) -> None: ...
    def leave(self, now: float, call: Call) -> None: ...
    def shown(self, now: float) -> tuple[str, float, float, float] | None: ...


class Bucket:
    """So much per minute, refilled continuously, holding `burst_s` seconds' worth; full at first.

    Args:
        per_minute: steps over time.
        of: what a call takes: `request` or `tokens`.
        burst_s: seconds of refill that it holds.
        others: what other clients of the account take per minute, in steps; it comes in random lumps.
        charges_refused: a rejected call takes its share too.
    """

    def __init__(
        self,
        per_minute: Steps,
        of: Callable[[Call], float] = request,
        *,
        burst_s: float = 60.0,
        others: Steps | None = None,
        rng: Random,
        charges_refused: bool = False,
    ) -> None:
        self._steps, self._of, self._burst_s = per_minute, of, burst_s
        self._others, self._rng, self._charges = others, rng, charges_refused
        self.name = "requests" if of is request else "tokens"
        self._level = at(per_minute, 0.0) / 60 * burst_s
        self._at = self._others_at = 0.0

    def _capacity(self, now: float) -> float:
        return at(self._steps, now) / 60 * self._burst_s

    def _refill(self, now: float) -> None:
        passed, self._at = now - self._at, now
        if passed <= 0:
            return
        self._level = min(self._capacity(now), self._level + at(self._steps, now) / 60 * passed)
        while self._others is not None and self._others_at + OTHERS_EVERY_S <= now:
            self._others_at += OTHERS_EVERY_S
            mean = at(self._others, self._others_at) / 60 * OTHERS_EVERY_S
            lowest = min(self._level, -0.02 * self._capacity(now))  # they were there before us
            self._level = max(lowest, self._level - max(0.0, self._rng.gauss(mean, sqrt(mean))))

    def wait_s(self, now: float, call: Call) -> float | None:
        self._refill(now)
        short = min(self._of(call), self._capacity(now)) - self._level
        return 0.0 if short <= 1e-9 else short / (at(self._steps, now) / 60)

    def take(self, now: float, call: Call) -> None:
        self._level -= self._of(call)

    def refuse(self, now: float, call: Call) -> None:
        if self._charges:
            self._level = max(-0.2 * self._capacity(now), self._level - self._of(call))

    def leave(self, now: float, call: Call) -> None:
        pass

    def shown(self, now: float) -> tuple[str, float, float, float] | None:
        self._refill(now)
        capacity, rate = self._capacity(now), at(self._steps, now) / 60
        level = max(0.0, self._level)
        return self.name, floor(capacity), floor(level), (capacity - level) / rate


class Window:
    """So much in each calendar window of `window_s` seconds, used or lost."""

    def __init__(
        self, per_window: Steps, of: Callable[[Call], float] = request, *, window_s: float = 60.0
    ) -> None:
        self._steps, self._of, self._window_s = per_window, of, window_s
        self.name = "requests" if of is request else "tokens"
        self._window, self._used = 0, 0.0

    def _turn(self, now: float) -> None:
        if (window := int(now / self._window_s)) != self._window:
            self._window, self._used = window, 0.0

    def wait_s(self, now: float, call: Call) -> float | None:
        self._turn(now)
        fits = self._used + self._of(call) <= at(self._steps, now)
        return 0.0 if fits else (self._window + 1) * self._window_s - now

    def take(self, now: float, call: Call) -> None:
        self._used += self._of(call)

    def refuse(self, now: float, call: Call) -> None:
        pass

    def leave(self, now: float, call: Call) -> None:
        pass

    def shown(self, now: float) -> tuple[str, float, float, float] | None:
        self._turn(now)
        limit = at(self._steps, now)
        return self.name, limit, max(0, limit - ceil(self._used)), (self._window + 1) * self._window_s - now


class AtOnce:
    """So much in flight, else rejected: of requests, or of tokens held (a cache of keys and values)."""

    def __init__(self, most: Steps, of: Callable[[Call], float] = request) -> None:
        self._steps, self._of = most, of
        self.used = 0.0

    def wait_s(self, now: float, call: Call) -> float | None:
        return 0.0 if self.used + self._of(call) <= at(self._steps, now) else None

    def take(self, now: float, call: Call) -> None:
        self.used += self._of(call)

    def refuse(self, now: float, call: Call) -> None:
        pass

    def leave(self, now: float, call: Call) -> None:
        self.used -= self._of(call)

    def shown(self, now: float) -> tuple[str, float, float, float] | None:
        return None
