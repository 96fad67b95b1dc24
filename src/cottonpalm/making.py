"""How a processor makes its runs: opens the store, puts the engine together, remembers the latest run."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from cottonpalm.engine.build import Builder, _on_a_thread, let_go
from cottonpalm.run import BaseRun
from cottonpalm.single import SingleCalls
from cottonpalm.stores import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_core.runnables import Runnable, RunnableConfig

    from cottonpalm.engine.build import Opened
    from cottonpalm.engine.engine import Engine
    from cottonpalm.settings import Settings

AnyRun = TypeVar("AnyRun", bound=BaseRun)


class Asked(NamedTuple):
    """The rows of a `batch`, and what their answers depend on besides."""

    rows: Any
    configs: list[RunnableConfig] | Callable[[Any], RunnableConfig] | None
    ids: Sequence[Any] | None
    kwargs: dict[str, Any]


class RunMaking(SingleCalls):
    """A chain with its settings, and the latest of its runs."""

    def __init__(self, chain: Runnable[Any, Any], settings: Settings) -> None:
        super().__init__(chain)
        self._settings = settings
        self._builder = Builder(chain, settings)
        self._last: Callable[[], BaseRun | None] = lambda: None
        self._asked: Asked | None = None  # of the latest batch, while nothing else came after it

    @property
    def last_run(self) -> BaseRun | None:
        """The latest run of many rows; None before the first, and once a run made by `start` was let go."""
        return self._last()

    def _engine(self, rows: Any, **more: Any) -> Engine:
        """An engine over these rows, in the store's run where there is one."""
        return self._made(self._builder.open_run(), rows, more)

    async def _aengine(self, rows: Any, **more: Any) -> Engine:
        """The same, with the store opened on a thread where that touches the disk."""
        store, cache = self._settings.store, self._settings.cache
        in_memory = store is None or isinstance(store, MemoryStore)
        if in_memory and (cache is None or cache.path is None):
            opened = self._builder.open_run()
        else:
            opened = await _on_a_thread(self._builder.open_run)
        return self._made(opened, rows, more)

    def _made(self, opened: Opened | None, rows: Any, more: dict[str, Any]) -> Engine:
        """An engine; where the call cannot be right, the run it opened is free for the next one."""
        try:
            return self._watched(self._builder.engine(rows, opened=opened, **more))
        except BaseException:
            let_go(opened)
            raise

    def _watched(self, engine: Engine) -> Engine:
        if self._settings.progress:
            from cottonpalm.observers.progress import Progress  # noqa: PLC0415 - rich is slow to import

            progress = Progress()
            progress.watch(engine.stats)
            engine.add_observer(progress)
        return engine

    def _remember(self, run: AnyRun, *, keep: bool = False, asked: Asked | None = None) -> AnyRun:
        """`last_run`: kept for batch, whose outcomes it holds; let go with its reader for the others."""
        self._last = (lambda: run) if keep else weakref.ref(run)
        self._asked = asked
        return run
