"""How long an accepted call takes: as long as its answer is, or longer where calls stand in each other's way."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from bench.admission.calls import Call

Started = list[tuple["Call", float]]  # with the seconds it will take from now on


class Server(Protocol):
    """Where accepted calls are worked on. `room` says whether one more would be begun at once."""

    def enter(self, call: Call) -> Started: ...
    def leave(self, call: Call) -> Started: ...
    def room(self, call: Call) -> bool: ...
    def full(self) -> bool: ...


class Elastic:
    """Everybody is served at once, whatever the number."""

    def enter(self, call: Call) -> Started:
        return [(call, call.work_s)]

    def leave(self, call: Call) -> Started:
        return []

    def room(self, call: Call) -> bool:
        return True

    def full(self) -> bool:
        return False


class Knee:
    """So many are worked on, the rest stand in line: more in flight takes longer and does not do more.

    Args:
        slots: calls (or tokens, with `by_tokens`) worked on at once.
        thrash: each call is slowed down by this much per line as long as `slots`: then more in flight does less.
        line: calls that may stand in line; more are rejected.
    """

    def __init__(
        self, slots: float, *, thrash: float = 0.0, line: float = float("inf"), by_tokens: bool = False
    ) -> None:
        self._slots, self._thrash, self._most_in_line, self._by_tokens = slots, thrash, line, by_tokens
        self._busy = 0.0
        self._running = 0
        self._line: deque[Call] = deque()

    def _weight(self, call: Call) -> float:
        return float(call.tokens) if self._by_tokens else 1.0

    def enter(self, call: Call) -> Started:
        self._line.append(call)
        return self._start()

    def leave(self, call: Call) -> Started:
        self._busy -= self._weight(call)
        self._running -= 1
        return self._start()

    def room(self, call: Call) -> bool:
        return not self._line and self._busy + self._weight(call) <= self._slots

    def full(self) -> bool:
        return len(self._line) >= self._most_in_line

    def _start(self) -> Started:
        started: Started = []
        while self._line and (self._busy + self._weight(self._line[0]) <= self._slots or not self._running):
            call = self._line.popleft()
            self._busy += self._weight(call)
            self._running += 1
            slower = 1.0 + self._thrash * len(self._line) / max(1, self._running)
            started.append((call, call.work_s * slower))
        return started
