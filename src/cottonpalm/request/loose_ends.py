"""What ends with a row, whatever it is at: open streams and permits, threads that wait in line or sleep."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cottonpalm.runtime.wait_queue import Waiter


class LooseEnds:
    """The loose ends of one row. Thread-safe. Who adds one looks afterwards whether the row has ended meanwhile."""

    __slots__ = ("_asleep", "_held", "_lock", "_parked")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: set[Any] = set()  # open streams and model permits: things with `drop()`
        self._parked: set[Waiter] = set()
        self._asleep: set[threading.Event] = set()

    def end(self) -> None:
        """Make waiting and sleeping threads leave, and drop what is open."""
        with self._lock:
            held, parked, asleep = list(self._held), list(self._parked), list(self._asleep)
            self._held.clear()
        for waiter in parked:
            waiter.abandon()
        for event in asleep:
            event.set()
        for thing in held:
            thing.drop()

    def hold(self, thing: Any) -> None:
        """This is open."""
        with self._lock:
            self._held.add(thing)

    def let_go(self, thing: Any) -> None:
        """It is no longer open."""
        with self._lock:
            self._held.discard(thing)

    def drain(self) -> None:
        """Read open sync streams to their ends."""
        with self._lock:
            streams = [thing for thing in self._held if hasattr(thing, "drain")]
        for stream in streams:
            stream.drain()

    def park(self, waiter: Waiter) -> None:
        """A thread waits in line."""
        with self._lock:
            self._parked.add(waiter)

    def unpark(self, waiters: Iterable[Waiter]) -> None:
        """It waits no more."""
        with self._lock:
            self._parked.difference_update(waiters)

    def asleep(self) -> threading.Event:
        """A thread sleeps until this event is set, or until it has slept enough."""
        event = threading.Event()
        with self._lock:
            self._asleep.add(event)
        return event

    def awake(self, event: threading.Event) -> None:
        """It sleeps no more."""
        with self._lock:
            self._asleep.discard(event)
