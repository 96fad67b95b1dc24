"""One run: source -> window -> gates -> executor -> outbox. Only this file knows all the parts of a run."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from cottonpalm.engine.backpressure import OUT_ROOM, ROOM, Backpressure
from cottonpalm.engine.calling import Calling
from cottonpalm.engine.chunks import Chunks
from cottonpalm.engine.input.feeds import feed
from cottonpalm.engine.input.window import Window
from cottonpalm.engine.monitor import StallWatch
from cottonpalm.engine.order_desk import CANCELLED, Handles, OrderDesk
from cottonpalm.engine.output.delivery import Delivery
from cottonpalm.engine.output.outbox import Outbox, Pieces
from cottonpalm.engine.output.telling import Telling
from cottonpalm.engine.own_loop import OwnLoop
from cottonpalm.engine.row_gates import gates_of
from cottonpalm.engine.scheduler import Scheduler
from cottonpalm.engine.stopping import Stopping
from cottonpalm.engine.view import View
from cottonpalm.errors import ConfigError, StoreError
from cottonpalm.events import Event, RowRestarted, RunEnded, RunStarted
from cottonpalm.request import active_runs
from cottonpalm.request.row_account import ROW
from cottonpalm.request.transport import client_loops
from cottonpalm.runtime import garbage
from cottonpalm.runtime.aside import aside
from cottonpalm.runtime.threads import BLOCKS_A_LOOP
from cottonpalm.setting_checks import workers_of
from cottonpalm.store_extras import TakesOrders
from cottonpalm.stores.codec.records import with_input
from cottonpalm.stores.memory import MemoryRunStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.engine.classifier import Classifier
    from cottonpalm.engine.executors.workers.executor import WorkersExecutor
    from cottonpalm.engine.input.reader import Reader
    from cottonpalm.engine.job import Job
    from cottonpalm.errors import RunStopped
    from cottonpalm.observers.report import Report
    from cottonpalm.protocols import Executor, Gate, Observer, RunStore
    from cottonpalm.request.run_account import RunAccount
    from cottonpalm.stats import Stats
    from cottonpalm.types import Bottleneck, Outcome


class Engine:
    """Runs one job over one source on one event loop. `stop`, `abort` and `stats` may be used from any thread."""

    def __init__(
        self,
        job: Job,
        account: RunAccount,
        source: Any,
        reader: Reader,
        judge: Classifier,
        *,
        store: RunStore | None = None,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        self.job, self.account, self.reader, self.store = job, account, reader, store
        self.outbox = Outbox(ROOM if job.terms is None else OUT_ROOM)
        self.source = source  # where the rows come from
        self._judge, self._release = judge, release
        self._telling = Telling(job.settings.observers)
        self._emit = self._telling.emit
        self._whole = job.ordered and job.total is not None
        self._backpressure = Backpressure(
            account,
            job.cap,
            ordered=job.ordered,
            whole=self._whole,
            recorded=job.terms is not None,
            kept=job.settings.cap,
        )
        self._loop = OwnLoop(self._turn)
        self._stopping = Stopping(job, reader, judge, store, self._loop)
        self._stopping.on_stop = self._stops
        self._view = View(
            job,
            account,
            reader,
            store,
            stopping=self._stopping,
            loop=self._loop,
            holding_back=self._holding_back,
        )
        self._desk: OrderDesk | None = None
        self._rows: Scheduler | None = None
        self._window: Window
        self._executor: Executor
        self._workers: WorkersExecutor | None = None
        self._count: int | None = None  # of workers, where it was said during the run
        self._task: asyncio.Task[Any] | None = None
        self._left = self._cancelled = False

    def add_observer(self, observer: Observer) -> None:
        """Add an observer; only before the run begins."""
        self._telling.add(observer)

    # -- the run

    async def main(self) -> None:
        """Run to the end. The outbox tells the reader how the run ended."""
        loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._loop.enter(loop)
        error: BaseException | None = None
        client_loops.enter(loop)
        if self.job.many:
            active_runs.begin(self.account)
        self._see_if_others_stand_still()
        try:
            if not self._left:
                with garbage.seldom() if self.job.many else nullcontext():
                    await self._execute(loop)
        except (asyncio.CancelledError, GeneratorExit):
            dead = loop.is_closed()
            self._stopping.stop("interrupted", "its event loop was closed" if dead else "it was left early")
            if not self._left:
                raise
        except BaseException as exc:
            error = exc
            raise
        finally:
            active_runs.end(self.account)
            try:
                await client_loops.leave(loop)
            finally:  # even if a connection did not close or a second cancel came: the reader waits
                await self._end(error, loop)

    async def _execute(self, loop: asyncio.AbstractEventLoop) -> None:
        """Put the parts together, let the rows through them, and take them apart again."""
        if self._telling:
            self._view.tell(self._telling)
        self._telling.open(loop)
        held_apart = self.job.chunk_size if self.job.settings.chunk_pause_s else None
        window = Window(self._backpressure.read_ahead, ordered=self.job.ordered, chunk_size=held_apart)
        chunks = self._view.chunks = self._chunked(loop)
        gates: list[Gate] = []
        rows, delivery = self._scheduler(loop, window, gates, chunks)
        tell, stored = self._emit if self._telling else None, self.reader.stored_before > 0
        gates.extend(gates_of(self.job, rows.unpark, self._view.cached, tell, stored=stored))
        calling = Calling(self.job, self.account, self._judge, self._stopping)
        executor = calling.executor(rows, self.store, self._pieces())
        self._have(window, rows, executor, calling.workers)
        stall = StallWatch(self.job.settings.stall_timeout_s, self.account, loop, self._stalled)
        self._listen()
        self._view.open(loop, rows, calling.batches, calling.mates)
        self._take_orders()
        self._emit(RunStarted(self.job.name, self.job.total))
        rows.closing = self.stopped is not None
        try:
            await executor.run(rows)
            self._stopping.all_asked()
        finally:
            stall.close()
            self._view.close()
            try:
                await rows.feed.aclose()
            finally:  # so that the answers are stored, whatever the source does
                for gate in gates:
                    gate.close()
                await delivery.drained()
                await executor.tidy()
                calling.close()
                if chunks is not None:
                    chunks.close()

    def _scheduler(
        self, loop: asyncio.AbstractEventLoop, window: Window, gates: list[Gate], chunks: Chunks | None
    ) -> tuple[Scheduler, Delivery]:
        """Make what rows go through, between the source and the outbox."""
        waited = self._view.profiler.waited
        delivery = Delivery(
            self.store,
            lambda outcomes: rows.emitted(outcomes),  # noqa: PLW0108 - `rows` is made below
            self._stopping.store_failed,
            loop,
            self.account.spent,
            waited=partial(waited, "store"),
        )
        rows = Scheduler(
            window,
            gates,
            delivery,
            self.outbox,
            pack=self._stopping.packed if self.store is not None else None,
            renew=lambda record, row: with_input(record, row, self.job.types),
            want=self._backpressure.want,
            on_finish=self._stopping.finished,
            events=self._emit if self._telling else None,
            whole=self._whole,
            chunks=chunks,
            slept=partial(waited, "backoff"),
        )
        rows.feed = feed(self.source, self.reader, window, lambda: rows.wake())  # noqa: PLW0108 - the executor sets `wake`
        if chunks is not None:
            self.reader.notes, rows.feed.on_arrival = chunks.notes, chunks.arrived
        return rows, delivery

    def _chunked(self, loop: asyncio.AbstractEventLoop) -> Chunks | None:
        job = self.job
        if job.chunk_size is None:
            return None
        return Chunks(
            job.chunk_size, job.settings.chunk_pause_s, emit=self._emit, wake=self._loop.nudge, loop=loop
        )

    def _see_if_others_stand_still(self) -> None:
        """If our caller blocks the loop of another run, that gives no permit back: wait for none, and say so."""
        blocked = BLOCKS_A_LOOP.get()
        if not client_loops.is_used(blocked):
            return
        self.account.flow.others_stand = partial(client_loops.is_used, blocked)
        if self.job.many and ROW.get() is None:
            self.account.alerts.warn(
                "blocks a loop",
                "a sync call in a coroutine blocks its event loop, on which another run is under way: that run stands "
                "still meanwhile. Where it holds all permits, this one sends one request at a time, above the limit; "
                "where it holds all money, this one waits until its stall_timeout. Use "
                "`await processor.abatch(rows)`, or `await asyncio.to_thread(processor.batch, rows)`",
            )

    def _pieces(self) -> Pieces | None:
        """Return where a streaming run puts its pieces. The stream of a single row cannot say that it starts over."""
        if not self.job.streaming:
            return None
        return Pieces(self.outbox, self._restarted, restarts=self.job.many)

    def _restarted(self, index: int) -> None:
        self._view.profiler.restarted()
        self._emit(RowRestarted(index))

    def _have(
        self, window: Window, rows: Scheduler, executor: Executor, workers: WorkersExecutor | None
    ) -> None:
        """From here on, what is said of the run is said to its parts."""
        self._window, self._executor, self._workers = window, executor, workers
        self._stopping.under_way = executor.under_way
        if workers is not None:
            self._backpressure.workers = workers.wants
            if self._count is not None:
                workers.count = self._count
        self._rows = rows

    def _listen(self) -> None:
        """Hear of it when more rows may start, or none."""
        self.outbox.on_credit(self._loop.nudge)
        self.account.flow.on_change = self._loop.nudge
        self.account.alerts.on_stop = self._stopping.out_of_money
        self._stopping.on_left = partial(self.account.alerts.warn, "left")
        self.account.alerts.emit = self._emit_from_anywhere if self._telling else None

    def _take_orders(self) -> None:
        if self.job.many and isinstance(self.store, TakesOrders):
            handles = Handles(self.cap, self.hold, self._set_cap, self._cancelled_elsewhere, self._says)
            self._desk = OrderDesk(self.store, handles)
            self._desk.open()

    def _turn(self) -> None:
        """In a turn of the loop, after something has changed: let rows start, or go."""
        if self._rows is None:
            return
        self.outbox.room = self._backpressure.room
        self._window.capacity = self._backpressure.read_ahead
        self.outbox.make_space()
        if self._loop.finished:
            return
        if self.stopped is not None:
            self._executor.let_go()
        self._rows.wake()

    def _emit_from_anywhere(self, event: Event) -> None:
        if self._loop.here:
            self._emit(event)
        else:
            self._loop.call(partial(self._emit, event))

    # -- its end

    async def _end(self, error: BaseException | None, loop: asyncio.AbstractEventLoop) -> None:
        """Let go of everything, of the store on a thread: its disk may be slow, and the loop is the caller's."""
        error = self._over(error)
        try:
            if self.store is None or isinstance(self.store, MemoryRunStore):
                self._let_go(error)
            else:
                await aside(loop, partial(self._let_go_late, error))
        except StoreError as exc:  # if the store stopped the run, this says the same again
            error = error or exc
        finally:
            self._tell_end(error)

    def _over(self, error: BaseException | None) -> BaseException | None:
        """No row is under way any more; what the run ends with."""
        self._loop.finished = True
        self._view.profiler.end()
        self._stopping.over()
        for key in self.account.flow.rows_keys:
            self.account.flow.limiters.forget(key)
        return error or self.reader.error or self.stopped

    def _let_go_late(self, error: BaseException | None) -> None:
        self.account.spending.wait_for_threads()
        self._let_go(error)

    def _let_go(self, error: BaseException | None) -> None:
        """Of the run, its lease and its store: of each, whatever the others raise."""
        with ExitStack() as stack:  # the last one first
            stack.callback(self._release)
            if self.store is not None:
                stack.callback(self.store.close)
                if self._desk is not None:
                    stack.callback(self._desk.close)
                reason = None if error is None else self._stopping.reason
                stack.callback(self._view.keep_report, reason, over=True)
                stack.callback(self.account.spending.close)

    def _tell_end(self, error: BaseException | None) -> None:
        try:
            self._telling.close()  # what is found in the last rows comes before the end
            self._emit(RunEnded(None if error is None else str(error)))
        finally:  # whatever else goes wrong, no reader waits for ever
            self.outbox.close(error)

    def discard(self) -> None:
        """Release the store of a run that never began."""
        if self._task is None and not self._loop.finished:
            error = self._over(None)
            try:
                self._let_go(error)
            except StoreError as exc:
                error = error or exc
            finally:
                self._tell_end(error)

    def over(self, _: object) -> None:
        """Its task is over; one that was cancelled before its first step has let go of nothing."""
        if self._task is None:
            if not self._left:
                self._stopping.stop("interrupted", "it was left early")
            self.discard()

    # -- stopping it, and changing it while it runs

    @property
    def stopped(self) -> RunStopped | None:
        """Why the run stopped early; None if it did not."""
        return self._stopping.stopped

    @property
    def why(self) -> str:
        """The same in a few words, without how many rows were done here; "" if it did not."""
        return self._stopping.why

    @property
    def unstored(self) -> list[Outcome]:
        """Answers that arrived, but that the store could not make durable."""
        return self._stopping.unstored

    def stop(self, reason: str = "interrupted", why: str = "it was asked to") -> None:
        """Start no more rows, and finish the rows in flight. From any thread or signal handler."""
        self._loop.call(partial(self._stopping.stop, reason, why))

    def _stops(self) -> None:
        ledger = self.account.ledger
        if self._stopping.reason == "budget" and self._stopping.unpaid is not None and ledger is not None:
            self.account.alerts.tell_share(1.0, ledger)
        if self._rows is not None:
            self._rows.closing = True
            self._loop.nudge()

    def _stalled(self, why: str) -> None:
        fault = self.account.last_fault
        self._stopping.stop("stalled", why, None if fault is None else fault.cause)
        self._executor.drop_all()

    def abort(self) -> None:
        """End the run now: cancel and settle the rows in flight. From any thread."""
        self._left = True
        self._loop.call(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None and not self._loop.finished and not self._cancelled:
            self._cancelled = True  # cancel only once: a second cancel would interrupt the clean-up
            self.outbox.leave()
            self._task.cancel()

    def hold(self, held: bool) -> None:
        """Start no more rows until this is called with False; rows in flight go on. From any thread."""
        if held is self._backpressure.held:
            return
        self._view.before_order()
        self._backpressure.held = held
        self._loop.nudge()
        self._view.after_order()

    @property
    def cap(self) -> int | None:
        """The most rows at once, even if the limits allow more. It may be changed during the run, from any thread."""
        return self._backpressure.cap

    @cap.setter
    def cap(self, most: int | None) -> None:
        self._backpressure.cap = most
        self._loop.nudge()

    def _set_cap(self, most: int | None) -> None:
        self.cap = most

    @property
    def workers(self) -> int | None:
        """How many workers there are to be; None: there are none, or the run has not begun."""
        return self._count if self._workers is None else self._workers.count

    def resize(self, count: int) -> None:
        """Have so many workers from now on. From any thread."""
        if self.job.workers is None:
            raise ConfigError('this run has no workers: they need executor="processes" or executor="ray"')
        self._count = workers_of(count, "workers")
        if self._workers is not None:
            self._loop.call(partial(self._workers.resize, self._count))

    def _cancelled_elsewhere(self) -> None:
        self.stop("interrupted", CANCELLED)

    # -- what users and observers can see

    def stats(self) -> Stats:
        """Return a snapshot of the counts. From any thread."""
        return self._view.stats()

    def report(self) -> Report:
        """Return where time and money have gone so far. From any thread."""
        return self._view.report()

    def keep_report(self) -> None:
        """Keep the report with the run as it is now."""
        self._view.keep_report(over=False)

    def _says(self) -> dict[str, Any]:
        return self._view.says(held=self._backpressure.held, cap=self.cap)

    def _holding_back(self) -> Bottleneck:
        if (rows := self._rows) is None or self._loop.finished:
            return ""
        return self._backpressure.holding_back(rows, self._window, self.outbox.room, self._view.out())
