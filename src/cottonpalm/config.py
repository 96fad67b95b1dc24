"""The settings users pass, frozen and validated once. Names carry their units."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cottonpalm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable


def _need(ok: bool, message: str) -> None:
    if not ok:
        raise ConfigError(message)


@dataclass(frozen=True, slots=True)
class AdaptiveConcurrency:
    """How many requests may be in flight per model: where to start, and within which bounds to move."""

    initial: int = 10
    minimum: int = 1
    maximum: int = 500

    def __post_init__(self) -> None:
        whole = all(_is_whole(bound) for bound in (self.minimum, self.initial, self.maximum))
        _need(
            whole and 1 <= self.minimum <= self.initial <= self.maximum,
            f"AdaptiveConcurrency needs whole numbers, 1 <= minimum <= initial <= maximum, got {self}",
        )


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Ceilings of your own per host, model and account, on top of what the provider allows.

    Args:
        requests_per_minute: never more are sent in any 60 seconds; None: no ceiling.
        tokens_per_minute: the same for tokens: estimated when a request is sent, corrected by the usage in its answer.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.requests_per_minute, self.tokens_per_minute) if value is not None]
        _need(bool(given), "RateLimit needs requests_per_minute or tokens_per_minute")
        _need(
            all(_is_number(value) and 1 <= value < math.inf for value in given),
            f"{self}: a rate limit is a number per minute, 1 or more",
        )


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Who is tried again, how often, and how long to wait.

    A wait is drawn from (0, min(cap_s, base_s * 2**n)) ("full jitter", AWS architecture blog, 2015); a wait named by
    the provider is kept and never undercut.

    Args:
        transient_tries: sends of one request (or calls of one row, where no request was seen), the first included.
        reask_tries: questions asked when the answer does not parse or validate, the first included.
        throttle_tries: rejections of one request before its row fails, counted once the same model accepted others.
        count_all: every send uses up one of the `transient_tries`: a rejection too, and one while the provider is down.
        base_s: seconds, the first backoff's upper end.
        cap_s: seconds, the longest backoff.
        throttle_wait_s: seconds that a rejected request waits where the provider names no wait; None: as long as the
            limiter, which looks for the provider's pace, finds right.
        allowance_share: retries allowed per request made in the whole run...
        allowance_floor: ...and this many besides. Spent: new rows wait until requests succeed again.
    """

    transient_tries: int = 4
    reask_tries: int = 2
    throttle_tries: int = 20
    count_all: bool = False
    base_s: float = 1.0
    cap_s: float = 60.0
    throttle_wait_s: float | None = None
    allowance_share: float = 0.2
    allowance_floor: int = 100

    def __post_init__(self) -> None:
        tries = (self.transient_tries, self.reask_tries, self.throttle_tries)
        _need(
            all(_is_whole(one) and one >= 1 for one in tries),
            "RetryPolicy: every number of tries is a whole number that counts the first one, so it is at least 1",
        )
        _need(
            _is_number(self.base_s) and _is_number(self.cap_s) and 0 < self.base_s <= self.cap_s,
            "RetryPolicy needs numbers of seconds, 0 < base_s <= cap_s",
        )
        wait = self.throttle_wait_s
        _need(
            wait is None or (_is_number(wait) and wait >= 0),
            "RetryPolicy: throttle_wait_s is seconds, 0 or more",
        )
        allowance = (self.allowance_share, self.allowance_floor)
        _need(
            all(_is_number(one) and one >= 0 for one in allowance),
            "RetryPolicy: the allowance is a number and cannot be negative",
        )


# Its identity is the money: equal amounts are not one purse.
@dataclass(eq=False)
class Budget:
    """A ceiling in US dollars. One Budget object passed to two processors is shared by both.

    Its amounts may be set while runs go on: what waits and fits now is sent, what does not fit any more is not.

    Args:
        total: dollars in all; no request is sent that could take the sum above it. None: no such ceiling.
        per_hour: dollars of any sliding hour, likewise.
        on_exceed: when the hour's money is spent, "stop" the run, or "wait" for more and keep an even pace until the
            end. A `total` always stops.
        max_output_tokens: the most tokens of one answer where the request names no maximum; it is sent along.
        tighten: near the ceiling, send a smaller maximum along with a request, so that more of them fit; an answer
            that is cut by it is paid for and asked for again. False: rather wait.
    """

    total: float | None = None
    per_hour: float | None = None
    on_exceed: Literal["stop", "wait"] = "stop"
    max_output_tokens: int | None = None
    tighten: bool = True

    def __post_init__(self) -> None:
        self._told: Callable[[], None] | None = None
        self._check()

    def __setattr__(self, name: str, value: object) -> None:
        """Set an amount, at any time."""
        before = self.__dict__.get(name)
        object.__setattr__(self, name, value)
        if (told := self.__dict__.get("_told")) is None or name.startswith("_"):
            return
        try:
            self._check()
        except ConfigError:
            object.__setattr__(self, name, before)
            raise
        told()

    def on_change(self, told: Callable[[], None]) -> None:
        """Call this whenever an amount was set."""
        self._told = told

    def _check(self) -> None:
        for name in ("total", "per_hour"):
            dollars = getattr(self, name)
            _need(
                dollars is None or (_is_number(dollars) and 0 <= dollars < math.inf),
                f"Budget({name}={dollars}): a budget is a number of dollars, and cannot be negative",
            )
        _need(
            self.total is not None or self.per_hour is not None,
            "Budget() without an amount: say total= or per_hour=, in dollars",
        )
        _need(
            self.on_exceed in ("stop", "wait"), f'Budget(on_exceed={self.on_exceed!r}): say "stop" or "wait"'
        )
        _need(
            self.on_exceed == "stop" or self.per_hour is not None,
            'Budget(on_exceed="wait") is for per_hour=: more of a total never comes',
        )
        _need(
            self.max_output_tokens is None
            or (_is_whole(self.max_output_tokens) and self.max_output_tokens > 0),
            f"Budget(max_output_tokens={self.max_output_tokens!r}) must be a positive whole number",
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)  # its identity is the memory
class Cache:
    """An exact cache: equal rows are answered once, and equal rows in flight share one call.

    Args:
        max_entries: answers kept in memory; the least recently used goes first.
        ttl: seconds after which an answer is asked for again; None for never.
        path: a store's file (it may hold runs as well) where answers are kept besides, for later processes and for
            those that run at the same time; None for memory alone. Nothing but `ttl` takes answers out of it.
    """

    max_entries: int = 1000
    ttl: float | None = None
    path: str | Path | None = None

    def __post_init__(self) -> None:
        _need(
            _is_whole(self.max_entries) and self.max_entries >= 1,
            f"Cache(max_entries={self.max_entries!r}) must be a whole number, at least 1",
        )
        _need(
            self.ttl is None or (_is_number(self.ttl) and 0 < self.ttl < math.inf),
            f"Cache(ttl={self.ttl!r}) must be a positive number of seconds, or None",
        )
        _need(
            self.path is None or isinstance(self.path, str | Path),
            f"Cache(path={self.path!r}) must be a file's path",
        )
