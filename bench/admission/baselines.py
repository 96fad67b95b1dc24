"""Ways to meet a provider that people use today, and one that knows everything."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from cottonpalm.providers.hints import wait_s

if TYPE_CHECKING:
    from random import Random

    from bench.admission.calls import Call, Reply
    from bench.admission.limits import Limit

MOST_IN_FLIGHT = 500  # the default ceiling of `AdaptiveConcurrency`; the oracle keeps to it too


class Fixed:
    """`max_concurrency=n`: a call keeps its place while it waits to be sent again, as in an SDK's retries."""

    def __init__(self, limit: float, rng: Random) -> None:
        self.limit = float(limit)
        self._rng = rng
        self._taken = 0

    def may_send(self, now: float, call: Call) -> bool:
        if call.held is self:  # it never gave its place back
            return True
        if self._taken >= int(self.limit):
            return False
        self._taken += 1
        call.held = self
        return True

    def look_again_at(self, now: float) -> float | None:
        return None

    def came(self, now: float, call: Call, reply: Reply) -> tuple[int, float | None]:
        self.learn(now, call, reply)
        if reply.status == 200:
            self._taken -= 1
            return 1, None
        return 0, self.backoff_s(call, reply)

    def backoff_s(self, call: Call, reply: Reply) -> float:
        hint = wait_s(reply.headers, "") if reply.status == 429 else None
        return hint if hint is not None else self._rng.uniform(0.5, 1.0) * min(8.0, 0.5 * 2.0**call.tries)

    def learn(self, now: float, call: Call, reply: Reply) -> None:
        """A fixed limit learns nothing."""


class Aimd(Fixed):
    """One more per limit's worth of answers, nine tenths of it after each rejection (Netflix's AIMDLimit)."""

    def __init__(self, rng: Random) -> None:
        super().__init__(10, rng)

    def learn(self, now: float, call: Call, reply: Reply) -> None:
        if reply.status == 429:
            self.limit = max(1.0, self.limit * 0.9)
        elif self._taken * 2 >= self.limit:
            self.limit = min(MOST_IN_FLIGHT, self.limit + 1 / self.limit)


class Gradient(Fixed):
    """Long over short average of answer times, and a queue of four (the rule of Netflix's Gradient2Limit)."""

    def __init__(self, rng: Random) -> None:
        super().__init__(20, rng)
        self._long_s = 0.0
        self._sent: dict[int, float] = {}

    def may_send(self, now: float, call: Call) -> bool:
        if may := super().may_send(now, call):
            self._sent[call.number] = now
        return may

    def learn(self, now: float, call: Call, reply: Reply) -> None:
        took_s = now - self._sent.pop(call.number)
        if reply.status == 429:
            self.limit = max(20.0, self.limit * 0.9)
            return
        self._long_s += (took_s - self._long_s) * (2 / 601 if self._long_s else 1.0)
        if self._long_s > 2 * took_s:
            self._long_s *= 0.95
        if self._taken * 2 < self.limit:
            return
        gradient = max(0.5, min(1.0, 1.5 * self._long_s / took_s))
        self.limit = max(20.0, min(MOST_IN_FLIGHT, 0.8 * self.limit + 0.2 * (self.limit * gradient + 4)))


class Listing:
    """The document's `AdaptiveBatchProcessor`: windows of N, plus or minus two by the success rate.

    A window ends with its slowest call. A call is tried three times, as the SDK does; if one fails for good, all that
    the window answered is lost, and as many calls are made one by one.
    """

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._concurrency = 10
        self._rates: deque[int] = deque(maxlen=100)
        self._begun = self._open = self._failed = 0
        self._singles = 0

    def may_send(self, now: float, call: Call) -> bool:
        if call.held is self:
            return True
        free = self._open == 0 if self._singles else self._begun < self._concurrency
        if free:
            self._begun += 1
            self._open += 1
            call.held = self
        return free

    def look_again_at(self, now: float) -> float | None:
        return None

    def came(self, now: float, call: Call, reply: Reply) -> tuple[int, float | None]:
        good = reply.status == 200
        if not good and call.tries < 3:
            hint = wait_s(reply.headers, "")
            return 0, hint if hint is not None else self._rng.uniform(0.375, 0.5) * 2.0 ** (call.tries - 1)
        self._open -= 1
        if self._singles:
            return self._single(good), None
        self._failed += not good
        return (self._window_over() if not self._open and self._begun >= self._concurrency else 0), None

    def _single(self, good: bool) -> int:
        self._singles -= 1
        if not self._singles:
            self._adjust()
        return int(good)

    def _window_over(self) -> int:
        done, failed = self._begun, self._failed
        self._begun = self._failed = 0
        self._rates.extend([0 if failed else 1] * done)
        if failed:
            self._singles = done
            return 0
        self._adjust()
        return done

    def _adjust(self) -> None:
        self._begun = 0
        if len(self._rates) < 10:
            return
        share = sum(self._rates) / len(self._rates)
        if share > 0.95:
            self._concurrency = min(self._concurrency + 2, 50)
        elif share < 0.80:
            self._concurrency = max(self._concurrency - 2, 5)


class Oracle:
    """A client told the true limits: it sends what fits, the moment it fits, and is never rejected.

    Args:
        limits: the provider's own; here they are asked when a call is sent, and nothing else asks them.
        knee: what a server can work on at once, in calls or in tokens.
    """

    def __init__(self, limits: list[Limit], knee: float | None, by_tokens: bool) -> None:
        self._limits, self._knee, self._by_tokens = limits, knee, by_tokens
        self._held = 0.0
        self._in_flight = 0
        self._again_at: float | None = None

    def _weight(self, call: Call) -> float:
        return float(call.tokens) if self._by_tokens else 1.0

    def may_send(self, now: float, call: Call) -> bool:
        self._again_at = None
        if self._in_flight >= MOST_IN_FLIGHT:
            return False
        if self._knee is not None and self._held + self._weight(call) > self._knee * 1.05 + 1:
            return False
        waits = [limit.wait_s(now, call) for limit in self._limits]
        if any(wait != 0.0 for wait in waits):
            self._again_at = None if None in waits else now + max(wait for wait in waits if wait is not None)
            return False
        for limit in self._limits:
            limit.take(now, call)
        self._held += self._weight(call)
        self._in_flight += 1
        return True

    def look_again_at(self, now: float) -> float | None:
        return self._again_at

    def came(self, now: float, call: Call, reply: Reply) -> tuple[int, float | None]:
        for limit in self._limits:
            limit.leave(now, call)
        self._held -= self._weight(call)
        self._in_flight -= 1
        return (1, None) if reply.status == 200 else (0, 1.0)
