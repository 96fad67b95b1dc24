"""What one run has spent, in all its lives, and how that outlives the process.

Three sums, in integer pico-dollars: `reported` by providers; `uncertain`, the bounds of requests that were sent and
not answered, or not with what they used; and `reserved` for what is in flight. What the provider charges for all
that is over lies between `reported` and `reported + uncertain`.

With a store, a sum is `leased` there before a request is sent that would take the three above it. So whatever
happens to the process, no more than that was spent; what is not accounted for at the next start is uncertain.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from cottonpalm import clock
from cottonpalm.protocols import Spent

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.protocols import RunStore

AHEAD_S: Final = 0.25  # how long a lease should last at the present rate
STEP_S: Final = 5.0  # stamps of the store are kept for so long together
HOUR_S: Final = 3600.0


class Spending:
    """The account of one run. Thread-safe; under a budget, whatever changes the sums runs under the ledger's lock.

    Args:
        store: the run's; None where nothing outlives the process.
        timed: also keep when it was spent, for a budget per hour.

    Attributes:
        earlier: what the run had spent before this process, as the store has it; its `account` is "" without one.
        reported, uncertain, reserved: by this process.
        timed: see above.
        lasting: it outlives the process, so that a lease has to cover what is reserved.
        alarm: what must be spent of the budget before the run has to hear of it.
        unbounded: requests without an answer whose cost could not be bounded.
        failure: what kept a lease from becoming durable.
    """

    def __init__(self, store: RunStore | None = None, *, timed: bool = False) -> None:
        self._store, self.timed = store, timed
        self.lasting = store is not None
        self.alarm = 0
        self._steps: dict[int, int] = {}  # spent and not yet in the store, by wall-clock step
        self.earlier = Spent("") if store is None else self._accounted(store.spent())
        self.reported = self.uncertain = self.reserved = self.unbounded = 0
        self.failure: BaseException | None = None
        self._leased = self.earlier.total
        self._asked = 0  # the lease that is being written; 0: none
        self._granted = 0  # reserved since the last lease
        self._since = clock.now()
        self._lock = threading.RLock()  # a finalizer may come by while it is held

    def _accounted(self, stored: Spent) -> Spent:
        """What was leased and never accounted for may have been spent, just before the process was killed."""
        lost = stored.leased - stored.reported - stored.uncertain
        if lost <= 0:
            return stored
        step = int(clock.wall() // STEP_S)
        if self.timed:
            self._steps[step] = lost
        steps = (*stored.steps, (step * STEP_S, lost))
        return stored._replace(uncertain=stored.uncertain + lost, steps=steps)

    @property
    def total(self) -> int:
        """The most that the run may have spent, in all its lives."""
        return self.earlier.total + self.reported + self.uncertain

    @property
    def committed(self) -> int:
        """The same with what is in flight."""
        return self.total + self.reserved

    def covers(self, amount: int) -> bool:
        """Whether so much more may be reserved without another lease."""
        return self._store is None or self.committed + amount <= self._leased

    def take(self, amount: int) -> bool:
        """Reserve, unless a lease has to be thought of first."""
        if not self.covers(amount) or self.wants_lease(amount, None):
            return False
        self.reserved += amount
        self._granted += amount
        return True

    def reserve(self, amount: int) -> None:
        """A request is about to be sent."""
        self.reserved += amount
        self._granted += amount

    def release(self, amount: int) -> None:
        """It was not sent."""
        self.reserved -= amount

    def book(self, reported: int, uncertain: int = 0) -> None:
        """A request is over: so much it cost, or so much at most."""
        with self._lock:
            self.reported += reported
            self.uncertain += uncertain
            if self.timed and reported + uncertain:
                step = int(clock.wall() // STEP_S)
                self._steps[step] = self._steps.get(step, 0) + reported + uncertain

    # -- in the store

    def wants_lease(self, amount: int, most: int | None) -> bool:
        """Whether to lease more now: for a request of this size that waits, or (0) before the lease runs out."""
        if self._store is None or self._asked or self.failure is not None:
            return False
        if not amount and most is not None and self._leased >= most:
            return False
        return self.committed + amount + self._ahead() // 2 > self._leased

    def lease(self, amount: int, most: int | None, done: Callable[[], None]) -> None:
        """Make durable that the run may spend `amount` more than now, and some of what comes next.

        Args:
            amount: what is asked for.
            most: never lease above this; None for no ceiling.
            done: called from any thread when the lease stands, or failed.
        """
        assert self._store is not None
        with self._lock:
            wanted = self.committed + amount
            target = max(self._leased, wanted, wanted + self._ahead())
            if most is not None:
                target = max(self._leased, min(target, max(most, wanted)))
            self._asked, self._granted, self._since = target, 0, clock.now()
            record = self._record(target)

        def written(error: BaseException | None) -> None:
            with self._lock:
                self._asked = 0
                self.failure = error
                if error is None:
                    self._leased = max(self._leased, target)
            done()

        try:
            self._store.write([], written, record)
        except Exception as error:  # noqa: BLE001 - closed or broken: whoever waits for the lease must hear of it
            written(error)

    def _ahead(self) -> int:
        """What will be reserved in the next moments, if it goes on like this."""
        seconds = max(clock.now() - self._since, AHEAD_S)
        return int(self._granted * AHEAD_S / seconds)

    def record(self) -> Spent:
        """What the store should hold now, to be written along with finished rows."""
        with self._lock:
            return self._record(max(self._leased, self._asked))

    def close(self) -> None:
        """The run is over in this process: only what was spent stays leased."""
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
