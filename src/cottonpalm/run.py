"""A run as its reader holds it: a context manager and an iterator of outcomes, in completion order.

Leaving the block early, or losing the run, cancels what is in flight and settles all of it; rows that were done are
stored. `Run` is for synchronous code (the engine lives on the bridge's loop), `AsyncRun` for the caller's own loop.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Final

from cottonpalm.runtime import loop_shutdown
from cottonpalm.runtime.bridge import bridge
from cottonpalm.settings import most_rows

if TYPE_CHECKING:
    from typing import Self

    from cottonpalm.config import Budget
    from cottonpalm.engine.engine import Engine
    from cottonpalm.errors import RunStopped
    from cottonpalm.observers.report import Report
    from cottonpalm.protocols import RunStore
    from cottonpalm.stats import Stats
    from cottonpalm.types import Outcome

GRACE_S: Final = 5.0  # a run that was left has this long to settle before its reader is let go


class BaseRun:
    """What both kinds of run offer besides iteration."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lost = weakref.finalize(self, engine.abort)
        self._lost.atexit = False
        self._kept: list[Outcome] | None = None  # set for `batch`, which keeps what it collected

    @property
    def stats(self) -> Stats:
        """A snapshot of counts, limit and cost; from any thread."""
        return self._engine.stats()

    @property
    def budget(self) -> Budget | None:
        """The run's budget, or None. Its amounts may be set while it runs: `run.budget.total = 20`."""
        return self._engine.job.settings.budget

    @property
    def report(self) -> Report:
        """Where the time and the money went, so far or in all; from any thread. `print(run.report.text())`."""
        return self._engine.report()

    @property
    def store(self) -> RunStore | None:
        """The run's part of the store, while the run is open."""
        return self._engine.store

    @property
    def stopped(self) -> RunStopped | None:
        """Why the run stopped early, or None."""
        return self._engine.stopped

    @property
    def unstored(self) -> list[Outcome]:
        """Answers that came but could not be made durable, because the store failed."""
        return self._engine.unstored

    @property
    def rows_read(self) -> int:
        """Rows read from the source so far."""
        return self._engine.reader.read

    def slot(self, index: int) -> int:
        """The store's row number of an input row; the same number while no row was moved."""
        return self._engine.reader.slot(index)

    def stop(self, reason: str = "interrupted") -> None:
        """Admit no more rows and finish what is in flight; the iteration then ends with RunStopped."""
        self._engine.stop(reason)

    def pause(self) -> None:
        """Let no more rows in until `resume`; what is in flight is finished. From any thread."""
        self._engine.hold(True)

    def resume(self) -> None:
        """Go on after `pause`."""
        self._engine.hold(False)

    @property
    def limit(self) -> int | None:
        """The most rows at once, whatever the provider would take; None: only what is found out. May be set meanwhile.

        Raises:
            ConfigError: set to something that is no whole number from 1 on.
        """
        return self._engine.cap

    @limit.setter
    def limit(self, most: int | None) -> None:
        self._engine.cap = most_rows(most)

    def abort(self) -> None:
        """Leave now: cancel what is in flight and settle it."""
        self._engine.abort()

    def outcomes(self) -> list[Outcome]:
        """The outcomes that `batch` collected, in input order, also after it raised.

        Raises:
            RuntimeError: the run was started with `start`, whose outcomes belong to whoever read them.
        """
        if self._kept is None:
            raise RuntimeError(
                "outcomes() is there after batch; a run made by start hands each outcome out once"
            )
        return self._kept

    def keep(self, outcomes: list[Outcome]) -> None:
        """Remember what `batch` collected."""
        self._kept = outcomes


class Run(BaseRun):
    """A run read by synchronous code. Iterate inside `with`."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._call = bridge().start(engine.main())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Outcome:
        outcome: Outcome = self._engine.outbox.receive_sync()
        return outcome

    def close(self) -> None:
        """Leave the run; everything is settled when this returns (after five seconds at the latest)."""
        self._lost.detach()
        self._engine.abort()
        if self._call.join(GRACE_S):
            _ = self._call.error  # the outbox has told it


class AsyncRun(BaseRun):
    """A run on the caller's own loop. Iterate inside `async with`; one reader at a time."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._begin()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        self._begin()
        outcome: Outcome = await self._engine.outbox.receive()
        return outcome

    async def aclose(self) -> None:
        """Leave the run; everything is settled when this returns."""
        self._lost.detach()
        self._engine.abort()
        if self._task is not None and self._task.get_loop().is_closed():
            return  # it has ended with its loop
        if self._task is not None:
            await asyncio.wait([self._task])
            if not self._task.cancelled():
                _ = self._task.exception()  # the outbox has told it
        else:
            self._engine.discard()

    def _begin(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._engine.main())
            loop_shutdown.watch(self._task, self._engine)
