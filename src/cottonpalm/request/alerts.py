"""Whom the requests of one run tell: observers, the log once for each topic, and the run when it must stop."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from cottonpalm.events import BudgetShare
from cottonpalm.request.money.rules.alarms import Shares

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.events import Event
    from cottonpalm.request.money.ledger import Ledger
    from cottonpalm.request.money.spending import Spending
    from cottonpalm.types import Fault

log = logging.getLogger("cottonpalm")


class Alerts:
    """What is said of a run while it goes on. Thread-safe.

    Attributes:
        emit: takes events; None: nobody listens.
        stopped: the first fault that no row survives, met at the request level.
        on_stop: called from any thread, once, with that fault.
    """

    def __init__(self, emit: Callable[[Event], None] | None = None) -> None:
        self.emit = emit
        self.stopped: Fault | None = None
        self.on_stop: Callable[[Fault], None] = _ignore
        self._shares = Shares()
        self._said: set[str] = set()
        self._lock = threading.Lock()

    def spent_more(self, ledger: Ledger, spending: Spending) -> None:
        """A request was booked: tell of a share of the budget that is reached now."""
        if (share := ledger.share()) >= self._shares.next:
            self.tell_share(share, ledger)
        ledger.set_alarm(spending, self._shares.next)

    def tell_share(self, share: float, ledger: Ledger) -> None:
        """So much of the budget is spent: tell, where that passes a share that was not told yet."""
        if (told := self._shares.passed(share)) is None:
            return
        total, per_hour, _ = ledger.limits
        budget = total if total is not None else per_hour or 0
        self.tell(BudgetShare(told, round(ledger.share() * budget), budget))

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


def _ignore(fault: Any) -> None:
    pass
