"""Warns of a row that costs many times what others cost: it may be a mistake, and its user can still stop the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cottonpalm.events import CostSpike, Event
from cottonpalm.observers.told import Told
from cottonpalm.request.money.rules.alarms import Spikes
from cottonpalm.types import PICO

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class DearRows:
    """It looks on like an observer, as many rows seen at once cost less than each by itself.

    Args:
        emit: called with each warning.
    """

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self._spikes = Spikes()

    def see(self, event: Event) -> None:
        """See `see_all`."""
        self.see_all([(0.0, event)])

    def see_all(self, events: Sequence[tuple[float, Event]]) -> None:
        """Compare each row that was paid for now with those before it."""
        ended = [event.outcome for _, event in Told.of(events).kinds.finished]
        paid = [
            (outcome.index, cost) for outcome in ended if not outcome.stored and (cost := outcome.cost_pico)
        ]
        for at, median in self._spikes.found([cost for _, cost in paid]) if paid else ():
            index, cost = paid[at]
            self._emit(CostSpike(index, cost / PICO, median / PICO))
