"""How the requests of one run flow: through which limiters, counted in which unit, and how many stand in line."""

from __future__ import annotations

import itertools
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from cottonpalm import clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cottonpalm.request.limiter.limiter import Limiter
    from cottonpalm.request.limiter.limiters import Limiters

Grain: TypeAlias = Literal["unknown", "request", "model", "row"]
_FINER: Final[dict[Grain, int]] = {"unknown": 0, "row": 1, "model": 2, "request": 3}
_numbers = itertools.count(1)


class Flow:
    """Which limiters a run uses, and who waits at them. Thread-safe.

    Attributes:
        limiters: the registry that makes them.
        grain: the finest unit seen to take permits under this run's chain.
        waiting: requests (or rows, where those take the permits) in line at a limiter, or for money, now...
        unpaid: ...and how many of them for money...
        refused: ...and how many behind all others, having been rejected while nobody was accepted.
        hooked: the request hook is in place.
        remembers: LangChain's own cache, the global one or a model's, is in use.
        rows_key: names the permits of rows, where no request is seen.
        rows_keys: the same at each endpoint.
        models_below: models whose requests the hook sees: they need no permit of their own.
        models_gated: a model was seen whose requests the hook does not see.
        on_change: called from any thread when `waiting` falls, a limit moves, or a row steps aside or back.
    """

    def __init__(self, limiters: Limiters, *, hooked: bool = True, remembers: bool = False) -> None:
        self.limiters, self.hooked, self.remembers = limiters, hooked, remembers
        self.grain: Grain = "unknown"
        self.waiting = self.unpaid = self.refused = 0
        self.rows_key = f"rows of run {next(_numbers)}"
        self.rows_keys = [self.rows_key]
        self.models_below: set[str] = set()
        self.models_gated = False
        self.on_change: Callable[[], None] = _nothing
        self._waits_since = self._longest_wait_s = 0.0
        self._seen: dict[str, Limiter] = {}
        self._lock = threading.Lock()

    def limit(self) -> float:
        """How many requests may be in flight in all: the limits of the keys seen so far, else where one starts."""
        total = 0.0
        for limiter in tuple(self._seen.values()):  # a copy: another thread may see a new key
            total += limiter.limit
        return total or float(self.limiters.initial)

    def outstanding(self) -> bool:
        """Whether any request waits for its turn or its answer, at a limiter that this run uses."""
        return any(limiter.waiting or limiter.in_flight for limiter in tuple(self._seen.values()))

    def announced(self, seconds: float) -> None:
        """A provider named a wait of so many seconds."""
        if (since := self._last_accepted()) != self._waits_since:
            self._waits_since, self._longest_wait_s = since, 0.0
        self._longest_wait_s = max(self._longest_wait_s, seconds)

    def last_sign(self) -> tuple[float, float]:
        """`clock.now()` of the last request accepted, 0.0 before the first, and the longest wait announced since.

        The longest, not all of them: a provider that names the same wait again and again has broken its word.
        """
        last = self._last_accepted()
        return last, self._longest_wait_s if last == self._waits_since else 0.0

    def _last_accepted(self) -> float:
        return max((limiter.last_accepted or 0.0 for limiter in tuple(self._seen.values())), default=0.0)

    @property
    def wants_handler(self) -> bool:
        """Whether rows still need `callback.handler()`: not once all models of the chain turned out to be hooked.

        Where LangChain's own cache answers, only the handler sees it.
        """
        return self.grain != "request" or self.models_gated or not self.hooked or self.remembers

    def hooked_below(self, model: str) -> None:
        """The hook sees this model's requests: it needs no permit of its own, and its limiter counts no longer."""
        self.models_below.add(model)
        with self._lock:
            self._seen.pop(model, None)

    def limiter(self, key: str) -> Limiter:
        """The limiter of this key, which from now on counts towards this run's limit."""
        limiter = self._seen.get(key)
        if limiter is None:
            limiter = self.limiters.of(key)
            with self._lock:
                self._seen[key] = limiter
            if key not in self.rows_keys:
                self.refine("model")
            self.on_change()
        return limiter

    def refine(self, grain: Grain) -> None:
        """Remember that permits are taken by units this fine; a coarser one changes nothing."""
        with self._lock:
            if _FINER[grain] <= _FINER[self.grain]:
                return
            self.grain = grain
            if grain in ("model", "request"):
                for key in self.rows_keys:
                    self._seen.pop(key, None)
        self.on_change()

    def seen(self) -> tuple[Limiter, ...]:
        """The limiters that this run uses; from any thread."""
        return tuple(self._seen.values())

    def shown(self, key: str) -> str:
        """Host and model of a limiter, without what tells accounts apart; "" for the rows of a whole chain."""
        return "" if key in self.rows_keys else key.rpartition("#")[0] or key

    def pause_s(self) -> float:
        """Seconds until all providers may be asked again; 0 while none of them asked for a wait."""
        now = clock.now()
        return max(0.0, *(limiter.paused_until - now for limiter in self.seen()), 0.0)

    def in_flight(self) -> int:
        """Requests in flight at the limiters that this run uses."""
        return sum(limiter.in_flight for limiter in tuple(self._seen.values()))

    def queue(self, change: int, *, unpaid: int = 0, refused: int = 0) -> None:
        """One more or one less in line; `unpaid` and `refused` likewise, where it is for money, or once refused."""
        with self._lock:
            self.waiting += change
            self.unpaid += unpaid
            self.refused += refused
        if change < 0:
            self.on_change()

    @contextmanager
    def waiting_for_money(self) -> Iterator[None]:
        """Meanwhile one request waits for money: no more rows need to start than are waiting."""
        self.queue(+1, unpaid=+1)
        try:
            yield
        finally:
            self.queue(-1, unpaid=-1)

    def __repr__(self) -> str:
        return f"<Flow {self.grain}, limit {self.limit():.0f}, {self.waiting} waiting>"


def _nothing() -> None:
    pass
