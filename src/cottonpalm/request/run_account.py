"""What all requests of one run share: limiters, money, prices, rules of retry, and whom to tell."""

from __future__ import annotations

import itertools
import logging
import threading
from contextlib import contextmanager
from random import Random, getrandbits
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from cottonpalm import clock
from cottonpalm.events import BudgetShare
from cottonpalm.providers import classify
from cottonpalm.request.failover import Failover
from cottonpalm.request.money.rules.alarms import Shares
from cottonpalm.request.money.rules.outputs import Outputs
from cottonpalm.request.money.spending import Spending
from cottonpalm.request.timeouts import Timeouts
from cottonpalm.types import PICO, Fault, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cottonpalm.config import RetryPolicy
    from cottonpalm.events import Event
    from cottonpalm.protocols import Measure
    from cottonpalm.providers.call import Call
    from cottonpalm.request.endpoints import Team
    from cottonpalm.request.limiter.limiter import Limiter
    from cottonpalm.request.limiter.limiters import Limiters
    from cottonpalm.request.money.ledger import Ledger
    from cottonpalm.request.money.rules.prices import PriceBook, Tariff
    from cottonpalm.request.money.rules.rates import Rates
    from cottonpalm.request.row_account import RowAccount

log = logging.getLogger("cottonpalm")
Grain: TypeAlias = Literal["unknown", "request", "model", "row"]
_FINER: Final[dict[Grain, int]] = {"unknown": 0, "row": 1, "model": 2, "request": 3}
_numbers = itertools.count(1)


class Allowance:
    """How many retries a whole run may make: a share of its requests, and a floor. Stops retry storms.

    Where nothing is left, retries take their longest wait, and no new row should start.
    """

    def __init__(self, share: float, floor: int) -> None:
        self._share, self._floor = share, floor
        self._requests = self._retries = 0
        self._lock = threading.Lock()

    @property
    def spent(self) -> bool:
        """Nothing is left."""
        return self._retries >= self._floor + self._share * self._requests

    def request(self) -> None:
        """One more request was made."""
        with self._lock:
            self._requests += 1

    def take(self) -> bool:
        """Take one retry if one is left."""
        with self._lock:
            if self.spent:
                return False
            self._retries += 1
            return True


