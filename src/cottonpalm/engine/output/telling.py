"""Hands a run's events to its observers: one at a time, and to those that see groups in groups.

A row has three events. Between two of them the engine and the chain do so much else that an observer's code and data
have left the processor's caches, and cost several times what they cost where many events are seen one after the other.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from cottonpalm import clock
from cottonpalm.events import FREQUENT, Event
from cottonpalm.observers.told import Told
from cottonpalm.protocols import SeesGroups, SeesRuns

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from cottonpalm.protocols import Observer

log = logging.getLogger("cottonpalm")
GROUP: Final = 480  # events: of 48, most of the time went into fetching the observers' code
LATEST_S: Final = 0.1  # an event waits at most this long for others
_OFF: Final = "observer %r failed and is now switched off"


class Telling:
    """The observers of one run. It is called on the run's loop; before `open` and after `close` nothing waits."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._one_by_one: list[Observer] = []
        self._in_groups: list[SeesGroups] = []
        self._gathered = Told()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        for observer in observers:
            self.add(observer)

    def __bool__(self) -> bool:
        return bool(self._one_by_one or self._in_groups)

    def add(self, observer: Observer) -> None:
        """Tell this one as well, or the one that it makes for this run."""
        if isinstance(observer, SeesRuns):
            try:
                observer = observer.of_run()
            except Exception:
                log.exception(_OFF, observer)
                return
        if isinstance(observer, SeesGroups):
            self._in_groups.append(observer)
        else:
            self._one_by_one.append(observer)

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on events may wait for others."""
        self._loop = loop

    def close(self) -> None:
        """Hand over what waits; from now on nothing does."""
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()
        self._hand_over()

    def emit(self, event: Event) -> None:
        """Tell all observers of an event."""
        if self._one_by_one:
            for observer in tuple(self._one_by_one):
                _tell(self._one_by_one, observer, observer.see, event)
            if not self._in_groups:
                return
        gathered = self._gathered
        gathered.append((clock.wall(), event))
        if len(gathered) >= GROUP or type(event) not in FREQUENT or self._loop is None:
            self._hand_over()
        elif self._timer is None:
            self._timer = self._loop.call_later(LATEST_S, self._in_time)

    def _in_time(self) -> None:
        self._timer = None
        self._hand_over()

    def _hand_over(self) -> None:
        events, self._gathered = self._gathered, Told()
        for observer in tuple(self._in_groups) if events else ():
            _tell(self._in_groups, observer, observer.see_all, events)


def _tell(observers: list[Any], observer: Observer, see: Callable[[Any], None], what: Any) -> None:
    try:
        see(what)
    except KeyboardInterrupt:
        raise
    except BaseException:  # even SystemExit: an observer must not end a run
        observers.remove(observer)
        log.exception(_OFF, observer)
