"""Rows that another chain could answer do not wait for a provider that is down: they go to their fallback."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cottonpalm.providers import ProviderDown, dressed
from cottonpalm.request.waiting import RowClosed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cottonpalm.request.account import RowAccount
    from cottonpalm.request.turnstile import Turnstile
    from cottonpalm.request.waiting import Place


class Diversion:
    """The requests of one run that wait in line, and whose rows have another chain left. Thread-safe."""

    def __init__(self) -> None:
        self._places: dict[str, set[Place]] = {}  # by key of the turnstile
        self._lock = threading.Lock()

    @contextmanager
    def lining_up(self, row: RowAccount, turnstile: Turnstile) -> Iterator[set[Place]]:
        """Gives where to put the place in line, so that it is left when the provider turns out to be down.

        Raises:
            ProviderDown: it did.
        """
        with self._lock:
            places = self._places.setdefault(turnstile.key, set())
        mine: set[Place] = set()
        try:
            yield mine
        except RowClosed as closed:
            if row.closed or not mine or (row.stay is not None and row.stay.left):
                raise
            raise down(turnstile) from closed
        finally:
            with self._lock:
                places -= mine

    def enter(self, turnstile: Turnstile, place: Place) -> None:
        """This place is in line now."""
        with self._lock:
            self._places[turnstile.key].add(place)
        if turnstile.shut:  # since it was looked at last
            place.abandon()

    def send_away(self, key: str) -> None:
        """The provider is down: whoever waits there goes to another chain."""
        with self._lock:
            places = tuple(self._places.get(key, ()))
        for place in places:
            place.abandon()


def check_up(turnstile: Turnstile) -> None:
    """A request may be sent there, or wait its turn.

    Raises:
        ProviderDown: it counts as dead, and this is not the request that finds out whether it still is.
    """
    if turnstile.shut:
        raise down(turnstile)


def down(turnstile: Turnstile) -> ProviderDown:
    """What a request comes to that is not sent, in words; a transient fault."""
    name = turnstile.key.partition("#")[0]
    return dressed(
        ProviderDown, f"{name} is down: one request in a while is tried there, this one was not sent"
    )
