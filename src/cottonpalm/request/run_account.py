"""What all requests of one run share: their flow, prices, alerts, money, timeouts and retry rules."""

from __future__ import annotations

import threading
from dataclasses import replace
from random import Random, getrandbits
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from cottonpalm.providers import classify
from cottonpalm.redact import redact
from cottonpalm.request.alerts import Alerts
from cottonpalm.request.endpoints.failover import Failover
from cottonpalm.request.flow import Flow
from cottonpalm.request.hedges import Hedges
from cottonpalm.request.money.spending import Spending
from cottonpalm.request.pricing import Pricing
from cottonpalm.request.prompt_cache.prompts import Prompts
from cottonpalm.request.reach import Reach
from cottonpalm.request.refusals import Refusals
from cottonpalm.request.transports import Transports
from cottonpalm.types import Fault, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.config import RetryPolicy
    from cottonpalm.protocols import Measure, Spent
    from cottonpalm.providers.call import Call
    from cottonpalm.request.endpoints.endpoints import Team
    from cottonpalm.request.flex import Flex
    from cottonpalm.request.limiter.limiters import Limiters
    from cottonpalm.request.money.ledger import Ledger
    from cottonpalm.request.money.rules.prices import PriceBook
    from cottonpalm.request.prompt_cache.prompts import Mode

SAID: Final = 200  # characters of what a provider said, where it is told beside other things
LONG: Final = 2000  # of it that are looked at


class Allowance:
    """Limits the retries of a whole run to a share of its requests, plus a fixed number. It stops retry storms.

    If no retry is left, every retry waits the longest backoff, and no new row should start.

    Attributes:
        requests: how many were made.
        spent: whether no retry is left.
    """

    def __init__(self, share: float, floor: int) -> None:
        self._share, self._floor = share, floor
        self.requests = self._retries = 0
        self.spent = self._is_spent()
        self._lock = threading.Lock()

    def _is_spent(self) -> bool:
        return self._retries >= self._floor + self._share * self.requests

    def request(self) -> None:
        """One more request was made."""
        with self._lock:
            self.requests += 1
            if self.spent:
                self.spent = self._is_spent()

    def take(self) -> bool:
        """Take one retry; return False if none is left."""
        with self._lock:
            if self.spent:
                return False
            self._retries += 1
            self.spent = self._is_spent()
            return True


class RunAccount:
    """What all requests of one run share. Thread-safe.

    Attributes:
        flow: the limiters that the run uses, and how many requests wait there.
        pricing: what its requests cost.
        alerts: sends their messages.
        ledger: the ledger of the run's budget; None without a budget.
        spending: what the run has spent, in all its processes.
        has_fallbacks: True: its rows have another chain to go to.
        reach: whether anybody answers.
        failover: keeps its waiting requests whose rows may go to another chain.
        refuses_unbounded: True: under a budget, a request whose cost has no bound is not sent.
        look: if a run is only planned, it takes note of each request, which is not sent.
        allowance: the run's retries; the layer that retries rows uses it too.
        timeout_s: how long each request may take.
        hedges: the copies of those that are late.
        refusals: those that name no reason.
        prompts: what they know of each other's prompts.
        clients: the HTTP clients that its rows were seen to use.
        measure: called with how requests ended and how long they waited, from any thread; None: nobody measures.
        last_fault: the fault of the latest request that failed.
        team: the equal endpoints; None: there is only one.
        flex: the flex tier, in a run that looks for the cheapest lane; None: no request is sent there by us.
        transports: by which transport its requests go.
        rng: random numbers for jitter; repeatable if a test seeds `random`.
    """

    def __init__(
        self,
        *,
        limiters: Limiters,
        ledger: Ledger | None,
        prices: PriceBook,
        retry: RetryPolicy,
        timeout_s: float,
        hedge: bool = True,
        prompt_cache: Mode = "auto",
        accept_truncated: bool = False,
        spending: Spending | None = None,
        max_output_tokens: int | None = None,
        tighten: bool = True,
        refuses_unbounded: bool = True,
        has_fallbacks: bool = False,
        classify: Callable[[BaseException], Kind | str | Fault | None] | None = None,
        hooked: bool = True,
        remembers: bool = False,
        fast: bool = False,
        functions_send_by: Callable[[Any], bool] = lambda _: False,
    ) -> None:
        self.ledger, self.spending = ledger, spending or Spending()
        self.flow = Flow(limiters, hooked=hooked, remembers=remembers)
        self.alerts = Alerts()
        self.pricing = Pricing(prices, ledger, self.spending, self.alerts)
        self.retry = retry
        self.timeout_s = timeout_s
        self.hedges = Hedges(wanted=hedge)
        self.refusals = Refusals()
        self.prompts = Prompts(prompt_cache)
        self.clients: WeakSet[Any] = WeakSet()
        self._functions_send_by = functions_send_by
        self.accept_truncated = accept_truncated
        self.max_output_tokens = max_output_tokens
        self.tighten = tighten
        self.refuses_unbounded = refuses_unbounded
        self.has_fallbacks = has_fallbacks
        self.classify = classify
        self.look: Callable[[Call], None] | None = None
        self.allowance = Allowance(retry.allowance_share, retry.allowance_floor)
        self.rng = Random(getrandbits(64))  # noqa: S311 - jitter
        self.last_fault: Fault | None = None
        self.team: Team | None = None
        self.failover = Failover()
        self.reach = Reach()
        self.measure: Measure | None = None
        self.flex: Flex | None = None
        self.transports = Transports(wanted=fast)

    def sends_by(self, client: Any) -> bool:
        """Whether an HTTP client is the run's: a row was seen to use it, or a function of the chain reads its model."""
        if client not in self.clients and self._functions_send_by(client):
            self.clients.add(client)
        return client in self.clients

    @property
    def last_said(self) -> str:
        """What was said when a request failed last, in a line and without the credentials that it quotes."""
        if self.last_fault is None:
            return ""
        return shorten(redact(self.last_fault.message[:LONG]), SAID, placeholder="...").rstrip(".")

    @property
    def unpaid(self) -> int:
        """How many requests wait for money; not those whose money is there and is just being written down."""
        if self.ledger is None or self.spending.lent or self.ledger.full:
            return self.flow.unpaid
        return 0

    def spent(self) -> Spent | None:
        """Return what the store should hold now of this run's spending."""
        return self.spending.record() if self.ledger is None else self.ledger.record(self.spending)

    def fault_of(self, exc: BaseException) -> Fault:
        """Return what an exception means. The user's own function decides first."""
        fault = classify(exc)
        return fault if self.classify is None else self.judged(fault, exc)

    def judged(self, fault: Fault, exc: BaseException) -> Fault:
        """Return `fault`, unless the user's own function judges `exc` differently."""
        word = self.classify(exc) if self.classify else None
        if word is None or isinstance(word, Fault):
            return word or fault
        return replace(fault, kind=Kind(word), cause=exc)

    def __repr__(self) -> str:
        return f"<RunAccount {self.flow!r}>"
