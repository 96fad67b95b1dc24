"""Decides when a request is so late that we send one more copy of it, and how many copies a run may send."""

from __future__ import annotations

import contextlib
import math
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from cottonpalm.runtime.due import Due

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

LEARNT_AFTER: Final = 100  # the time of an answer is learnt from so many answers...
FEWEST: Final = 5  # ...and so many let us tell one that surely hangs: small runs have no more
SHARE: Final = 0.02  # copies may be at most this share of a run's requests, or one...
_SIGMAS: Final = 3.0  # ...and, where requests really hang, so many standard deviations of that share more
_TIMES_SLOWEST: Final = 2.0
SOON: Final = 0.5  # of the time after which one is late, without any answer: all that are in flight may hang
SURELY: Final = 4.0  # ...and so many times that: they do, or never were any so slow
_RARER: Final = 4 / 3  # as long as the wait before
_LEAST_S: Final = 5.0  # never earlier: a slow moment of this machine must not look like a provider that hangs


class Late(Protocol):
    """A request that may be late: of which key, and since when it is under way, by its loop's time."""

    key: str
    since_s: float

    def late(self) -> None:
        """It is."""


@dataclass(slots=True)
class AnswerPace:
    """The time that answers of one key take.

    Attributes:
        answers: how many good answers came so far.
        slowest_s: the seconds that the slowest of them took.
        woke_s: when the copy was sent that was answered first after nobody had been for long: what was sent before it,
            and is late, hangs.
        again_s: while nobody is answered, when one more copy goes whatever their share is...
        wait_s: ...and how long after the one before.
    """

    answers: int = 0
    slowest_s: float = 0.0
    woke_s: float = -math.inf
    again_s: float = -math.inf
    wait_s: float = 0.0

    def after(self, seconds: float) -> bool:
        """Take note of a good answer; return whether others may be late sooner from now on."""
        self.answers += 1
        self.slowest_s = max(self.slowest_s, seconds)
        return self.answers <= LEARNT_AFTER and not self.answers % FEWEST

    @property
    def late_s(self) -> float | None:
        """Return the seconds after which a request is much later than any before it; None while too little is known.

        The slowest of few says less. With the root of their number this is about as far above the usual answer after
        five as after a hundred: 25 to 30 times the median, where the logarithms of the times have a deviation of one.
        """
        if self.answers < FEWEST:
            return None
        late_s = _TIMES_SLOWEST * self.slowest_s
        if self.answers < LEARNT_AFTER:
            late_s *= math.sqrt(LEARNT_AFTER / self.answers)
        return max(_LEAST_S, late_s)

    def silence(self, now: float, last_s: float) -> float:
        """How long nobody was answered, the last one then, in times after which a request is late.

        0 while the time of an answer is not learnt: for this, requests that go on may be cut off.
        """
        late_s = self.late_s if self.answers >= LEARNT_AFTER else None
        return 0.0 if late_s is None else (now - last_s) / late_s

    def woke(self, sent_s: float) -> None:
        """A copy was answered that was sent then, while nobody was."""
        self.woke_s, self.again_s, self.wait_s = max(self.woke_s, sent_s), -math.inf, 0.0

    def asks(self, now: float) -> bool:
        """Whether one more copy asks now whether anybody is answered again; the next one a third later."""
        if self.late_s is None or now < self.again_s:
            return False
        self.wait_s = max(self.late_s, _RARER * self.wait_s)
        self.again_s = now + self.wait_s
        return True


def allowed(sent: int, overtook: int, requests: int) -> bool:
    """Return whether one more copy may be sent.

    Copies that were of no use, or may yet be, stay within `SHARE` of the requests, or one. Where 2 % of all requests
    hang at random, half of the runs meet more of them than that, and each one left over would hold the run until its
    timeout. So copies that overtook their request, which shows that it hung, also make room for some more, up to a
    bound in all.

    Args:
        sent: how many copies were sent.
        overtook: how many of them were answered before the request that they copied.
        requests: how many requests the run has sent, copies included.
    """
    share = max(1.0, SHARE * requests)
    return sent - overtook + 1 <= share and sent + 1 <= share + _SIGMAS * math.sqrt(share)