class RunAccount:
    """What all requests of one run share. Thread-safe.

    Attributes:
        grain: the finest unit seen to take permits under this run's chain.
        waiting: requests (or rows, where those take the permits) in line at a limiter, or for money, now...
        unpaid: ...and how many of them for money...
        refused: ...and how many behind all others, having been rejected while nobody was accepted.
        has_fallbacks: its rows have another chain to go to.
        failover: those of its requests in line that may leave for one.
        stretches: per mille of the bound of input, by host and model that was seen to count more.
        spending: what the run has spent, in all its lives.
        refuses_unbounded: under a budget, a request whose cost cannot be bounded is not sent.
        repeated: answers that were cut by a maximum of ours and asked for again.
        stopped: a fault that no row survives, met at the request level.
        on_change: called from any thread when `waiting` falls, a limit moves, or a row steps aside or back.
        on_stop: called from any thread, once, with the first fault that no row survives.
        remembers: LangChain's own cache, the global one or a model's, is in use.
        look: takes note of each request in place of sending it, where a run is only planned.
        allowance: the run's retries, also used by the layer that retries rows.
        timeouts: how long each request may take.
        measure: told how requests ended and how long they waited, from any thread; None: nobody measures.
        last_fault: what the latest request that failed came to.
        team: several equal endpoints; None: there is only one.
    """

    def __init__(
        self,
        *,
        limiters: Limiters,
        ledger: Ledger | None,
        prices: PriceBook,
        retry: RetryPolicy,
        timeout_s: float,
        accept_truncated: bool = False,
        spending: Spending | None = None,
        max_output_tokens: int | None = None,
        tighten: bool = True,
        refuses_unbounded: bool = True,
        has_fallbacks: bool = False,
        classify: Callable[[BaseException], Kind | str | Fault | None] | None = None,
        emit: Callable[[Event], None] | None = None,
        hooked: bool = True,
        remembers: bool = False,
    ) -> None:
        self.limiters = limiters
        self.ledger = ledger
        self.prices = prices
        self.retry = retry
        self.timeouts = Timeouts(timeout_s)
        self.accept_truncated = accept_truncated
        self.spending = spending or Spending()
        self.max_output_tokens = max_output_tokens
        self.tighten = tighten
        self.refuses_unbounded = refuses_unbounded
        self.has_fallbacks = has_fallbacks
        self.repeated = 0
        self.classify = classify
        self.emit = emit
        self.hooked = hooked
        self.remembers = remembers
        self.grain: Grain = "unknown"
        self.waiting = self.unpaid = self.refused = 0
        self.stopped: Fault | None = None
        self.on_change: Callable[[], None] = _nothing
        self.look: Callable[[RowAccount, Call], None] | None = None
        self.on_stop: Callable[[Fault], None] = _ignore
        self.allowance = Allowance(retry.allowance_share, retry.allowance_floor)
        self.rng = Random(getrandbits(64))  # noqa: S311 - jitter; repeatable where the tests seed `random`
        self.rows_key = f"rows of run {next(_numbers)}"
        self.models_below: set[str] = set()  # whose requests the hook sees: they need no permit of their own
        self.models_gated = False  # a model was seen whose requests it does not see
        self.last_fault: Fault | None = None
        self.team: Team | None = None
        self.failover = Failover()
        self.measure: Measure | None = None  # told of requests and waits, where somebody measures the run
        self._waits_since = self._longest_wait_s = 0.0
        self._seen: dict[str, Limiter] = {}
        self._tariffs: dict[tuple[str, str | None], Tariff] = {}
        self._outputs: dict[str, Outputs] = {}
        self.stretches: dict[str, int] = {}
        self._shares = Shares()
        self._said: set[str] = set()
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

    @property
    def rows_keys(self) -> list[str]:
        """What names the permits of rows, at each endpoint, where no request is seen."""
        return [self.rows_key] if self.team is None else [one.rows_key for one in self.team.endpoints]

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

    def fault_of(self, exc: BaseException) -> Fault:
        """What an exception means: the user's own word first."""
        fault = classify(exc)
        return fault if self.classify is None else self.judged(fault, exc)

    def judged(self, fault: Fault, exc: BaseException) -> Fault:
        """`fault`, unless the user's own function says otherwise of `exc`."""
        word = self.classify(exc) if self.classify else None
        if word is None or isinstance(word, Fault):
            return word or fault
        return Fault(Kind(word), fault.type, fault.message, fault.retry_after_s, exc)

    def tariff(self, call: Call) -> Tariff:
        """What is known of the prices of the model asked, resolved once."""
        where = (call.label, call.tier)
        try:
            return self._tariffs[where]
        except KeyError:
            tariff = self._tariffs[where] = self.prices.tariff(call.model, call.url, call.tier)
            return tariff

    def rates(self, call: Call, served: str | None = None, tier: str | None = None) -> Rates | None:
        """The prices of the model asked, else of the one that answered; None where neither is known.

        The asked one first: the bound was made with its prices, and a ceiling must not move afterwards.

        Args:
            call: the request.
            served: the model that answered.
            tier: of service at which it answered.
        """
        rates = self.tariff(call).rates if tier is None else self.prices.rates(call.model, call.url, tier)
        if rates is None and served is not None:
            rates = self.prices.rates(served, call.url, tier)
        if rates is None:
            self.warn(
                f"price of {call.model}",
                f"no price is known for {call.model!r}, so what it costs is not counted; "
                f"prices={{{call.model!r}: (in, out)}} (--price {call.model}=IN:OUT) says it",
            )
        return rates

    def outputs(self, call: Call) -> Outputs:
        """How long the answers of this model are."""
        try:
            return self._outputs[call.label]
        except KeyError:
            outputs = self._outputs[call.label] = Outputs()
            return outputs

    def stretched(self, call: Call, input_tokens: int) -> int:
        """A bound of input, larger by what a provider was ever seen to count above it."""
        per_mille = self.stretches.get(call.label, 1000)
        return -(-input_tokens * per_mille // 1000)

    def stretch(self, call: Call, counted: int, bound: int) -> None:
        """Remember a provider that counts more input than there can be."""
        if counted > bound > 0:
            with self._lock:
                now = self.stretches.get(call.label, 1000)
                self.stretches[call.label] = max(now, -(-counted * now // bound))

    def count_cut(self) -> None:
        """One more answer was cut by a maximum of ours, and is asked for again."""
        with self._lock:
            self.repeated += 1

    def budget_left(self) -> int | None:
        """Pico-dollars of the budget that are neither spent nor reserved; None without a ceiling."""
        return None if self.ledger is None else self.ledger.left()

    def why_no_money(self, model: str, least: Callable[[], int]) -> str:
        """Why a request was not sent, of which the bound is `least()` pico-dollars at least."""
        if (failure := self.spending.failure) is not None:
            return f"what is spent cannot be made durable, and so no request is sent: {failure}"
        self._tell_share(1.0)
        why = f"the budget does not allow for another request to {model!r}"
        bound, left = least(), self.budget_left()
        if left is None or left >= bound:  # money came back since, too late for this one
            return why
        return f"{why}, which can cost ${bound / PICO:.6f}; ${max(0, left) / PICO:.6f} is left"

    def spent_more(self, ledger: Ledger) -> None:
        """A request was booked: tell of a share of the budget that is reached now."""
        if (share := ledger.share()) >= self._shares.next:
            self._tell_share(share)
        ledger.set_alarm(self.spending, self._shares.next)

    def _tell_share(self, share: float) -> None:
        ledger = self.ledger
        if ledger is None or (told := self._shares.passed(share)) is None:
            return
        total, per_hour, _ = ledger.limits
        budget = total if total is not None else per_hour or 0
        self.tell(BudgetShare(told, round(ledger.share() * budget), budget))

    @contextmanager
    def waiting_for_money(self) -> Iterator[None]:
        """Meanwhile one request waits for money: no more rows need to start than are waiting."""
        self.queue(+1, unpaid=+1)
        try:
            yield
        finally:
            self.queue(-1, unpaid=-1)

    def stop(self, fault: Fault) -> None:
        """No row can survive this: tell the run, once."""
        with self._lock:
            if self.stopped is not None:
                return
            self.stopped = fault
        self.on_stop(fault)

    def warn(self, topic: str, text: str) -> None:
        """Say something once per run."""
        with self._lock:
            if topic in self._said:
                return
            self._said.add(topic)
        log.warning(text)

    def tell(self, event: Event) -> None:
        """Pass an event on, if somebody listens."""
        if self.emit is not None:
            self.emit(event)

    def __repr__(self) -> str:
        return f"<RunAccount {self.grain}, limit {self.limit():.0f}, {self.waiting} waiting>"


def _nothing() -> None:
    pass


def _ignore(fault: Any) -> None:
    pass
