"""Keeps what one run has spent, in all its processes, and makes it durable.

There are three sums, in integer pico-dollars: `reported` by providers; `uncertain`, the bounds of requests that were
sent but whose usage no provider reported; and `reserved`, the bounds of requests in flight. What the provider charges
for the requests that are over lies between `reported` and `reported + uncertain`.

With a store, a fourth sum is `leased` there: before a request would raise the three sums above the lease, a larger
lease is made durable. So if the process dies, no more than the lease was spent. At the next start, the part of the
lease that is in no other sum counts as uncertain.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from cottonpalm import clock
from cottonpalm.errors import StoreError
from cottonpalm.protocols import Spent
from cottonpalm.request.money.rules.hour import STEP_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.protocols import RunStore

AHEAD_S: Final = 0.25  # seconds that a lease should last at the present rate of spending
KEPT_S: Final = 1.0  # a lease is kept so long for whoever asked for it
WAKING_S: Final = 0.5  # a thread wakes within it, though the machine is busy...
LOOKS: Final = 100  # ...and so often is looked meanwhile


class Spending:
    """The account of one run. Thread-safe; under a budget, every change of the sums also holds the ledger's lock.

    Args:
        store: the run's store; None if results are kept only in memory.
        timed: also keep when money was spent, for a budget per hour.
        out: pico-dollars set aside for batches that are out since an earlier process; they are accounted for later.

    Attributes:
        earlier: what the store says was spent before this process; without a store, its `account` is "".
        reported, uncertain, reserved: the sums of this process.
        timed: see above.
        lasting: True: the account is in a store, so a lease must cover what is reserved.
        alarm: when this amount of the budget is spent, `settle` tells the run.
        unbounded: how many requests got no answer and had no bound for their cost.
        failure: the error because of which a lease did not become durable.
        lent: True: another process leases, and may have to wait for the money itself.
        refusal: why that one leases no more for a request like the last that asked for it; None: it does.
    """

    lent = False
    refusal: BaseException | None = None

    def __init__(self, store: RunStore | None = None, *, timed: bool = False, out: int = 0) -> None:
        self._store, self.timed, self._out = store, timed, out
        self.lasting = store is not None
        self.alarm = 0
        self._steps: dict[int, int] = {}  # amounts spent and not yet stored, by wall-clock step
        self.earlier = Spent("") if store is None else self._accounted(store.spent())
        self.reported = self.uncertain = self.reserved = self.unbounded = 0
        self.failure: BaseException | None = None
        self._leased = self.earlier.total
        self._leased_s = clock.now()
        self._asked = 0  # the lease that is being written; 0: none
        self._granted = 0  # the amount reserved since `_since`
        self._since = clock.now()
        self._lock = threading.RLock()  # re-entrant: a finalizer may run on the thread that holds it

    def _accounted(self, stored: Spent) -> Spent:
        """Count the unused part of the old lease as uncertain: a killed process may have spent it at its end."""
        lost = stored.leased - stored.reported - stored.uncertain - self._out
        if lost <= 0:
            return stored
        step = int(clock.wall() // STEP_S)
        if self.timed:
            self._steps[step] = lost
        steps = (*stored.steps, (step * STEP_S, lost))
        return stored._replace(uncertain=stored.uncertain + lost, steps=steps)

    @property
    def total(self) -> int:
        """Return the most that the run may have spent, in all its processes."""
        return self.earlier.total + self.reported + self.uncertain

    @property
    def committed(self) -> int:
        """Return `total` plus what is reserved for requests in flight."""
        return self.total + self.reserved

    def covers(self, amount: int) -> bool:
        """Whether so much more may be reserved without another lease."""
        return self._store is None or self.committed + amount <= self._leased

    def take(self, amount: int) -> bool:
        """Reserve the amount and return True, unless a new lease may be needed."""
        if not self.covers(amount) or self.wants_lease(amount, None):
            return False
        self.reserved += amount
        self._granted += amount
        return True

    def reserve(self, amount: int) -> None:
        """Reserve the amount for a request that is about to be sent."""
        self.reserved += amount
        self._granted += amount

    def set_aside(self, amount: int) -> None:
        """Reserve the amount for a request of a batch, with which it is leased: a kill before that costs nothing."""
        self.reserved += amount

    def release(self, amount: int) -> None:
        """Release the amount of a request that was not sent."""
        self.reserved -= amount

    def book(self, reported: int, uncertain: int = 0) -> None:
        """Book a request that is over: what it cost (`reported`), or the most it may have cost (`uncertain`)."""
        with self._lock:
            self.reported += reported
            self.uncertain += uncertain
            if self.timed and reported + uncertain:
                step = int(clock.wall() // STEP_S)
                self._steps[step] = self._steps.get(step, 0) + reported + uncertain

    # -- in the store

    def refuses(self, amount: int) -> bool:  # noqa: ARG002 - see `Purse`
        """Whether no lease will be given for a request of this size."""
        return self.failure is not None

    def wants_lease(self, amount: int, most: int | None) -> bool:
        """Whether to lease more now: for a request of this size that waits, or (0) before the lease is used up."""
        if self._store is None or self._asked or self.failure is not None:
            return False
        if not amount and most is not None and self._leased >= most:
            return False
        return self.committed + amount + self._ahead() // 2 > self._leased

    def lease(self, amount: int, most: int | None, done: Callable[[], None]) -> None:
        """Make durable that the run may spend `amount` more than now, plus some money for the next requests.

        Args:
            amount: the amount that a request asks for.
            most: the most that may be leased; None for no limit.
            done: called from any thread when the lease is durable, or has failed.
        """
        assert self._store is not None
        with self._lock:
            wanted = self.committed + amount
            target = max(self._leased, wanted, wanted + self._ahead())
            if most is not None:
                target = max(self._leased, min(target, max(most, wanted)))
            self._asked = target
            self._measure_anew()
            record = self._record(target)

        def written(error: BaseException | None) -> None:
            with self._lock:
                self._asked = 0
                self.failure = error
                if error is None:
                    self._leased, self._leased_s = max(self._leased, target), clock.now()
            done()

        try:
            self._store.write([], written, record)
        except Exception as error:  # noqa: BLE001 - closed or broken: whoever waits for the lease must hear of it
            written(error)

    def _ahead(self) -> int:
        """Estimate what will be reserved in the next moments, from the present rate."""
        seconds = max(clock.now() - self._since, AHEAD_S)
        return int(self._granted * AHEAD_S / seconds)

    def _measure_anew(self) -> None:
        """Measure the rate from now on, unless that began a moment ago: leases may follow each other faster."""
        if (now := clock.now()) - self._since >= AHEAD_S:
            self._granted, self._since = 0, now

    def _is_fresh(self) -> bool:
        return clock.now() - self._leased_s < KEPT_S

    def lower_lease(self) -> None:
        """Give back what was leased for a rush that is over; the next record says so. With the ledger's lock."""
        with self._lock:
            if not (self._asked or self._is_fresh()):
                self._leased = min(self._leased, self.committed + 2 * self._ahead())

    def given_back(self) -> Spent | None:
        """Lower a lease that is far above what is needed; return what the store should hold then, else None.

        Rows that are stored say so too, but where files are the rows, none may end for hours. With the ledger's lock.
        """
        with self._lock:
            needed = self.committed + 4 * self._ahead()
            if self._store is None or self._asked or self._leased <= needed or self._is_fresh():
                return None
            self.lower_lease()
            self._leased_s = clock.now()  # a store that is slow is not told more often
            return self._record(self._leased)

    def note(self, record: Spent) -> None:
        """Have it stored. Where that fails, the store holds more than is spent, and the next lease says why."""
        assert self._store is not None
        with suppress(StoreError):
            self._store.write([], lambda _: None, record)

    def rest(self) -> None:
        """Give back all that is leased and not committed, however short the rush was. With the ledger's lock."""
        with self._lock:
            if not self._asked:
                self._leased = self.committed

    def record(self) -> Spent | None:
        """Return what the store should hold now, written together with finished rows; None: it is kept elsewhere."""
        with self._lock:
            return self._record(max(self._leased, self._asked))

    def wait_for_threads(self) -> None:
        """Block for a moment until threads of rows that are over have given back what they had reserved.

        They do so as they wake. What is reserved as the account is closed counts as spent, as it may be on its way.
        """
        moment = threading.Event()
        for _ in range(LOOKS):
            if self.reserved <= 0:
                return
            moment.wait(WAKING_S / LOOKS)

    def close(self) -> None:
        """The run is over in this process: reduce the lease to what was spent."""
        if self._store is None:
            return
        with self._lock:
            record = self._record(self.committed)
        self._store.write([], lambda _: None, record)

    def _record(self, leased: int) -> Spent:
        steps, self._steps = self._steps, {}
        earlier = self.earlier
        return Spent(
            earlier.account,
            earlier.reported + self.reported,
            earlier.uncertain + self.uncertain,
            max(leased, self.total),
            tuple((step * STEP_S, pico) for step, pico in steps.items()),
        )

    def __repr__(self) -> str:
        return f"<Spending {self.reported} reported, {self.uncertain} uncertain, {self.reserved} reserved>"
