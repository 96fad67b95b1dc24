"""The flow of one run's requests: the limiters they use, the unit that takes permits, and how many wait in line."""

from __future__ import annotations

import itertools
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from cottonpalm import clock
from cottonpalm.request.limiter.limiters import TOTAL
from cottonpalm.request.limiter.together import Together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cottonpalm.request.limiter.limiter import Limiter
    from cottonpalm.request.limiter.limiters import Limiters

Grain: TypeAlias = Literal["unknown", "request", "model", "row"]
_FINER: Final[dict[Grain, int]] = {"unknown": 0, "row": 1, "model": 2, "request": 3}
_numbers = itertools.count(1)


class Flow:
    """Keeps which limiters a run uses, and how many requests wait there. Thread-safe.

    Attributes:
        limiters: the registry that makes the limiters.
        rows: that are to be done, about; 0 where nobody knows.
        grain: the finest unit seen to take permits under this run's chain.
        waiting: how many requests (or rows, if rows take the permits) wait now, for a permit or for money...
        unpaid: ...how many of them wait for money...
        again: ...and how many wait for one more try.
        held: how many requests wait until others have written the prompt that they share; for no permit yet.
        hooked: True: requests reach our hook.
        remembers: LangChain's own cache, the global one or a model's, is in use.
        rows_key: the key of the permits of rows, used if we see no requests.
        rows_keys: the same for each endpoint.
        models_below: models whose requests the hook sees, so that their calls need no permit.
        models_gated: True: the chain has a model whose requests the hook does not see.
        others_stand: says whether another run keeps its permits until this one is over; see `turns`.
        on_change: called from any thread when `waiting` falls, money is waited for, a limit moves, a request is
            held, or a row steps aside or back.
    """

    def __init__(self, limiters: Limiters, *, hooked: bool = True, remembers: bool = False) -> None:
        self.limiters, self.hooked, self.remembers = limiters, hooked, remembers
        self.rows = 0
        self.grain: Grain = "unknown"
        self.waiting = self.unpaid = self.again = self.held = 0
        self.rows_key = f"rows of run {next(_numbers)}"
        self.rows_keys = [self.rows_key]
        self.models_below: set[str] = set()
        self.models_gated = False
        self.others_stand: Callable[[], bool] | None = None
        self.on_change: Callable[[], None] = _nothing
        self._waits_since = self._longest_wait_s = 0.0
        self._seen: dict[str, Limiter] = {}
        self._only: Limiter | None = None  # the only one there
        self._turns: dict[str, Together] = {}
        self._lock = threading.Lock()

    def limit(self) -> float:
        """Return how many requests may be in flight: the limits of all keys seen, or one start limit if none was."""
        if (only := self._only) is not None:  # for every row
            limit, all_together = only.limit, self.limiters.total
            if all_together is not None and all_together.limit < limit:
                limit = all_together.limit
            return limit or float(self.limiters.initial)
        total = 0.0
        for limiter in tuple(self._seen.values()):  # a copy: another thread may add a key
            total += limiter.limit
        if self.limiters.total is not None:
            total = min(total, self.limiters.total.limit)
        return total or float(self.limiters.initial)

    def outstanding(self) -> bool:
        """Whether any request waits for its permit or its answer at a limiter that this run uses."""
        return any(limiter.waiting or limiter.in_flight for limiter in tuple(self._seen.values()))

    def announced(self, key: str, seconds: float) -> None:
        """A provider announced a wait of so many seconds, which holds for the limiters of this key."""
        self.limiters.announced(key, seconds)
        if (since := self._last_accepted()) != self._waits_since:
            self._waits_since, self._longest_wait_s = since, 0.0
        self._longest_wait_s = max(self._longest_wait_s, seconds)

    def last_sign(self) -> tuple[float, float]:
        """Return when the last request was accepted (0.0: none was), and the longest wait announced since then.

        The waits are not added up: a provider that announces the same wait again has not kept its promise.
        """
        last = self._last_accepted()
        return last, self._longest_wait_s if last == self._waits_since else 0.0

    def _last_accepted(self) -> float:
        return max((limiter.last_accepted or 0.0 for limiter in tuple(self._seen.values())), default=0.0)

    @property
    def wants_handler(self) -> bool:
        """Whether rows need `callback.handler()`. They do not once the hook has seen all models of the chain.

        If LangChain's own cache is in use, they always need it, since only the handler sees the cache's answers.
        """
        return self.grain != "request" or self.models_gated or not self.hooked or self.remembers

    def hooked_below(self, model: str) -> None:
        """The hook sees this model's requests: its calls need no permit, and their limiter counts no longer."""
        self.models_below.add(model)
        with self._lock:
            self._seen.pop(model, None)
            self._look()

    def limiter(self, key: str) -> Limiter:
        """Return the limiter of this key; from now on it counts towards this run's limit."""
        limiter = self._seen.get(key)
        if limiter is None and key == TOTAL and self.limiters.total is not None:
            return self.limiters.total
        if limiter is None:
            limiter = self.limiters.of(key)
            if self.rows > 1:
                limiter.expects(self.rows)
            with self._lock:
                self._seen[key] = limiter
                self._look()
            if key not in self.rows_keys:
                self.refine("model")
            self.on_change()
        return limiter

    def turns(self, key: str) -> Together | None:
        """Return where requests of this key take turns to go above its limit, one at a time; None: they wait."""
        if self.others_stand is None or not self.others_stand():
            return None
        with self._lock:
            return self._turns.setdefault(key, Together(f"turns at {key}", 1))

    def refine(self, grain: Grain) -> None:
        """Note that units this fine take permits; a coarser unit changes nothing."""
        of_rows: list[Limiter] = []
        with self._lock:
            if _FINER[grain] <= _FINER[self.grain]:
                return
            self.grain = grain
            if grain in ("model", "request"):
                of_rows = [self._seen.pop(key) for key in self.rows_keys if key in self._seen]
                self._look()
        for limiter in of_rows:  # rows that were in line for a permit of their own need none any more
            limiter.open()
        self.on_change()

    def _look(self) -> None:
        self._only = next(iter(self._seen.values())) if len(self._seen) == 1 else None

    def seen(self) -> tuple[Limiter, ...]:
        """Return the limiters that this run uses. From any thread."""
        return tuple(self._seen.values())

    def shown(self, key: str) -> str:
        """Return host and model of a limiter, without the account's part; "" for the rows of a whole chain."""
        return "" if key in self.rows_keys else key.rpartition("#")[0] or key

    def pause_s(self) -> float:
        """Return the seconds until all providers may be asked again; 0 if no provider asked for a wait."""
        now = clock.now()
        return max(0.0, *(limiter.paused_until - now for limiter in self.seen()), 0.0)

    def in_flight(self) -> int:
        """Return how many requests are in flight at the limiters that this run uses."""
        return sum(limiter.in_flight for limiter in tuple(self._seen.values()))

    def allowed_per_s(self) -> float | None:
        """Return how many requests a second the user's own ceilings allow; None where they do not, or nobody knows."""
        allowed = [limiter.admission.allowed_per_s for limiter in self.seen()]
        known = [each for each in allowed if each is not None]
        return sum(known) if known and len(known) == len(allowed) else None

    def queue(self, change: int, *, unpaid: int = 0, again: int = 0) -> None:
        """Add `change` to the requests in line, and likewise to those that wait for money, or failed before."""
        with self._lock:
            self.waiting += change
            self.unpaid += unpaid
            self.again += again
        if change < 0 or unpaid > 0:
            self.on_change()

    @contextmanager
    def waiting_for_money(self) -> Iterator[None]:
        """Count one request as waiting for money during the block, so that not too many new rows start."""
        self.queue(+1, unpaid=+1)
        try:
            yield
        finally:
            self.queue(-1, unpaid=-1)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Count one request as held during the block."""
        self._hold(+1)
        try:
            yield
        finally:
            self._hold(-1)

    def _hold(self, change: int) -> None:
        with self._lock:
            self.held += change
        if change > 0:
            self.on_change()

    def __repr__(self) -> str:
        return f"<Flow {self.grain}, limit {self.limit():.0f}, {self.waiting} waiting>"


def _nothing() -> None:
    pass
