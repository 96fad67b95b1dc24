"""The timeouts of a run's requests: what the user allows, or less once we know how long answers take."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cottonpalm.providers.call import Call


class Timeouts:
    """Keeps one `Patience` per key. When it learns a shorter wait, requests under way get it too, so early hangs end.

    Attributes:
        allowed_s: seconds, the user's `timeout`.
    """

    def __init__(self, allowed_s: float) -> None:
        self.allowed_s = allowed_s
        self._by_key: dict[str, Patience] = {}
        self._open: dict[asyncio.Timeout, tuple[str, asyncio.AbstractEventLoop]] = {}

    def of(self, call: Call) -> float:
        """Return the seconds this request may take now. A stream may take all the user allows between two pieces."""
        patience = None if call.streams else self._by_key.get(call.key)
        return self.allowed_s if patience is None else patience.timeout_s(self.allowed_s)

    def answered(self, key: str, seconds: float) -> None:
        """A good answer came after so many seconds. From any thread."""
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
        """The request has ended."""
        self._open.pop(limit, None)

    def _hurry(self, key: str, less_s: float) -> None:
        """Shorten the time of all requests under way by so many seconds."""
        for limit, (of, loop) in list(self._open.items()):
            if of == key:
                with contextlib.suppress(RuntimeError):  # that loop is closed and has no request under way
                    loop.call_soon_threadsafe(self._shorten, limit, less_s)

    def _shorten(self, limit: asyncio.Timeout, less_s: float) -> None:
        if limit in self._open and (when := limit.when()) is not None:
            limit.reschedule(when - less_s)


LEARNT_AFTER: Final = 200  # the wait is learnt from so many answers
_TIMES_SLOWEST: Final = 5.0
_LEAST_S: Final = 5.0  # never less: a slow moment of this machine must not look like a provider that hangs


@dataclass(slots=True)
class Patience:
    """The longest wait for an answer on one key.

    Until `LEARNT_AFTER` good answers have come, it is what the user allows. After that it is five times the slowest
    answer, at least five seconds, and never more than the user allows.

    Attributes:
        answers: how many good answers came so far.
        slowest_s: the seconds that the slowest of them took.
    """

    answers: int = 0
    slowest_s: float = 0.0

    def after(self, seconds: float) -> bool:
        """Take note of a good answer; return whether the wait is learnt just now."""
        self.answers += 1
        self.slowest_s = max(self.slowest_s, seconds)
        return self.answers == LEARNT_AFTER

    def timeout_s(self, allowed_s: float) -> float:
        """Return the seconds that the next request may take."""
        if self.answers < LEARNT_AFTER:
            return allowed_s
        return min(allowed_s, max(_LEAST_S, _TIMES_SLOWEST * self.slowest_s))