@dataclass(slots=True)
class Ticket:
    """Lets one copy go.

    Attributes:
        counted: it is one of the run's share.
        above: it goes above the number in flight that was found to fit: those in flight hang.
        cut: cuts the original off as it goes, since no more may be in flight; None: the original goes on.
        sent_s: when it left the line.
    """

    counted: bool
    above: bool
    cut: Callable[[], None] | None = None
    sent_s: float | None = None

    def goes(self, now: float) -> None:
        """It is sent."""
        self.sent_s = now
        if self.cut is not None:
            self.cut()


class Hedges:
    """Allows copies of one run's requests. A late request does not fail: it goes on beside its copy. Thread-safe.

    Args:
        wanted: False: no copy is ever sent.

    Attributes:
        sent: how many copies were sent so far.
        overtook: how many of them were answered before the request that they copied.
    """

    def __init__(self, *, wanted: bool = True) -> None:
        self.wanted = wanted
        self.sent = self.overtook = 0
        self._by_key: dict[str, AnswerPace] = {}
        self._watched: dict[asyncio.AbstractEventLoop, Due[Late]] = {}
        self._lock = threading.Lock()

    def late_s(self, key: str) -> float | None:
        """Return the seconds after which a request of this key is late; None: not known yet."""
        pace = self._by_key.get(key)
        return None if pace is None else pace.late_s

    def answered(self, key: str, seconds: float) -> None:
        """A good answer came after so many seconds. From any thread."""
        pace = self._by_key.get(key)
        if pace is None:
            pace = self._by_key.setdefault(key, AnswerPace())
        if pace.after(seconds):
            self._tell()

    def take(self, requests: int) -> bool:
        """Take one copy, if the number of requests that the run has sent allows one more."""
        with self._lock:
            if not allowed(self.sent, self.overtook, requests):
                return False
            self.sent += 1
            return True

    def silence(self, key: str, now: float, last_s: float | None) -> float:
        """See `AnswerPace.silence`; 0 where nobody of this key was answered yet."""
        pace = self._by_key.get(key)
        return 0.0 if pace is None or last_s is None else pace.silence(now, last_s)

    def hangs(self, late: Late) -> bool:
        """It was sent before a copy that was answered first after such a silence."""
        pace = self._by_key.get(late.key)
        return pace is not None and late.since_s < pace.woke_s

    def asks(self, key: str, now: float) -> bool:
        """Whether one more copy goes in such a silence, whatever their share is."""
        with self._lock:
            return self._by_key[key].asks(now)

    def woke(self, key: str, sent_s: float) -> None:
        """A copy was answered that was sent then, in such a silence or to one that hangs."""
        with self._lock:
            self._by_key[key].woke(sent_s)

    def give_back(self, ticket: Ticket) -> None:
        """Give a copy back that may not have been sent, or was rejected."""
        with self._lock:
            self.sent -= ticket.counted

    def overtaken(self) -> None:
        """A copy was answered before the request that it copied."""
        with self._lock:
            self.overtook += 1

    def watched(self, loop: asyncio.AbstractEventLoop) -> Due[Late]:
        """The requests under way on this loop, which runs: each is told once when it is late."""
        watched = self._watched.get(loop)
        if watched is None:
            with self._lock:
                watched = self._watched[loop] = Due(loop, self._due, _told)
        return watched

    def _due(self, one: Late) -> float | None:
        late_s = self.late_s(one.key)
        return None if late_s is None else one.since_s + late_s

    def _tell(self) -> None:
        """It is known of one more key how long its answers take."""
        with self._lock:
            watched = list(self._watched.items())
        for loop, due in watched:
            with contextlib.suppress(RuntimeError):  # that loop is closed and has no request under way
                loop.call_soon_threadsafe(due.look)


def _told(one: Late) -> None:
    one.late()
