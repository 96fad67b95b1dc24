"""The run object that a reader holds: a context manager, and an iterator of outcomes in completion order.

If the reader leaves the block early or drops the run, the rows in flight are cancelled and settled; finished rows are
stored, and so are those whose answers have arrived. `Run` is for synchronous code (its engine runs on the bridge's
loop), `AsyncRun` is for the caller's own loop.
"""

from __future__ import annotations

import asyncio
import warnings
import weakref
from contextlib import suppress
from threading import RLock
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic

from cottonpalm.errors import RunBusy
from cottonpalm.events import RowFinished
from cottonpalm.runtime import loop_shutdown
from cottonpalm.runtime.bridge import bridge
from cottonpalm.runtime.threads import running_loop
from cottonpalm.setting_checks import most_rows
from cottonpalm.starting import Told
from cottonpalm.types import Outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Self

    from cottonpalm.config import Budget
    from cottonpalm.engine.engine import Engine
    from cottonpalm.engine.output.stream_events import StreamEvents
    from cottonpalm.errors import RunStopped
    from cottonpalm.observers.report import Report
    from cottonpalm.protocols import RunStore
    from cottonpalm.runtime.bridge import BridgeCall
    from cottonpalm.stats import Stats

GRACE_S: Final = 5.0  # a reader that leaves a run waits at most so long until the run has settled


