"""Sends rows away from a provider that is down: a row that has a fallback chain does not wait for the provider.

Where the last fallback's provider is down as well, its rows go back to the first chain once one that they left answers.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from cottonpalm.providers import ProviderDown, dressed
from cottonpalm.runtime.wait_queue import RowClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cottonpalm.request.limiter.limiter import Limiter
    from cottonpalm.runtime.wait_queue import Place


class Leaver(Protocol):
    """The part of a row's stay at an endpoint that is needed here."""

    @property
    def left(self) -> bool:
        """Whether the row has gone to another endpoint."""


class Divertible(Protocol):
    """A row that may have another chain."""

    @property
    def closed(self) -> bool:
        """Whether the row has ended."""

    @property
    def stay(self) -> Leaver | None:
        """The row's stay, if there are several endpoints."""

    @property
    def replaceable(self) -> bool:
        """Whether another chain is left."""

    @property
    def divertible(self) -> bool:
        """Whether the row has another chain and may leave now."""


class Failover:
    """Keeps the requests of one run that wait in line and whose rows have another chain. Thread-safe."""

    def __init__(self) -> None:
        # key of the limiter -> places in its queue, with the row that leaves only if it may; None: it leaves
        self._places: dict[str, dict[Place, Divertible | None]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def lining_up(
        self, row: Divertible, limiter: Limiter, also: Callable[[Place], None] | None
    ) -> Iterator[Callable[[Place], None]]:
        """Yield a function to call with a place in line. If the provider goes down, the request leaves that place.

        Args:
            row: the row whose request waits.
            limiter: the limiter at which it waits.
            also: called with the place too.

        Raises:
            ProviderDown: the provider went down.
        """
        with self._lock:
            places = self._places.setdefault(limiter.key, {})
        mine: set[Place] = set()
        asks = None if row.replaceable else row

        def on_wait(place: Place) -> None:
            mine.add(place)
            if also is not None:
                also(place)
            with self._lock:
                places[place] = asks
            if limiter.shut and row.divertible:  # it may have gone down since we looked last
                place.abandon()

        try:
            yield on_wait
        except RowClosed as closed:
            if row.closed or (row.stay is not None and row.stay.left):
                raise
            raise down(limiter) from closed
        finally:
            with self._lock:
                for place in mine:
                    places.pop(place, None)

    def send_away(self, key: str) -> None:
        """The provider is down: make the rows that wait there go to another chain."""
        with self._lock:
            places = tuple(self._places.get(key, {}).items())
        for place, row in places:
            if row is None or row.divertible:
                place.abandon()


def check_up(limiter: Limiter) -> None:
    """Return if a request may be sent, or may wait in line, at this limiter.

    Raises:
        ProviderDown: the provider counts as down, and this request is not the probe that finds out if it still is.
    """
    if limiter.shut:
        raise down(limiter)


def down(limiter: Limiter) -> ProviderDown:
    """Return the exception, with its message, for a request that is not sent; it counts as a transient fault."""
    name = limiter.key.partition("#")[0]
    return dressed(
        ProviderDown, f"{name} is down: one request in a while is tried there, this one was not sent"
    )
