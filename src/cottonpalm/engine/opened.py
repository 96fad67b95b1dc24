"""Opens the run of a store for an engine, and lets go of it again."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from cottonpalm.engine.shared import memory_of
from cottonpalm.runtime.threads import running_loop
from cottonpalm.stores import is_in_memory, open_store, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.engine.chain_facts import ChainFacts
    from cottonpalm.protocols import RunStore
    from cottonpalm.settings import Settings

T = TypeVar("T")


class Opened(NamedTuple):
    """A run of a store, and the function that releases the store when the run ends."""

    run: RunStore
    release: Callable[[], None]


def let_go(opened: Opened | None) -> None:
    """Close a run that was opened for an engine, if making the engine failed."""
    if opened is not None:
        try:
            opened.run.close()
        finally:
            opened.release()


def open_run(settings: Settings, facts: ChainFacts) -> Opened | None:
    """Open the run in the store and take its lease; return None if results are kept in memory.

    Raises:
        StoreError: see `Store.open_run`; or the file of the cache cannot be used.
    """
    memory_of(settings.cache)  # opened here: we may be on a thread, and hold no lease of the run yet
    if settings.store is None:
        return None
    assert settings.run is not None
    store = open_store(settings.store)
    release: Callable[[], None] = _nothing if store is settings.store else store.close
    try:
        return Opened(store.open_run(settings.run, facts.description), release)
    except BaseException:
        release()
        raise


def go_on(settings: Settings, run_store: RunStore | None, *, cached: bool) -> str:
    """Tell the user how to go on after a run that stopped; `cached`: a cache on disk keeps its answers."""
    if run_store is None and cached:
        return (
            "The outcomes so far were handed out, and what was answered is kept in the cache: "
            "the same call again pays for the rest alone."
        )
    if run_store is None:
        return (
            "The outcomes so far were handed out (after batch: processor.last_run.outcomes()); with store= and "
            "run= they would be kept."
        )
    if is_in_memory(settings.store):
        return (
            f"What is done is kept in memory alone, run {run_store.name!r}: "
            "the same call again, in this process, does the rest."
        )
    return (
        f"What is done is kept in {_shown(settings.store)}, run {run_store.name!r}: "
        "the same call again does the rest."
    )


class _HandOver(Generic[T]):
    """Opens on a thread for a caller who may have left by then: whichever of the two is the later lets go of it again.

    It goes by no callback of the loop and no task: `asyncio.run` cancels all tasks when an exception leaves it, as one
    that a signal handler raises does, and closes its loop.
    """

    def __init__(self, opening: Callable[[], T], let_go: Callable[[T], None]) -> None:
        self._opening, self._let_go = opening, let_go
        self._loop = running_loop()
        self._lock = threading.Lock()
        self._opened: list[T] = []
        self._left = False

    def open(self) -> T:
        """Open; on the thread."""
        opened = self._opening()
        with self._lock:
            self._opened.append(opened)
        if self._left or self._loop.is_closed():
            self._drop()
        return opened

    def leave(self) -> None:
        """Take nothing: the caller is on its way out."""
        self._left = True
        self._drop()

    def _drop(self) -> None:
        with self._lock:
            dropped, self._opened = self._opened, []
        for opened in dropped:
            self._let_go(opened)


async def on_a_thread(opening: Callable[[], T], let_go: Callable[[T], None]) -> T:
    """Open the run on a thread. If the caller leaves or its loop is closed meanwhile, it is let go again."""
    over = _HandOver(opening, let_go)
    try:
        return await asyncio.to_thread(over.open)
    except BaseException:
        over.leave()
        raise


def _nothing() -> None:
    """Leave the store open, since it belongs to the caller."""


def _shown(store: object) -> str:
    return repr(shown(store)) if isinstance(store, str | Path) else repr(store)
