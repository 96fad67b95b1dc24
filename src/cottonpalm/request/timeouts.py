"""The timeouts of a run's requests: what the user allows, or less once it is known how long answers take."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cottonpalm.providers.call import Call


class Timeouts:
    """One `Patience` per key. What is under way when a shorter wait is learnt gets it too: an early hang ends with it.

    Attributes:
        allowed_s: seconds, the user's `timeout`.
    """

    def __init__(self, allowed_s: float) -> None:
        self.allowed_s = allowed_s
        self._by_key: dict[str, Patience] = {}
        self._open: dict[asyncio.Timeout, tuple[str, asyncio.AbstractEventLoop]] = {}

    def of(self, call: Call) -> float:
        """Seconds that this request may take now; a stream has all that is allowed between two pieces."""
        patience = None if call.streams else self._by_key.get(call.key)
        return self.allowed_s if patience is None else patience.timeout_s(self.allowed_s)

    def answered(self, key: str, seconds: float) -> None:
        """A good answer came after so many seconds; from any thread."""
        patience = self._by_key.get(key)
        if patience is None:
            patience = self._by_key.setdefault(key, Patience())
        if patience.after(seconds):
            self._hurry(key, self.allowed_s - patience.timeout_s(self.allowed_s))

    def began(self, call: Call, limit: asyncio.Timeout) -> None:
        """From now on this request's time may be shortened."""
        if not call.streams:
            self._open[limit] = (call.key, asyncio.get_running_loop())

    def ended(self, limit: asyncio.Timeout) -> None:
        """The request is over."""
        self._open.pop(limit, None)

    def _hurry(self, key: str, less_s: float) -> None:
        """Take so many seconds off all that is under way."""
        for limit, (of, loop) in list(self._open.items()):
            if of == key:
                with contextlib.suppress(RuntimeError):  # that loop is closed: nothing of it is under way
                    loop.call_soon_threadsafe(self._shorten, limit, less_s)

    def _shorten(self, limit: asyncio.Timeout, less_s: float) -> None:
        if limit in self._open and (when := limit.when()) is not None:
            limit.reschedule(when - less_s)


LEARNT_AFTER: Final = 200  # answers
_TIMES_SLOWEST: Final = 5.0
_LEAST_S: Final = 5.0  # a machine that stutters is no provider that hangs


@dataclass(slots=True)
class Patience:
    """The longest wait for an answer of one key.

    Until `LEARNT_AFTER` good answers it is what the user allows; from then on five times the slowest of them, five
    seconds at least, and never more than the user allows.

    Attributes:
        answers: good answers so far.
        slowest_s: seconds the slowest of them took.
    """

    answers: int = 0
    slowest_s: float = 0.0

    def after(self, seconds: float) -> bool:
        """Take note of a good answer; whether the wait is learnt just now."""
        self.answers += 1
        self.slowest_s = max(self.slowest_s, seconds)
        return self.answers == LEARNT_AFTER

    def timeout_s(self, allowed_s: float) -> float:
        """Seconds that the next request may take."""
        if self.answers < LEARNT_AFTER:
            return allowed_s
        return min(allowed_s, max(_LEAST_S, _TIMES_SLOWEST * self.slowest_s))
