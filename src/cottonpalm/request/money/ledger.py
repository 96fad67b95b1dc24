"""Keeps the money reserved and spent. A request is sent only if the most it can cost still fits under the limit."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakSet

from cottonpalm import clock
from cottonpalm.request.money.rules.amounts import Amounts
from cottonpalm.request.money.rules.grants import Ask, Grant
from cottonpalm.request.money.spending import Spending
from cottonpalm.request.money.sums import Sums
from cottonpalm.runtime.wait_queue import Place, Waiter, WaitQueue
from cottonpalm.types import PICO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from cottonpalm.protocols import Spent

# far from a limit = room for so many bounds: all requests in flight can have their whole bound
FAR: Final = 1_000


class Wanted(NamedTuple):
    """One request for money, and the account that it goes to."""

    ask: Ask
    account: Spending


class Ledger(Sums, WaitQueue[int]):
    """Books integer pico-dollars for tasks and threads, each booking in one step. A grant is an amount; 0 means no.

    `spent + reserved` never exceeds a limit, unless `settle` reports more than was reserved or a limit is
    lowered. If a request does not fit, it waits in line (by `ageing_key`) as long as settled reservations, or
    time, may free the missing money; if they cannot, the answer is no. A small request never overtakes a large
    one that waits.

    Attributes:
        waiting: tasks and threads in line.
    """

    def __init__(self, limits: Amounts | int | None) -> None:
        WaitQueue.__init__(self)
        Sums.__init__(self, limits if isinstance(limits, Amounts) else Amounts(limits))
        self._accounts: WeakSet[Spending] = WeakSet()  # the accounts of the runs
        self._own = Spending()  # the account of requests that name none
        self._counted: dict[str, int] = {}  # how much of each attached run's spending is in `spent`
        self._short: list[Wanted] = []  # requests that wait for a lease

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """The lock that every change of the sums holds."""
        return self._lock

    @property
    def limits(self) -> Amounts:
        """The limits. If you set them, the ledger wakes waiters that now fit, and refuses those that never will."""
        return self._limits

    @limits.setter
    def limits(self, limits: Amounts) -> None:
        with self._lock:
            self._limits, self._plain = limits, limits.plain
            for account in self._accounts:
                account.alarm = 0
            served, alerted = self._serve_all()
        self._tell(served, alerted)

    def attach(self, account: Spending) -> None:
        """A run begins. Count what earlier processes have spent for it, once per run."""
        self._accounts.add(account)
        if not (earlier := account.earlier).account:
            return
        with self._lock:
            new = max(0, earlier.total - self._counted.get(earlier.account, 0))
            self._counted[earlier.account] = earlier.total
            self.spent += new
            self._likely.by_others(new)
            limit = self._limits.per_hour
            if limit is not None and new == earlier.total:
                now = clock.wall()
                age_s = now - clock.now()
                # A stamp of the future is one of a clock that was wrong: until it came, nothing could be spent.
                self._hour.load(((min(wall, now) - age_s, pico) for wall, pico in earlier.steps), limit)

    def take(self, amount: int, account: Spending) -> bool:
        """Reserve this amount if all limits are far, so that nobody shares or waits; False: use `try_grant`.

        This is the fast path for all but the last requests of a run.
        """
        with self._lock:
            if self.spent + self.reserved + FAR * amount > self._plain or self.waiting:
                return False
            if not account.lasting:
                account.reserved += amount
            elif not account.take(amount):
                return False
            self.reserved += amount
            self.in_flight += 1
            return True

    def try_grant(self, ask: Ask | int, priority: float = 0, account: Spending | None = None) -> int | Grant:
        """Reserve what fits, unless somebody before us in line waits. Never blocks; an amount must be settled."""
        wanted = self._wanted(ask, account)
        with self._lock:
            if self.waiting and not self._goes_before_all(priority):
                again_s = self._again_s  # it belongs to the first in line
                answer: int | Grant = self._decide(wanted.ask)
                answer = answer if answer is Grant.STOP else Grant.WAIT
                self._again_s = again_s
            else:
                answer = self._take(wanted)
        if self._short:
            self._lease()
        return answer

    async def agrant(self, ask: Ask | int, priority: float = 0, account: Spending | None = None) -> int:
        """Reserve money, and wait as a task if needed. Return the amount, or 0 if the money is spent.

        If the task is cancelled, at any moment, nothing stays reserved.
        """
        answer = self.try_grant(ask, priority, account)
        if answer is Grant.WAIT:
            return await self._wait_in_task(priority, self._wanted(ask, account))
        return 0 if isinstance(answer, Grant) else answer

    def grant(
        self,
        ask: Ask | int,
        priority: float = 0,
        on_wait: Callable[[Waiter], None] | None = None,
        account: Spending | None = None,
    ) -> int:
        """Reserve money, and block this thread if needed. Return the amount, or 0 if the money is spent.

        Args:
            ask: the most the request can cost.
            priority: higher goes first.
            on_wait: called with the `Waiter` before the thread waits; not called if the answer is known at once.
            account: the run's account.

        Raises:
            RowClosed: the row was closed and called `abandon` on the waiter.
        """
        answer = self.try_grant(ask, priority, account)
        if answer is Grant.WAIT:
            return self._wait_in_thread(priority, self._wanted(ask, account), on_wait)
        return 0 if isinstance(answer, Grant) else answer

    def lease_now(self, ask: Ask, account: Spending) -> None:
        """Block until the run's lease covers a request of this size: for a thread that must not wait in line."""
        if not account.covers(ask.most):
            stands = threading.Event()
            with self._lock:
                most = self._leasable(account.committed)
            account.lease(ask.most, most, stands.set)
            stands.wait()

    def record(self, account: Spending) -> Spent | None:
        """Return what the store should hold of this account now: if we are killed, the whole lease counts as spent."""
        with self._lock:
            account.lower_lease()
            return account.record()

    def give_back(self, account: Spending) -> None:
        """Store that a lease is needed no more which a rush has left, if it is large; no row may be about to say so."""
        with self._lock:
            record = account.given_back()
        if record is not None:
            account.note(record)

    def lendable(self, least: int, most: int) -> int:
        """Return how much of this may be one lump: a budget that is spent evenly is not lent ahead of its pace."""
        _, per_hour, wait = self._limits
        if per_hour is None or not wait:
            return most
        with self._lock:
            return min(most, max(least, self._hour.even(self._pending(), clock.now(), per_hour)))

    def lend(self, amount: int) -> None:
        """What was granted is a lump for another process: it is no request, and is settled in parts."""
        with self._lock:
            self.in_flight -= amount > 0
            self._likely.lend(amount)

    def end_loan(self, amount: int, spent: int) -> None:
        """A part of a lump is lent no more, and was spent so far: it is settled next, as a request is."""
        with self._lock:
            self.in_flight += amount > 0
            self._likely.end_loan(amount, spent)

    def at_rest(self, account: Spending) -> Spent | None:
        """Return the same where nothing is in flight, without what was leased for the next moments."""
        with self._lock:
            account.rest()
            return account.record()

    def settle(
        self,
        amount: int,
        reported: int,
        uncertain: int = 0,
        account: Spending | None = None,
        *,
        requests: int = 1,
    ) -> bool:
        """Release a reservation and book what was spent. Return whether the account's alarm is reached.

        Args:
            amount: what was reserved.
            reported: what the request cost; 0 if it was never sent.
            uncertain: the most it may have cost, if the provider did not report its usage.
            account: of the run.
            requests: how many it was: a batch is settled in one; 0 for a part of a lump.
        """
        account, cost = account or self._own, reported + uncertain
        with self._lock:
            self.reserved -= amount
            self.in_flight -= amount > 0
            account.reserved -= amount
            if account.timed:
                account.book(reported, uncertain)
            else:
                account.reported += reported
                account.uncertain += uncertain
            if cost:
                self.spent += cost
                self._likely.requests += requests
                if cost > amount:
                    self.overshoot += cost - amount
                if account.lasting or self._plain < 0:
                    self._book(account, cost)
            alarm = self.spent >= account.alarm
            if not (self.waiting or self._lost):
                return alarm
            served, alerted = self._serve_all()
        self._tell(served, alerted)
        return alarm

    def _book(self, account: Spending, cost: int) -> None:
        """Note the cost for its run if the run's spending is stored, and its time if there is an hourly limit."""
        if name := account.earlier.account:
            self._counted[name] = self._counted.get(name, 0) + cost
        if self._limits.per_hour is not None:
            self._hour.add(cost, clock.now(), self._limits.per_hour)

    def hold(self, amount: int, account: Spending) -> None:
        """Set aside what is on its way already, whatever the ceiling says: a batch that is out, as one request."""
        with self._lock:
            self.reserved += amount
            self.in_flight += amount > 0
            account.reserve(amount)

    def share(self) -> float:
        """Return the share of the budget that is spent, from 0 to 1; 0 if no limit can stop the run."""
        total, per_hour, wait = self._limits
        if total is not None:
            return self.spent / total if total else 1.0
        if per_hour is None or wait:
            return 0.0
        with self._lock:
            return self._hour.used(clock.now()) / max(1, per_hour)

    def set_alarm(self, account: Spending, share: float) -> None:
        """Make `settle` tell when this share of the budget is spent; under an hourly limit, it tells every time."""
        with self._lock:
            account.alarm = int(min(share, 2.0) * self._plain) if self._plain >= 0 else 0

    def left(self) -> int | None:
        """Return what is neither spent nor reserved now; None without a limit."""
        with self._lock:
            return self._room().now

    def unspent(self) -> int | None:
        """Return what is not spent: what is left once nothing is in flight; None without a limit."""
        with self._lock:
            return self._room().ever

    @property
    def full(self) -> bool:
        """Whether the first in line waits for money that is reserved; a lease being written down comes by itself."""
        with self._lock:
            ask = self._first_ask()
            again_s = self._again_s
            short = ask is not None and self._decide(ask.ask) is Grant.WAIT
            self._again_s = again_s
        return short

    def __repr__(self) -> str:
        total = self._limits.total
        of = "no ceiling" if total is None else f"${total / PICO:.6f}"
        text = f"<Ledger ${self.spent / PICO:.6f} spent + ${self.reserved / PICO:.6f} reserved of {of}"
        return text + f", {self.waiting} waiting>"

    # -- called with the lock

    def _wanted(self, ask: Ask | int, account: Spending | None) -> Wanted:
        ask = ask if isinstance(ask, Ask) else Ask(ask, ask)
        return Wanted(ask, account or self._own)

    def _take(self, wanted: Wanted) -> int | Grant:
        """Reserve for one request, if its money is there and the run's lease covers it."""
        answer = self._decide(wanted.ask)
        if isinstance(answer, Grant):
            return answer
        account = wanted.account
        if wanted.ask.batched and account.failure is None:
            account.set_aside(answer)
        elif not account.covers(answer):
            if account.refuses(answer):
                return Grant.STOP
            self._short.append(wanted)
            return Grant.WAIT
        else:
            if account.wants_lease(0, self._leasable(account.committed)):
                self._short.append(Wanted(Ask(0, 0), account))
            account.reserve(answer)
        self.reserved += answer
        self.in_flight += answer > 0
        return answer

    def _offer(self, ask: Wanted) -> int | None:
        answer = self._take(ask)
        if answer is Grant.WAIT:
            return None
        return 0 if isinstance(answer, Grant) else answer

    def _take_back(self, prize: int, ask: Wanted) -> None:
        self.reserved -= prize
        self.in_flight -= prize > 0
        ask.account.release(prize)

    def _look_again_s(self) -> float | None:
        return self._again_s

    def _serve_all(self) -> tuple[list[Place], list[Place]]:
        """Serve the line. Return the places served, and the places that must set a timer for the next one."""
        served = self._serve()
        alerted = self._who_must_look_again() if self.waiting and self._again_s is not None else []
        return served, alerted

    # -- called without the lock

    def _tell(self, served: list[Place], alerted: list[Place]) -> None:
        self._wake(served)
        self._alert(alerted)

    def _wake(self, served: Iterable[Place]) -> None:
        super()._wake(served)
        if self._short:
            self._lease()

    def _lease(self) -> None:
        """Lease money for all requests that wait for a lease, with one write per run at a time."""
        with self._lock:
            short, self._short = self._short, []
        for ask, account in short:
            with self._lock:
                most = self._leasable(account.committed)
                # It gets no more than the limits leave, and who is killed would have spent the rest.
                amount = ask.most if most is None else min(ask.most, most - account.committed)
            if account.wants_lease(amount, most):
                account.lease(amount, most, self._leased)

    def _leased(self) -> None:
        """A lease is durable, or has failed: serve those who may go now."""
        with self._lock:
            served, alerted = self._serve_all()
        self._tell(served, alerted)
