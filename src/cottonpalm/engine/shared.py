"""What all processors of a process share: one ledger for each Budget object, one memory for each Cache object."""

from __future__ import annotations

import os
import threading
import weakref
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple
from weakref import WeakKeyDictionary

from cottonpalm.engine.gates.cache import SharedCache
from cottonpalm.request.money.ledger import Ledger
from cottonpalm.request.money.rules.amounts import Amounts
from cottonpalm.stores import database_of
from cottonpalm.types import PICO

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.config import Budget, Cache
    from cottonpalm.request.money.spending import Spending
    from cottonpalm.stores.sql.answers import Answers

_ledgers: WeakKeyDictionary[Budget, Ledger] = WeakKeyDictionary()


_caches: WeakKeyDictionary[Cache, tuple[int, SharedCache]] = WeakKeyDictionary()  # with the process id


lock = threading.Lock()  # for what the processors of this process share


class Lent(NamedTuple):
    """What a worker lends to runs that its rows begin: its money, and the word that it is to stop.

    Attributes:
        purse: money that the worker's run grants it; None: there is no budget.
        stops: called, each in the worker's loop, when nothing more is to begin.
    """

    purse: tuple[Ledger, Spending] | None
    stops: set[Callable[[], None]]


LENT: Final[ContextVar[Lent | None]] = ContextVar("cottonpalm_lent", default=None)


def ledger_of(budget: Budget | None) -> Ledger | None:
    """Return the ledger of a Budget object. All processors with this object share it."""
    if budget is None:
        return None
    with lock:
        if (ledger := _ledgers.get(budget)) is None:
            ledger = _ledgers[budget] = Ledger(limits_of(budget))
            budget.on_change(partial(_changed, weakref.ref(budget), ledger))
        return ledger


def limits_of(budget: Budget) -> Amounts:
    """Return what the budget allows, in pico-dollars."""
    return Amounts(_pico(budget.total), _pico(budget.per_hour), budget.on_exceed == "wait")


def _pico(dollars: float | None) -> int | None:
    return None if dollars is None else round(dollars * PICO)


def _changed(budget: weakref.ref[Budget], ledger: Ledger) -> None:
    if (now := budget()) is not None:
        ledger.limits = limits_of(now)


def memory_of(cache: Cache | None) -> SharedCache | None:
    """Return the memory of a Cache object. All processors with this object share it; a forked child has its own.

    Raises:
        StoreError: the file of the cache cannot be used; the error says why.
    """
    if cache is None:
        return None
    with lock:
        home, memory = _caches.get(cache, (0, None))
        if memory is None or home != os.getpid():
            memory = SharedCache(cache.max_entries, cache.ttl, _on_disk(cache))
            _caches[cache] = (os.getpid(), memory)
        return memory


def _on_disk(cache: Cache) -> Answers | None:
    database = None if cache.path is None else database_of(cache.path)
    if database is None:
        return None
    from cottonpalm.stores.sql.answers import Answers  # noqa: PLC0415 - only needed here

    return Answers(database, cache.ttl)
