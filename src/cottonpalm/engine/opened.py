"""Opens the run of a store for an engine, and lets go of it again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cottonpalm.engine.shared import memory_of
from cottonpalm.runtime.threads import running_loop
from cottonpalm.stores import is_in_memory, open_store, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.engine.chain_facts import ChainFacts
    from cottonpalm.protocols import RunStore
    from cottonpalm.settings import Settings


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


def go_on(settings: Settings, run_store: RunStore | None) -> str:
    """Tell the user how to go on after a run that stopped."""
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


async def on_a_thread(opening: Callable[[], Any], let_go: Callable[[Any], None]) -> Any:
    """Open the run on a thread. If the caller is cancelled or its loop is closed meanwhile, it is let go again."""
    loop = running_loop()

    def open_for_the_loop() -> Any:
        opened = opening()
        if loop.is_closed():
            let_go(opened)
        return opened

    def opened_in_vain(task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and task.exception() is None:
            let_go(task.result())

    task = asyncio.ensure_future(asyncio.to_thread(open_for_the_loop))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(opened_in_vain)
        raise


def _nothing() -> None:
    """Leave the store open, since it belongs to the caller."""


def _shown(store: object) -> str:
    return repr(shown(store)) if isinstance(store, str | Path) else repr(store)
