"""Which turnstiles share their limits with other processes: those of runs whose store is a file, while they last."""

from __future__ import annotations

import logging
import os
import threading
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from cottonpalm.faults import StoreError
from cottonpalm.request.leased import Leased
from cottonpalm.request.shapes import whose

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cottonpalm.request.turnstile import Turnstile
    from cottonpalm.request.turnstiles import Turnstiles
    from cottonpalm.stores.shares import Shares

log = logging.getLogger("cottonpalm")
_lock = threading.Lock()


class _Attached:
    """The turnstiles of one set of settings, and the shares that they take part in."""

    def __init__(self, shares: Shares, path: Path, most: int | None) -> None:
        self.path, self.runs = path, list[int]()
        self._shares, self._most = shares, most
        self._members: list[Leased] = []

    def join(self, turnstile: Turnstile) -> None:
        """Before anybody gets a permit there."""
        if (common := whose(turnstile.key)) is not None:
            member = Leased(turnstile, common, self._most, self.runs)
            self._members.append(member)
            self._shares.join(member)

    def start(self) -> None:
        """Renew the shares from now on."""
        self._shares.start()

    def leave(self) -> None:
        """Nobody uses these turnstiles through this store any more."""
        for member in self._members:
            self._shares.leave(member)
        self._shares.close()


_attached: WeakKeyDictionary[Turnstiles, _Attached] = WeakKeyDictionary()


def _forget() -> None:
    """In a forked child: the shares are the parent's."""
    global _lock  # noqa: PLW0603 - another thread of the parent may have held it
    _lock = threading.Lock()
    _attached.clear()


os.register_at_fork(after_in_child=_forget)


def begin(turnstiles: Turnstiles, path: Path, run: int, most: int | None = None) -> Callable[[], None]:
    """Let these turnstiles share their limits through this file while a run lasts; call what is returned at its end.

    Turnstiles that serve runs of several stores share through the first one's.

    Args:
        turnstiles: what the run's requests wait at.
        path: of the store.
        run: its number there.
        most: requests in flight, where the user named a number.
    """
    with _lock:
        attached = _attached.get(turnstiles)
        if attached is None:
            if (attached := _open(path, most)) is None:
                return _nothing
            attached.runs.append(run)
            _attached[turnstiles] = attached
            turnstiles.greet(attached.join)
            attached.start()
        elif attached.path != path:
            return _nothing
        else:
            attached.runs.append(run)
    return partial(_end, turnstiles, attached, run)


def _open(path: Path, most: int | None) -> _Attached | None:
    from cottonpalm.stores.shares import Shares  # noqa: PLC0415 - sqlite3 is only needed here

    try:
        return _Attached(Shares(path), path, most)
    except StoreError as exc:
        log.warning("limits are not shared with other processes: %s", exc)
        return None


def _end(turnstiles: Turnstiles, attached: _Attached, run: int) -> None:
    with _lock:
        if _attached.get(turnstiles) is not attached:  # a forked child
            return
        if attached.runs == [run]:
            turnstiles.greet(None)
            del _attached[turnstiles]
            attached.leave()
        else:
            attached.runs.remove(run)


def _nothing() -> None:
    """There is nothing to end."""
