"""Money for requests that another process sends: the ledger grants it in lumps, and books what becomes of them.

The process that holds the budget grants a lump as it would grant it to a request of its own, so all limits hold. The
worker spends it request by request. What it does not need it gives back; what a dead worker held counts as spent.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, NamedTuple

from cottonpalm import clock
from cottonpalm.errors import CottonpalmError
from cottonpalm.request.money.ledger import Ledger
from cottonpalm.request.money.rules.amounts import Amounts
from cottonpalm.request.money.rules.grants import Ask
from cottonpalm.request.money.spending import Spending

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT_S: Final = 1.0  # money for the next requests is kept so long after it was asked for
NO_LIMIT: Final = 1 << 62  # pico-dollars: the worker's own ledger limits nothing, its lumps do


class NoMoreMoney(CottonpalmError):
    """The budget grants a worker nothing more, or not as much as a request needs."""


class MoneyAsked(NamedTuple):
    """A worker asks for money, in pico-dollars.

    Attributes:
        least: what the request that waits needs; 0 if none waits yet.
        most: the same and some more for the next requests.
    """

    least: int
    most: int


class MoneyTold(NamedTuple):
    """What a worker has to say of money since it last said something.

    Attributes:
        reported, uncertain: what it spent.
        back: what it does not need of what it was lent.
        asked: what it asks for.
        reserved: what it holds for requests that are not over.
    """

    reported: int = 0
    uncertain: int = 0
    back: int = 0
    asked: MoneyAsked | None = None
    reserved: int = 0


class Purse(Spending):
    """The account of a worker's run: requests may reserve as much as its lumps hold. See `Spending`.

    Args:
        ledger: the worker's own; its lock holds every change of the sums.
        wake: called, from any thread, when there is something to say of money.
    """

    lent = True

    def __init__(self, ledger: Ledger, wake: Callable[[], None]) -> None:
        super().__init__()
        self.lasting, self._ledger = True, ledger
        self._wake = wake
        self._wants: MoneyAsked | None = None
        self._needed = 0  # by the request that what was asked last is for
        self._least_refused = 0  # what a request needed that was refused since a lump came
        self._dones: list[Callable[[], None]] = []
        self._said = (0, 0)
        self._blocked = False  # a request waits for an answer to what was asked
        self._held = threading.RLock()

    def covers(self, amount: int) -> bool:
        """See `Spending`."""
        return self.committed + amount <= self._leased

    def wants_lease(self, amount: int, most: int | None) -> bool:  # noqa: ARG002 - the budget is not ours
        """See `Spending`."""
        if self._asked or self.failure is not None:
            return False
        return self.committed + amount + self._ahead() // 2 > self._leased

    def lease(self, amount: int, most: int | None, done: Callable[[], None]) -> None:  # noqa: ARG002
        """Ask for so much, and some money for the next requests; `done` is called when it is there, or refused."""
        with self._held:
            ahead = self._ahead()
            self._dones.append(done)
            self._wants, self._needed = MoneyAsked(amount, amount + ahead), amount
            self._asked = 1
            self._measure_anew()
        self._wake()

    def grant(self, amount: int, why: str = "") -> None:
        """The budget's answer to what was asked; 0: there is not enough for that, nor for what needs more, and why."""
        why = why or "what is left of the budget does not cover the request"
        self._answered(amount, refusal=None if amount else NoMoreMoney(why))

    def refuse(self, why: str) -> None:
        """There will be no more, for this reason."""
        self._answered(0, failure=NoMoreMoney(why))

    def _answered(
        self, amount: int, *, failure: NoMoreMoney | None = None, refusal: NoMoreMoney | None = None
    ) -> None:
        with self._ledger.lock, self._held:
            self._asked, self._blocked = 0, False
            self._leased += amount
            self.failure = failure or self.failure
            self.refusal, self._least_refused = refusal, self._needed
            dones, self._dones = self._dones, []
        for done in dones:
            done()

    def refuses(self, amount: int) -> bool:
        """See `Spending`."""
        return super().refuses(amount) or (self.refusal is not None and amount >= self._least_refused)

    def lower_lease(self) -> None:
        """See `Spending`: what is not needed goes back to who lent it, by `told` alone: else it would be lost."""

    def record(self) -> None:
        """See `Spending`: who lent it keeps what was spent. Here it is that of several runs, one for each file."""

    @property
    def asks(self) -> bool:
        """Whether there is something to ask for."""
        return self._wants is not None

    def told(self, *, idle: bool) -> MoneyTold:
        """What is to be said now: what was spent, what is not needed, what is asked for."""
        with self._ledger.lock, self._held:
            reported, uncertain = self.reported, self.uncertain
            asked, self._wants = self._wants, None
            unused = self._leased - self.committed
            if asked is not None:
                # what is left is too little for it, and may be enough for others
                self._blocked = asked.least > 0
            none_left = self.failure is not None or self.refusal is not None
            needless = idle or self._blocked or none_left or clock.now() - self._since > KEPT_S
            keep = 0 if needless else 2 * self._ahead()
            back = max(0, unused - keep)
            self._leased -= back
            spent = (reported - self._said[0], uncertain - self._said[1])
            self._said = (reported, uncertain)
            reserved = self.reserved
        return MoneyTold(*spent, back, asked, reserved)


