"""Rows that another chain could answer do not wait for a provider that is down: they go to their fallback."""

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
    """A row's stay at one of several endpoints, as far as it matters here."""

    @property
    def left(self) -> bool:
        """The row has gone to another endpoint."""


class Divertible(Protocol):
    """A row that may have another chain to go to."""

    @property
    def closed(self) -> bool:
        """The row is over."""

    @property
    def stay(self) -> Leaver | None:
        """Where it is, if there are several endpoints."""

    @property
    def divertible(self) -> bool:
        """It has another chain to go to, and may leave now."""


class Failover:
    """The requests of one run that wait in line, and whose rows have another chain left. Thread-safe."""

    def __init__(self) -> None:
        self._places: dict[str, set[Place]] = {}  # by key of the limiter
        self._lock = threading.Lock()

    @contextmanager
    def lining_up(
        self, row: Divertible, limiter: Limiter, also: Callable[[Place], None] | None
    ) -> Iterator[Callable[[Place], None]]:
        """Gives what to call with a place in line, so that it is left when the provider turns out to be down.

        Args:
            row: whose request waits.
            limiter: where.
            also: told of the place too.

        Raises:
            ProviderDown: it did.
        """
        with self._lock:
            places = self._places.setdefault(limiter.key, set())
        mine: set[Place] = set()

        def on_wait(place: Place) -> None:
            mine.add(place)
            if also is not None:
                also(place)
            with self._lock:
                places.add(place)
            if limiter.shut and row.divertible:  # since it was looked at last
                place.abandon()

        try:
            yield on_wait
        except RowClosed as closed:
            if row.closed or (row.stay is not None and row.stay.left):
                raise
            raise down(limiter) from closed
        finally:
            with self._lock:
                places -= mine

    def send_away(self, key: str) -> None:
        """The provider is down: whoever waits there goes to another chain."""
        with self._lock:
            places = tuple(self._places.get(key, ()))
        for place in places:
            place.abandon()


def check_up(limiter: Limiter) -> None:
    """A request may be sent there, or wait its turn.

    Raises:
        ProviderDown: it counts as dead, and this is not the request that finds out whether it still is.
    """
    if limiter.shut:
        raise down(limiter)


def down(limiter: Limiter) -> ProviderDown:
    """What a request comes to that is not sent, in words; a transient fault."""
    name = limiter.key.partition("#")[0]
    return dressed(
        ProviderDown, f"{name} is down: one request in a while is tried there, this one was not sent"
    )