class BaseRun:
    """The common part of both kinds of run, except the iteration."""

    _made_by: ClassVar[str]
    _made_to: ClassVar[str]  # what one writes to make it begin

    def __init__(self, engine: Engine | Callable[[], Engine]) -> None:
        self._opening = engine if callable(engine) else None  # makes it, and opens its run in the store
        self._opens = RLock()
        self._made: Engine | None = None
        self._begun = False
        self._used = False  # begun, or left
        if not callable(engine):
            self._have(engine)
        self.stream: StreamEvents | None = None  # set where the reader gets events
        self._kept: list[Outcome] | None = None  # what `batch` or a generator of ours collected

    def _have(self, engine: Engine) -> Engine:
        self._made = engine
        self._if_lost(engine.discard)
        return engine

    def _if_lost(self, ends: Callable[[], None]) -> None:
        """What ends the run if nobody holds it any more."""
        self._lost = weakref.finalize(self, ends)
        self._lost.atexit = False

    def _begins(self) -> Engine:
        self._begun = True
        self._lost.detach()
        self._if_lost(self._engine.abort)
        return self._engine

    @property
    def _engine(self) -> Engine:
        if self._made is None:  # it was not begun: who asks before waits while the store is opened
            with self._opens:  # once: a thread may look on while the run begins
                if self._made is None:
                    assert self._opening is not None
                    return self._have(self._opening())
        return self._made

    def __del__(self) -> None:
        """Say that it was lost without a use, as Python does of a coroutine that nobody awaits."""
        if not getattr(self, "_used", True):
            never = f"a run {self._made_by} was never begun, so no row was asked: use {self._made_to}"
            warnings.warn(never, RuntimeWarning, stacklevel=2)

    def __repr__(self) -> str:
        """The report in short."""
        if self._made is None or not self._begun:
            return f"<{type(self).__name__}: not begun>"
        name = self._engine.job.name
        state = "" if self.stats.finished else ", going"
        return f"<{type(self).__name__}{f' {name!r}' if name else ''}: {self.report.short()}{state}>"

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

    def keep_report(self) -> None:
        """Keep the report with the run in its store, as it is now; at the end it is kept in any case."""
        self._engine.keep_report()

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
        """Return the store's row number of an input row; both numbers are equal while no row has moved."""
        return self._engine.reader.slot(index)

    def stop(self, reason: str = "interrupted") -> None:
        """Start no more rows, and finish the rows in flight; the iteration then ends with RunStopped."""
        self._engine.stop(reason)

    def pause(self) -> None:
        """Start no more rows until `resume`; rows in flight are finished. From any thread."""
        self._engine.hold(True)

    def resume(self) -> None:
        """Go on after `pause`."""
        self._engine.hold(False)

    @property
    def limit(self) -> int | None:
        """The most rows at once, even if the provider would take more; None: no such cap. It may be set during the run.

        Raises:
            ConfigError: the value is not a whole number from 1 on.
        """
        return self._engine.cap

    @limit.setter
    def limit(self, most: int | None) -> None:
        self._engine.cap = most_rows(most)

    @property
    def workers(self) -> int | None:
        """How many workers there are to be; None: the run has none. It may be set during the run, from any thread.

        New ones are given rows as soon as they are there; one that is too many finishes what it has begun.

        Raises:
            ConfigError: the value is not a whole number from 1 on, or the run has no workers.
        """
        return self._engine.workers

    @workers.setter
    def workers(self, count: int) -> None:
        self._engine.resize(count)

    def abort(self) -> None:
        """End the run now: store the answers that have arrived, cancel and settle the other rows in flight."""
        self._engine.abort()

    def outcomes(self) -> list[Outcome]:
        """Return all outcomes, in input order, of a call that handed out no run, such as `batch`; also after it raised.

        Raises:
            RuntimeError: the run was started with `start`, which gives outcomes only to its reader.
        """
        if self._kept is None:
            raise RuntimeError(
                "outcomes() is there after batch or stream_batch (where an async one was left by `break`, once its "
                "generator is closed, as contextlib.aclosing does at once); a run made by start hands each outcome out "
                "once: keep them as you read them; `cottonpalm export` and `report` have all of a run with a store"
            )
        return self._kept

    def to_pandas(self) -> Any:
        """Return the outcomes as a pandas frame: the input's columns, the answer's, and how each row ended.

        Answers that are objects become a column for each field; other answers are the column `output`. The rows are in
        input order, under the labels of the frame that was given, if it was one. Of a run made by `start`, all that
        was not read yet is read to its end, and kept for another table.

        Raises:
            ConfigError: pandas is not installed.
            RunStopped: at its end, if the run stopped early.
            RuntimeError: an async run made by `astart`, which only its reader can read; or all were read already.
        """
        from cottonpalm.engine.output.table import to_pandas  # noqa: PLC0415 - only for a table

        return to_pandas(self._read_all(), getattr(self._engine.source, "labels", None))

    def to_polars(self) -> Any:
        """Return the outcomes as a polars frame; see `to_pandas`."""
        from cottonpalm.engine.output.table import to_polars  # noqa: PLC0415 - only for a table

        return to_polars(self._read_all())

    def to_arrow(self) -> Any:
        """Return the outcomes as an Arrow table; see `to_pandas`."""
        from cottonpalm.engine.output.table import to_arrow  # noqa: PLC0415 - only for a table

        return to_arrow(self._read_all())

    def _read_all(self) -> list[Outcome]:
        """All outcomes, in input order."""
        return self.outcomes()

    def keep(self, outcomes: list[Outcome]) -> None:
        """Remember what was collected for a user who does not hold the run."""
        self._kept = outcomes


class Run(BaseRun, Generic[Told]):
    """A run read by synchronous code. Iterate inside `with`, where it begins."""

    _made_by, _made_to = "made by start", "`with` or `for`"

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._call: BridgeCall[None] | None = None
        self._handed_out = False  # the reader has had an outcome

    def __enter__(self) -> Self:
        self._begin()
        return self

    def _begin(self) -> None:
        self._used = True
        if self._call is None:
            self._call = bridge().start(self._begins().main())

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Told:
        self._begin()
        if self.stream is not None and self.stream.waiting:
            return self.stream.waiting.popleft()  # type: ignore[return-value]  # as `start` says
        got: Outcome = self._engine.outbox.receive_sync()
        self._handed_out = True
        return got if self.stream is None else self.stream.take(got)  # type: ignore[return-value]

    def _read_all(self) -> list[Outcome]:
        if self._kept is None:
            before = self._handed_out
            ended = (got.outcome if isinstance(got, RowFinished) else got for got in self)
            outcomes = (got for got in ended if isinstance(got, Outcome))  # no other events
            found = sorted(outcomes, key=lambda outcome: outcome.index)
            if before and not found:
                raise RuntimeError(
                    "all outcomes were read already, and a run made by start hands each out once: make the table in "
                    "place of the loop, or of the outcomes of batch"
                )
            self._kept = found  # for a second table
        return self._kept

    def close(self) -> None:
        """Leave the run. When this returns, everything is settled; it takes at most five seconds."""
        self._used = True
        self._lost.detach()
        self._engine.abort()
        if self._call is None:
            self._engine.discard()
        elif self._call.join(GRACE_S):
            _ = self._call.error  # the outbox has already given it to the reader