class Lumps:
    """What one worker holds of a run's money, as the process with the budget sees it."""

    def __init__(
        self,
        ledger: Ledger | None,
        spending: Spending,
        workers: Callable[[], int],
        spent_more: Callable[[Ledger, Spending], None] = lambda *_: None,
    ) -> None:
        self._ledger, self._spending, self._workers = ledger, spending, workers
        self._spent_more = spent_more
        self.held = 0

    def book(self, told: MoneyTold) -> None:
        """Book what the worker spent, and take back what it does not need."""
        if self._ledger is None:
            self._spending.book(told.reported, told.uncertain)
            return
        spent = told.reported + told.uncertain
        if spent:
            self._settle(min(spent, self.held), told.reported, told.uncertain)
        if told.back:
            self._settle(min(told.back, self.held), 0, 0)
        self._ledger.give_back(self._spending)

    async def grant(self, asked: MoneyAsked) -> int:
        """Return what it gets: at least what its request needs, once that is free; 0: it never will be.

        Near the limit, the workers share what is left, so no lump keeps the others from going on.
        """
        ledger = self._ledger
        assert ledger is not None
        slots = lambda: float(ledger.in_flight + 2 * self._workers())  # noqa: E731 - twice as many lumps as workers
        least = max(1, asked.least)
        most = ledger.lendable(least, max(1, asked.most))
        amount = await ledger.agrant(Ask(most, least, slots), 0, self._spending)
        ledger.lend(amount)
        self.held += amount
        return amount

    def over(self, told: MoneyTold) -> None:
        """The worker has said its last: what was granted meanwhile did not reach it, and its requests may be paid."""
        if self._ledger is not None and (unheard := self.held - told.reserved) > 0:
            self._settle(unheard, 0, 0)
        self.lost()

    def lost(self) -> None:
        """The worker died: it may have spent all that it held."""
        if self._ledger is not None and self.held:
            self._settle(self.held, 0, self.held)

    def _settle(self, amount: int, reported: int, uncertain: int) -> None:
        assert self._ledger is not None
        self.held -= amount
        self._ledger.end_loan(amount, reported + uncertain)
        if self._ledger.settle(amount, reported, uncertain, self._spending, requests=0):
            self._spent_more(self._ledger, self._spending)


def purse_and_ledger(wake: Callable[[], None]) -> tuple[Ledger, Purse]:
    """Return the ledger and the account of a worker's run."""
    ledger = Ledger(Amounts(NO_LIMIT))
    return ledger, Purse(ledger, wake)
