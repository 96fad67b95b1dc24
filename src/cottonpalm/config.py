"""The settings that users pass. They are validated once. Names end in their units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeGuard

from cottonpalm.errors import ConfigError
from cottonpalm.urls import whole_path

if TYPE_CHECKING:
    from collections.abc import Callable


def _need(ok: bool, message: str) -> None:
    if not ok:
        raise ConfigError(message)


START: Final = 10  # requests in flight


@dataclass(frozen=True, slots=True)
class AdaptiveConcurrency:
    """How many requests may be in flight per model: the start, and the bounds between which it moves.

    The usual start gives way to the bounds: `AdaptiveConcurrency(maximum=8)` starts at eight.
    """

    initial: int = START
    minimum: int = 1
    maximum: int = 500

    def __post_init__(self) -> None:
        whole = all(_is_whole(bound) for bound in (self.minimum, self.initial, self.maximum))
        if whole and self.initial == START and 1 <= self.minimum <= self.maximum:
            object.__setattr__(self, "initial", min(max(START, self.minimum), self.maximum))
        _need(
            whole and 1 <= self.minimum <= self.initial <= self.maximum,
            f"AdaptiveConcurrency needs whole numbers, 1 <= minimum <= initial <= maximum, got {self}",
        )


@dataclass(frozen=True, slots=True)
class BatchLane:
    """How requests go through a provider's Batch API, with `mode="batch"` or `"auto"`.

    Args:
        hosts: providers at addresses that are not their own, as in `{"proxy:8080": "openai"}`. One of "openai",
            "azure", "groq", "together", "mistral", "anthropic", "gemini".
        rows: the most requests in one batch, below what the provider allows.
        queued_tokens: the most input tokens that may wait at the provider, as your account's tier has it.
        poll_s: the shortest wait between two looks at a batch; it grows to 20 times as much.
        listing_wait_s: after how long a batch that the provider does not list was surely never made.
        cancel_s: how long a provider may take to stop a batch. With a deadline, this is kept in reserve; after it, the
            rows of such a batch run live all the same, and may be paid twice.
        quiet_s: so long after a row's last question nothing more is expected of it in this round. A branch that takes
            longer to come to its own has it travel in a later batch. A chain without branches does not wait.
        patient_s: so long an answer that came back may stay unread, in a chain with branches, before the row is said to
            ask something else than it did.
        cancel: ask nothing: stop all batches of the run that are out, keep what they have done by then, and end with
            `RunStopped` of reason "cancelled".
        or_live: where no Batch API is known at the model's address, or the provider takes no batch at all, rows run
            live, at the full price; else `mode="batch"` stops there, before anything is paid.
    """

    hosts: Mapping[str, str] = field(default_factory=dict)
    rows: int | None = None
    queued_tokens: int | None = None
    poll_s: float = 15.0
    listing_wait_s: float = 300.0
    cancel_s: float = 600.0
    quiet_s: float = 0.25
    patient_s: float = 10.0
    cancel: bool = False
    or_live: bool = False

    def __post_init__(self) -> None:
        known = ("openai", "azure", "groq", "together", "mistral", "anthropic", "gemini")
        _need(isinstance(self.hosts, Mapping), f"hosts={self.hosts!r}: say {{address: provider}}")
        _need_yes_or_no(self, "cancel", "or_live")
        for host, provider in self.hosts.items():
            _need(provider in known, f"hosts[{host!r}]={provider!r} must be one of {', '.join(known)}")
        for name in ("rows", "queued_tokens"):
            value = getattr(self, name)
            _need(value is None or (_is_whole(value) and value >= 1), f"{name}={value!r}: a number from 1 on")
        for name in ("poll_s", "listing_wait_s", "cancel_s", "quiet_s", "patient_s"):
            value = getattr(self, name)
            _need(is_number(value) and 0 < value < math.inf, f"{name}={value!r} must be seconds, above 0")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Your own limits per host, model and account, in addition to the provider's limits.

    Args:
        requests_per_minute: never more requests are sent in any 60 seconds; None: no limit.
        tokens_per_minute: the same for tokens: estimated when a request is sent, corrected by the usage in its answer.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.requests_per_minute, self.tokens_per_minute) if value is not None]
        _need(bool(given), "RateLimit needs requests_per_minute or tokens_per_minute")
        _need(
            all(is_number(value) and 1 <= value < math.inf for value in given),
            f"{self}: a rate limit is a number per minute, 1 or more",
        )


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """What is tried again, how often, and after how long a wait.

    A wait is drawn from (0, min(cap_s, base_s * 2**n)) ("full jitter", AWS architecture blog, 2015). If the provider
    names a wait, this wait is kept and never shortened.

    Args:
        retries: how often one request (or one row's call, if we see no requests) is sent again after the first time.
        reasks: how often a row is asked again, after the first time, if its answer does not parse or validate.
        rejections: how many of one request fail its row; they count once the model accepted others.
        count_all: True: every sending again uses one of the `retries`, even after a rejection or while the provider is
            down.
        base_s: seconds, the upper end of the first backoff.
        cap_s: seconds, the longest backoff.
        throttle_wait_s: seconds that a rejected request waits where the provider names no wait; None: as long as the
            limiter, which looks for the provider's pace, finds right.
        allowance_share: retries that the whole run may make per request...
        allowance_floor: ...plus this number. When all are used, new rows wait until requests succeed again.
    """

    retries: int = 3
    reasks: int = 1
    rejections: int = 20
    count_all: bool = False
    base_s: float = 1.0
    cap_s: float = 60.0
    throttle_wait_s: float | None = None
    allowance_share: float = 0.2
    allowance_floor: int = 100

    def __post_init__(self) -> None:
        _need(
            all(_is_whole(again) and again >= 0 for again in (self.retries, self.reasks)),
            "RetryPolicy: retries and reasks are whole numbers that do not count the first time, so 0 is none",
        )
        _need(
            _is_whole(self.rejections) and self.rejections >= 1,
            "RetryPolicy: rejections is a whole number, at least 1",
        )
        _need_yes_or_no(self, "count_all")
        _need(
            is_number(self.base_s) and is_number(self.cap_s) and 0 < self.base_s <= self.cap_s < math.inf,
            "RetryPolicy needs numbers of seconds, 0 < base_s <= cap_s",
        )
        wait = self.throttle_wait_s
        _need(
            wait is None or (is_number(wait) and 0 <= wait < math.inf),
            "RetryPolicy: throttle_wait_s is seconds, 0 or more",
        )
        allowance = (self.allowance_share, self.allowance_floor)
        _need(
            all(is_number(one) and one >= 0 for one in allowance),
            "RetryPolicy: the allowance is a number and cannot be negative",
        )


# Two Budget objects with equal amounts are different money, so they must not compare equal.
@dataclass(eq=False)
class Budget:
    """A limit in US dollars. If you pass one Budget object to two processors, both share it.

    You may set its amounts during runs: requests that wait and now fit are sent; those that no longer fit are not.

    Args:
        total: dollars in all; no request is sent that could raise the sum above it. None: no such limit.
        per_hour: dollars in any sliding hour, likewise.
        on_exceed: when the hour's money is spent, "stop" the run, or "wait" for more and keep an even pace until the
            end. A `total` always stops the run.
        max_output_tokens: the most tokens of one answer if the request names no maximum; it is added to the request.
        tighten: True: near the limit, send a smaller maximum with a request, so that more requests fit. If it cuts an
            answer, this answer is paid for and asked for again. False: wait instead.
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
        """Call `told` whenever an amount is set."""
        self._told = told

    def _check(self) -> None:
        for name in ("total", "per_hour"):
            dollars = getattr(self, name)
            _need(
                dollars is None or (is_number(dollars) and 0 <= dollars < math.inf),
                f"Budget({name}={dollars!r}): a budget is a number of dollars, and cannot be negative",
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
        _need_yes_or_no(self, "tighten")
        _need(
            self.max_output_tokens is None
            or (_is_whole(self.max_output_tokens) and self.max_output_tokens > 0),
            f"Budget(max_output_tokens={self.max_output_tokens!r}) must be a positive whole number",
        )


def _need_yes_or_no(settings: object, *names: str) -> None:
    """A text such as "no" would count as true: `or_live="no"` would pay the full price."""
    for name in names:
        value = getattr(settings, name)
        _need(isinstance(value, bool), f"{type(settings).__name__}({name}={value!r}) must be True or False")


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)  # two equal objects are different caches
class Cache:
    """An exact cache: equal rows are answered once, and equal rows in flight share one call.

    Args:
        max_entries: the most answers kept in memory; the least recently used is dropped first.
        ttl: seconds after which an answer is asked for again; None for never.
        path: the file of a store (it may also hold runs), which keeps the answers for later processes and for other
            processes now; None for memory alone. A relative one is of the folder where this object is made. Only `ttl`
            removes answers from it.
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
            self.ttl is None or (is_number(self.ttl) and 0 < self.ttl < math.inf),
            f"Cache(ttl={self.ttl!r}) must be a positive number of seconds, or None",
        )
        _need(
            self.path is None or (isinstance(self.path, str | Path) and self.path != ""),
            f"Cache(path={self.path!r}) must be a file's path",
        )
        if self.path is not None:
            object.__setattr__(self, "path", whole_path(self.path))
