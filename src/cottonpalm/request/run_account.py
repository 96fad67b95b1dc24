"""What all requests of one run share: how they flow, what they cost, whom they tell, and the rules of retry."""

from __future__ import annotations

import threading
from random import Random, getrandbits
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from cottonpalm.providers import classify
from cottonpalm.request.alerts import Alerts
from cottonpalm.request.failover import Failover
from cottonpalm.request.flow import Flow
from cottonpalm.request.hedges import Hedges
from cottonpalm.request.money.spending import Spending
from cottonpalm.request.pricing import Pricing
from cottonpalm.request.reach import Reach
from cottonpalm.types import Fault, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.config import RetryPolicy
    from cottonpalm.events import Event
    from cottonpalm.protocols import Measure
    from cottonpalm.providers.call import Call
    from cottonpalm.request.endpoints import Team
    from cottonpalm.request.limiter.limiters import Limiters
    from cottonpalm.request.money.ledger import Ledger
    from cottonpalm.request.money.rules.prices import PriceBook


class Allowance:
    """How many retries a whole run may make: a share of its requests, and a floor. Stops retry storms.

    Where nothing is left, retries take their longest wait, and no new row should start.
    """

    def __init__(self, share: float, floor: int) -> None:
        self._share, self._floor = share, floor
        self._requests = self._retries = 0
        self._lock = threading.Lock()

    @property
    def requests(self) -> int:
        """How many were made."""
        return self._requests

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
        flow: the limiters that the run uses, and who waits at them.
        pricing: what its requests cost.
        alerts: whom they tell.
        ledger: of the run's budget; None without one.
        spending: what the run has spent, in all its lives.
        has_fallbacks: its rows have another chain to go to.
        reach: whether anybody answers.
        failover: those of its requests in line that may leave for one.
        refuses_unbounded: under a budget, a request whose cost cannot be bounded is not sent.
        look: takes note of each request in place of sending it, where a run is only planned.
        allowance: the run's retries, also used by the layer that retries rows.
        timeout_s: how long each request may take.
        hedges: the copies of those that are late.
        clients: the HTTP clients that its rows were seen to use.
        measure: told how requests ended and how long they waited, from any thread; None: nobody measures.
        last_fault: what the latest request that failed came to.
        team: several equal endpoints; None: there is only one.
        rng: jitter; repeatable where the tests seed `random`.
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
        self.ledger, self.spending = ledger, spending or Spending()
        self.flow = Flow(limiters, hooked=hooked, remembers=remembers)
        self.alerts = Alerts(emit)
        self.pricing = Pricing(prices, ledger, self.spending, self.alerts)
        self.retry = retry
        self.timeout_s = timeout_s
        self.hedges = Hedges(wanted=hedge)
        self.clients: WeakSet[Any] = WeakSet()
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

    def __repr__(self) -> str:
        return f"<RunAccount {self.flow!r}>"
