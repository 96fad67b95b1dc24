"""The messages from the requests of a run: to observers, to the log once per topic, and to a run that must stop."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from cottonpalm.events import BudgetShare
from cottonpalm.request.money.rules.alarms import Shares
from cottonpalm.types import PICO

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.events import Event
    from cottonpalm.request.money.ledger import Ledger
    from cottonpalm.request.money.spending import Spending
    from cottonpalm.types import Fault

log = logging.getLogger("cottonpalm")


class Alerts:
    """Sends the messages of one run. Thread-safe.

    Attributes:
        emit: called with each event; None: nobody listens.
        stopped: the first fault at the request level that every further row would meet too.
        on_stop: called from any thread, once, with that fault.
        on_warn: called from any thread, with a topic and its text; it logs.
    """

    def __init__(self) -> None:
        self.emit: Callable[[Event], None] | None = None
        self.stopped: Fault | None = None
        self.on_stop: Callable[[Fault], None] = _ignore
        self.on_warn: Callable[[str, str], None] = _log
        self._shares = Shares()
        self._said: set[str] = set()
        self._lock = threading.Lock()

    def spent_more(self, ledger: Ledger, spending: Spending) -> None:
        """A request was booked: send an event if a share of the budget is reached now."""
        if (share := ledger.share()) >= self._shares.next:
            self.tell_share(share, ledger)
        ledger.set_alarm(spending, self._shares.next)

    def tell_share(self, share: float, ledger: Ledger) -> None:
        """This share of the budget is spent: send an event if it passes a share that was not told yet."""
        if (told := self._shares.passed(share)) is None:
            return
        total, per_hour, _ = ledger.limits
        budget = total if total is not None else per_hour or 0
        self.tell(BudgetShare(told, round(ledger.share() * budget) / PICO, budget / PICO))

    def stop(self, fault: Fault) -> None:
        """Every further row would meet this fault: tell the run, once."""
        with self._lock:
            if self.stopped is not None:
                return
            self.stopped = fault
        self.on_stop(fault)

    def warn(self, topic: str, text: str) -> None:
        """Log a text, once per run and topic."""
        with self._lock:
            if topic in self._said:
                return
            self._said.add(topic)
        self.on_warn(topic, text)

    def tell(self, event: Event) -> None:
        """Pass an event on if somebody listens."""
        if self.emit is not None:
            self.emit(event)


def _log(topic: str, text: str) -> None:  # noqa: ARG001 - a worker's run needs it
    log.warning(text)


def _ignore(fault: Any) -> None:
    pass
