"""Where a run meets the other processes of its store: it takes their orders, and shows them how it stands.

A thread asks the store twice a second, so the run's loop never waits for a disk. Nobody looks on most of the time; then
a turn is one row that is read. The orders are a state, not a list of commands: what was not asked is left as the user's
own code set it, and an order given twice is the same order.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from cottonpalm import clock
from cottonpalm.errors import StoreError
from cottonpalm.store_extras import Orders

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.store_extras import TakesOrders

EVERY_S: Final = 0.5
CANCELLED: Final = "it was cancelled from the live page"
NOTHING: Final = b"null"  # as what is shown, which is JSON
log = logging.getLogger("cottonpalm")


@dataclass(frozen=True, slots=True)
class Handles:
    """What can be asked of a run, and how it says where it stands; each may be used from any thread.

    Attributes:
        own_cap: the cap without an order.
    """

    own_cap: int | None
    hold: Callable[[bool], None]
    cap: Callable[[int | None], None]
    stop: Callable[[], None]
    says: Callable[[], dict[str, Any]]


class OrderDesk:
    """One run's desk. `open` and `close` it with the run."""

    def __init__(self, store: TakesOrders, handles: Handles) -> None:
        self._store, self._handles = store, handles
        self._done, self._has_shown = Orders(), False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="cottonpalm-desk", daemon=True)

    def open(self) -> None:
        """Take orders from now on."""
        self._thread.start()

    def close(self) -> None:
        """Take none any more; when this returns, the store is not used any more.

        What was shown is taken back: it says that the run goes on, and could be newer than what is kept of its end.
        """
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._has_shown:
            with suppress(StoreError):
                self._store.show(NOTHING)

    def _work(self) -> None:
        while not self._over.wait(EVERY_S):
            try:
                self._turn()
            except StoreError:
                continue  # it may be locked for a moment; the next write of rows reports what lasts
            except Exception:
                log.exception("the run takes no more orders from other processes")
                return

    def _turn(self) -> None:
        asked, before = self._store.orders(), self._done
        self._done = asked
        if asked.held != before.held:
            self._handles.hold(asked.held)
        if asked.most != before.most:
            self._handles.cap(self._handles.own_cap if asked.most is None else asked.most)
        if asked.stop and not before.stop:
            self._handles.stop()
        if asked.watched > clock.wall():
            self._has_shown = True
            self._store.show(orjson.dumps(self._handles.says(), default=str))
