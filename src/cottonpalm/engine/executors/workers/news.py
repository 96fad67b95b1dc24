"""What workers measured and met with, told in the run that they work for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cottonpalm.events import Binding, Unreachable

if TYPE_CHECKING:
    from cottonpalm.engine.executors.workers.links import Heard
    from cottonpalm.engine.executors.workers.mate import Mate
    from cottonpalm.events import Event
    from cottonpalm.request.run_account import RunAccount


class News:
    """Passes it on to those who count and tell in this run."""

    def __init__(self, account: RunAccount) -> None:
        self._account = account
        self._unreachable: set[str] = set()  # reasons that were told

    def pass_on(self, mate: Mate, heard: Heard) -> None:
        """Tell what a worker has measured and met with."""
        measure = self._account.measure
        for name, values, more in heard.measures if measure is not None else ():
            getattr(measure, name)(*values, **more)
        self._account.transports.add(heard.transports)
        for topic, text in heard.warnings:
            self._account.alerts.warn(topic, text)
        for event in heard.events:
            self._hear(mate, event)

    def _hear(self, mate: Mate, event: Event) -> None:
        """Pass on what a worker's requests met with; how it stands is told of all workers together."""
        if isinstance(event, Binding):
            mate.binding = event
        elif not isinstance(event, Unreachable) or event.reason not in self._unreachable:
            self._account.alerts.tell(event)
        if isinstance(event, Unreachable):
            self._unreachable.add(event.reason)
