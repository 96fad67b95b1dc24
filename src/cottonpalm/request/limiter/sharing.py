"""Lets a run's limiters share their limits with other processes, while its store is a database and the run lasts."""

from __future__ import annotations

import logging
import os
import threading
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from cottonpalm.errors import StoreError
from cottonpalm.providers.call import whose
from cottonpalm.request.limiter.portions import Leased

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.request.limiter.limiter import Limiter
    from cottonpalm.request.limiter.limiters import Limiters
    from cottonpalm.stores.sql.database import Database
    from cottonpalm.stores.sql.shares import Shares

log = logging.getLogger("cottonpalm")
_lock = threading.Lock()


class _Attached:
    """The limiters of one set of settings, and the shares that they take part in."""

    def __init__(self, shares: Shares, place: Database, most: int | None) -> None:
        self.place, self.runs = place, list[int]()
        self._shares, self._most = shares, most
        self._members: list[Leased] = []

    def join(self, limiter: Limiter) -> None:
        """Before anybody gets a permit there."""
        if (common := whose(limiter.key)) is not None:
            member = Leased(limiter, common, self._most, self.runs)
            self._members.append(member)
            self._shares.join(member)

    def start(self) -> None:
        """Renew the shares from now on."""
        self._shares.start()

    def leave(self) -> None:
        """Nobody uses these limiters through this store any more."""
        for member in self._members:
            self._shares.leave(member)
        self._shares.close()


_attached: WeakKeyDictionary[Limiters, _Attached] = WeakKeyDictionary()


def _forget() -> None:
    """In a forked child: the shares are the parent's."""
    global _lock  # noqa: PLW0603 - another thread of the parent may have held it
    _lock = threading.Lock()
    _attached.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def begin(
    limiters: Limiters, place: Database, run: int, most: int | None = None, *, must: bool = False
) -> Callable[[], None]:
    """Let these limiters share their limits through this database while a run lasts; call what is returned at its end.

    Limiters that serve runs of several stores share through the first one's.

    Args:
        limiters: what the run's requests wait at.
        place: the store's database.
        run: its number there.
        most: requests in flight, where the user named a number.
        must: True: without shares, this process would use limits that others have.

    Raises:
        StoreError: the shares that must be there are not.
    """
    with _lock:
        attached = _attached.get(limiters)
        if attached is None:
            if (attached := _open(place, most, must=must)) is None:
                return _nothing
            attached.runs.append(run)
            _attached[limiters] = attached
            limiters.greet(attached.join)
            attached.start()
        elif attached.place != place:
            return _nothing
        else:
            attached.runs.append(run)
    return partial(_end, limiters, attached, run)


def _open(place: Database, most: int | None, *, must: bool) -> _Attached | None:
    from cottonpalm.stores.sql.shares import Shares  # noqa: PLC0415 - only needed here

    try:
        return _Attached(Shares(place), place, most)
    except StoreError as exc:
        if must:
            raise
        log.warning("limits are not shared with other processes: %s", exc)
        return None


def _end(limiters: Limiters, attached: _Attached, run: int) -> None:
    with _lock:
        if _attached.get(limiters) is not attached:  # a forked child
            return
        if attached.runs == [run]:
            limiters.greet(None)
            del _attached[limiters]
            attached.leave()
        else:
            attached.runs.remove(run)


def _nothing() -> None:
    """There is nothing to end."""
