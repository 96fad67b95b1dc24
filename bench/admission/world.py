"""The event loop of the simulator: a heap of moments, a provider, one way to meet it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

from bench.admission.calls import NET_S, Call, Reply, Workload
from bench.admission.provider import FAILS_AFTER_S, Provider

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 1.0, 60.0


class Policy(Protocol):
    """One way to decide what may be sent. There is always more to send than may go."""

    def may_send(self, now: float, call: Call) -> bool: ...

    def look_again_at(self, now: float) -> float | None:
        """When time alone may change the answer; None: only an answer can."""

    def came(self, now: float, call: Call, reply: Reply) -> tuple[int, float | None]:
        """Rows that are done by this answer; seconds before this call goes back in line, None: never."""


@dataclass(slots=True)
class Seen:
    """What happened. Times are those at which the client saw it."""

    good: list[float] = field(default_factory=list)
    worked: list[tuple[float, float]] = field(
        default_factory=list
    )  # (when, work of all accepted calls up to then)
    rejected: list[float] = field(default_factory=list)
    failed: int = 0
    accepted: int = 0
    peak: int = 0
    held_s: float = 0.0  # integral of calls in flight over time


class World:
    """One run: a workload, a provider, a policy, until the horizon."""

    def __init__(self, workload: Workload, provider: Provider) -> None:
        self.now = 0.0
        self.in_flight = 0
        self.workload, self.provider = workload, provider
        self.seen = Seen()
        self._events: list[tuple[float, int, Callable[..., None], Any]] = []
        self._numbers = count()
        self._again: deque[Call] = deque()
        self._fresh: Call = workload.next()
        self._headers: dict[int, dict[str, str]] = {}
        self._wake_at = float("inf")

    def run(self, policy: Policy, horizon_s: float) -> Seen:
        self._policy = policy
        self._fill()
        events = self._events
        while events and events[0][0] <= horizon_s:
            moment, _, what, about = heappop(events)
            self.seen.held_s += self.in_flight * (moment - self.now)
            self.now = moment
            what(*about)
        return self.seen

    def _at(self, moment: float, what: Callable[..., None], *about: Any) -> None:
        heappush(self._events, (moment, next(self._numbers), what, about))

    def _fill(self) -> None:
        now = self.now
        while True:
            call = self._again[0] if self._again else self._fresh
            if not self._policy.may_send(now, call):
                break
            if self._again:
                self._again.popleft()
            else:
                self._fresh = self.workload.next()
            call.tries += 1
            self.in_flight += 1
            self._at(now + NET_S, self._arrives, call)
        if self.in_flight > self.seen.peak:
            self.seen.peak = self.in_flight
        again_at = self._policy.look_again_at(now)
        if again_at is not None and (again_at < self._wake_at or self._wake_at <= now):
            self._wake_at = max(again_at, now + 1e-6)
            self._at(self._wake_at, self._wakes)

    def _wakes(self) -> None:
        if self.now >= self._wake_at:
            self._wake_at = float("inf")
        self._fill()

    def _arrives(self, call: Call) -> None:
        reply = self.provider.refusal(self.now, call)
        if reply is not None:
            delay = NET_S if reply.status == 429 else NET_S + FAILS_AFTER_S
            self._at(self.now + delay, self._answered, call, reply)
            return
        self._headers[call.number] = self.provider.said(self.now)
        self._begin(self.provider.server.enter(call))

    def _begin(self, started: list[tuple[Call, float]]) -> None:
        for call, takes_s in started:
            self._at(self.now + takes_s, self._leaves, call)

    def _leaves(self, call: Call) -> None:
        self.provider.leave(self.now, call)
        self._begin(self.provider.server.leave(call))
        reply = Reply(200, self._headers.pop(call.number))
        self._at(self.now + NET_S, self._answered, call, reply)

    def _answered(self, call: Call, reply: Reply) -> None:
        self.in_flight -= 1
        if reply.status == 200:
            self.seen.accepted += 1
            before_s = self.seen.worked[-1][1] if self.seen.worked else 0.0
            self.seen.worked.append((self.now, before_s + call.work_s))
        elif reply.status == 429:
            self.seen.rejected.append(self.now)
        else:
            self.seen.failed += 1
        done, again_s = self._policy.came(self.now, call, reply)
        self.seen.good.extend([self.now] * done)
        if again_s is not None:
            if again_s <= 0:
                self._again.append(call)
            else:
                self._at(self.now + again_s, self._back, call)
        self._fill()

    def _back(self, call: Call) -> None:
        self._again.append(call)
        self._fill()