class AsyncRun(BaseRun, Generic[Told]):
    """A run on the caller's own loop. Iterate inside `async with`, where it begins; one reader at a time."""

    _made_by, _made_to = "made by astart", "`async with` or `async for`"

    def __init__(
        self, engine: Engine | Callable[[], Engine], *, first: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        super().__init__(engine)
        self._task: asyncio.Task[None] | None = None
        self._first, self._leaving = first, False  # `first` is awaited before the engine is made

    async def __aenter__(self) -> Self:
        await self._begin()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Told:
        if self._task is None:
            await self._begin()
        if self.stream is not None and self.stream.waiting:
            return self.stream.waiting.popleft()  # type: ignore[return-value]  # as `start` says
        outbox = (self._made or self._engine).outbox
        got: Outcome = outbox.take() or await outbox.receive()
        return got if self.stream is None else self.stream.take(got)  # type: ignore[return-value]

    async def aclose(self) -> None:
        """Leave the run. When this returns, everything is settled.

        Raises:
            ConfigError, StoreError: it never began, and could not have: its store cannot be opened.
        """
        self._used, used = True, self._used
        self._leaving = True
        if self._made is None:
            if used or self._opening is None:
                return
            with suppress(RunBusy):  # nothing was to be done in it
                await self._open()
        if self._made is None:
            return
        self._lost.detach()
        self._engine.abort()
        if self._task is not None and self._task.get_loop().is_closed():
            return  # the run has ended with its loop
        if self._task is not None:
            await asyncio.wait([self._task])
            if not self._task.cancelled():
                _ = self._task.exception()  # the outbox has already given it to the reader
        else:
            self._engine.discard()

    async def _left(self) -> None:
        """Wait for the end of a run that is being left: its place in the store is not free before that.

        An async generator that is left by `break` is closed by Python, two turns of the loop later.
        """
        for _ in range(2):
            if self._task is None or self._task.done() or self._task.get_loop() is not running_loop():
                return
            await asyncio.sleep(0)
        if self._leaving and self._task is not None:
            await asyncio.wait([self._task])

    async def _begin(self) -> None:
        self._used = True
        if self._task is None:
            try:
                if self._made is None and self._opening is not None:
                    await self._open()
                self._task = running_loop().create_task(self._begins().main())
                self._task.add_done_callback(self._engine.over)
                loop_shutdown.watch(self._task, self._engine)
            except BaseException:
                self._begun_in_vain()
                raise

    def _begun_in_vain(self) -> None:
        """Let go of a run that nobody will leave: a signal handler may raise between any two lines."""
        if self._task is not None:
            self._task.add_done_callback(self._engine.over)
            self._engine.abort()
            self._task.cancel()
        elif self._made is not None:
            self._let_go(self._made)

    async def _open(self) -> None:
        """Make the engine on a thread, as that touches the disk."""
        from cottonpalm.engine.opened import on_a_thread  # noqa: PLC0415 - an import of the processor is quick

        if self._first is not None:
            await self._first()
        await on_a_thread(lambda: self._engine, self._let_go)

    def _let_go(self, engine: Engine) -> None:
        """Release what was opened for a beginning that did not come; another one opens it anew."""
        if self._opening is not None:
            self._made = None
        self._lost.detach()
        engine.discard()
