"""One run: source -> window -> gates -> executor -> outbox. Only this file knows all the parts of a run."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cottonpalm import clock
from cottonpalm.engine.backpressure import OUT_ROOM, ROOM, Backpressure
from cottonpalm.engine.chunks import Chunks
from cottonpalm.engine.desk import CANCELLED, Desk, Handles
from cottonpalm.engine.executors.local import LocalExecutor
from cottonpalm.engine.gates.cache import CacheGate
from cottonpalm.engine.gates.checkpoint import CheckpointGate
from cottonpalm.engine.gates.disk import DiskTier
from cottonpalm.engine.input.feeds import feed
from cottonpalm.engine.input.window import Window
from cottonpalm.engine.kept_report import KeptReport
from cottonpalm.engine.layers.order import layered
from cottonpalm.engine.monitor import Monitor, StallWatch
from cottonpalm.engine.output.delivery import Delivery
from cottonpalm.engine.output.outbox import Outbox, Pieces
from cottonpalm.engine.output.telling import Telling
from cottonpalm.engine.scheduler import Scheduler
from cottonpalm.engine.standing import standing
from cottonpalm.errors import CannotStore, ConfigError, RunStopped, StoreError
from cottonpalm.events import CostSpike, Event, RowRestarted, RunEnded, RunStarted
from cottonpalm.observers.notes import Notes
from cottonpalm.observers.profiler import Look, Profiler
from cottonpalm.protocols import OK, TakesOrders
from cottonpalm.providers.batches.stages import KeepsBatches
from cottonpalm.providers.raised import BudgetReached
from cottonpalm.request import active_runs
from cottonpalm.request.money.rules.alarms import Spikes
from cottonpalm.request.row_account import ROW
from cottonpalm.request.transport import client_loops
from cottonpalm.runtime.aside import aside
from cottonpalm.runtime.threads import BLOCKS_A_LOOP, Crew
from cottonpalm.settings import workers_of
from cottonpalm.stats import CacheCounts, FirstRows, Stats, Tally, goes_on
from cottonpalm.stores.codec.records import pack, with_input
from cottonpalm.stores.memory import MemoryRunStore
from cottonpalm.types import PICO, ErrorRecord, Fault, Item, Kind, Outcome, numbered

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.engine.classifier import Classifier
    from cottonpalm.engine.executors.links import Begin, Pool
    from cottonpalm.engine.executors.workers import WorkersExecutor
    from cottonpalm.engine.gates.cache import SharedCache
    from cottonpalm.engine.input.reader import Reader
    from cottonpalm.engine.job import Job
    from cottonpalm.observers.report import Report
    from cottonpalm.protocols import Executor, Gate, Inner, Observer, RunStore
    from cottonpalm.request.run_account import RunAccount
    from cottonpalm.types import Bottleneck

FIRST: Final = (
    10  # if one of so many first answers cannot be stored, the run stops; later, only that row fails
)


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
        self.outbox = Outbox(ROOM if job.lane is None else OUT_ROOM)
        self.stopped: RunStopped | None = None
        self._why = ""  # it stopped
        self.unstored: list[Outcome] = []  # answers that arrived, but that the store could not make durable
        self._source, self._judge, self._release = source, judge, release
        self._telling = Telling(job.settings.observers)
        self._emit = self._telling.emit
        self._whole = job.ordered and job.total is not None
        recorded = job.lane is not None
        self._admission = Backpressure(
            account,
            job.cap,
            ordered=job.ordered,
            whole=self._whole,
            recorded=recorded,
            kept=job.settings.cap,
        )
        self._tally = Tally(job.settings.max_failures)
        self._first = None if goes_on(job.settings.max_failures) else FirstRows()
        self._cached = CacheCounts()
        self._spikes: Spikes | None = None  # nobody would hear of them
        self._profiler = Profiler(self._look, cached=job.cache is not None)
        self._watch = Monitor(account, self._holding_back, self._profiler.look)
        self._kept = KeptReport(store, self.report) if store is not None and job.many else None
        self._desk: Desk | None = None
        self._notes = Notes()
        self._started, self._finished = clock.now(), False
        self._rows: Scheduler | None = None
        self._workers: WorkersExecutor | None = None
        self._count: int | None = None  # of workers, where it was said during the run
        self._chunks: Chunks | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._nudged = False
        self._task: asyncio.Task[Any] | None = None
        self._left = self._cancelled = False

    @property
    def source(self) -> Any:
        """Where the rows come from."""
        return self._source

    def add_observer(self, observer: Observer) -> None:
        """Add an observer; only before the run begins."""
        self._telling.add(observer)

    # -- the run

    async def main(self) -> None:
        """Run to the end. The outbox tells the reader how the run ended."""
        loop = self._loop = asyncio.get_running_loop()
        self._thread, self._task = threading.get_ident(), asyncio.current_task()
        error: BaseException | None = None
        client_loops.enter(self._loop)
        if self.job.many:
            active_runs.begin(self.account)
        try:
            if not self._left:
                await self._execute()
        except (asyncio.CancelledError, GeneratorExit):
            dead = self._loop.is_closed()
            self._stopping("interrupted", "its event loop was closed" if dead else "it was left early")
            if not self._left:
                raise
        except BaseException as exc:
            error = exc
            raise
        finally:
            active_runs.end(self.account)
            try:
                await client_loops.leave(self._loop)
            finally:  # even if a connection did not close or a second cancel came: the reader waits
                await self._end(error, loop)

    async def _end(self, error: BaseException | None, loop: asyncio.AbstractEventLoop) -> None:
        """Let go of everything, of the store on a thread: its disk may be slow, and the loop is the caller's."""
        error = self._over(error)
        try:
            if self.store is None or isinstance(self.store, MemoryRunStore):
                self._let_go(error)
            else:
                await aside(loop, partial(self._let_go, error))
        except StoreError as exc:  # if the store stopped the run, this says the same again
            error = error or exc
        finally:
            self._tell_end(error)

    def _over(self, error: BaseException | None) -> BaseException | None:
        """No row is under way any more; what the run ends with."""
        self._finished = True
        self._profiler.end()
        if self.stopped is not None:
            self.stopped.args = (self._told(),)
        for key in self.account.flow.rows_keys:
            self.account.flow.limiters.forget(key)
        return error or self.reader.error or self.stopped

    def _tell_end(self, error: BaseException | None) -> None:
        try:
            self._emit(RunEnded(None if error is None else str(error)))
            self._telling.close()
        finally:  # whatever else goes wrong, no reader waits for ever
            self.outbox.close(error)

    def _let_go(self, error: BaseException | None) -> None:
        """Of the run, its lease and its store: of each, whatever the others raise."""
        with ExitStack() as stack:  # the last one first
            stack.callback(self._release)
            if self.store is not None:
                stack.callback(self.store.close)
                if self._desk is not None:
                    stack.callback(self._desk.close)
                if self._kept is not None:
                    reason = None if error is None else self._reason
                    stack.callback(self._kept.write, reason=reason, over=True)
                stack.callback(self.account.spending.close)

    async def _execute(self) -> None:
        loop = asyncio.get_running_loop()
        self._begin_telling(loop)
        held_apart = self.job.chunk_size if self.job.settings.chunk_pause_s else None
        window = Window(self._admission.read_ahead, ordered=self.job.ordered, chunk_size=held_apart)
        chunks = self._chunks = self._chunked(loop)
        delivery = Delivery(
            self.store,
            lambda outcomes: rows.emitted(outcomes),  # noqa: PLW0108 - `rows` is made below
            self._store_failed,
            loop,
            self.account.spending.record,
            waited=partial(self._profiler.waited, "store"),
        )
        gates: list[Gate] = []
        rows = Scheduler(
            window,
            gates,
            delivery,
            self.outbox,
            pack=self._pack if self.store is not None else None,
            renew=lambda record, row: with_input(record, row, self.job.types),
            want=self._admission.want,
            on_finish=self._on_finish,
            events=self._emit if self._telling else None,
            whole=self._whole,
            chunks=chunks,
            slept=partial(self._profiler.waited, "backoff"),
        )
        gates.extend(self._gates(rows))
        self._window = window
        rows.feed = feed(self._source, self.reader, window, lambda: rows.wake())  # noqa: PLW0108 - the executor sets `wake`
        self._rows = rows  # whole: other threads look at it
        if chunks is not None:
            self.reader.notes, rows.feed.on_arrival = chunks.notes, chunks.arrived
        self._crew = Crew(loop=loop)
        executor = self._executor = self._made_executor(rows)
        self.outbox.on_credit(self._nudge)
        stall = StallWatch(self.job.settings.stall_timeout_s, self.account, loop, self._stalled)
        self.account.flow.on_change = self._nudge
        self.account.alerts.on_stop = self._request_stopped
        if self.job.many and self.account.measure is None:  # a worker's is there already
            self.account.measure = self._profiler
        self.account.alerts.emit = self._emit_from_anywhere if self._telling else None
        self._watch.emit = self._emit if self._telling else None
        if self.job.many:
            self._watch.open(loop)
        if self.job.many and isinstance(self.store, TakesOrders):
            handles = Handles(self.cap, self.hold, self._set_cap, self._cancelled_elsewhere, self._says)
            self._desk = Desk(self.store, handles)
            self._desk.open()
        self._emit(RunStarted(self.job.name, self.job.total))
        rows.closing = self.stopped is not None
        try:
            await executor.run(rows)
        finally:
            stall.close()
            self._watch.close()
            try:
                await rows.feed.aclose()
            finally:  # so that the answers are stored, whatever the source does
                for gate in gates:
                    gate.close()
                await delivery.drained()
                await executor.tidy()
                self._crew.close()
                if chunks is not None:
                    chunks.close()

    def _begin_telling(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._telling:
            self._spikes = Spikes()
            if self.job.many:  # events are made anyway
                self._telling.add(self._notes)
        self._telling.open(loop)

    def _chunked(self, loop: asyncio.AbstractEventLoop) -> Chunks | None:
        job = self.job
        if job.chunk_size is None:
            return None
        return Chunks(
            job.chunk_size, job.settings.chunk_pause_s, emit=self._emit, wake=self._nudge, loop=loop
        )

    def _gates(self, rows: Scheduler) -> list[Gate]:
        """Return the gates, outermost first: a stored row is not looked up in the cache, a cached one not asked."""
        gates: list[Gate] = []
        if self.store is not None:
            gates.append(CheckpointGate(self.job.types))
        if self.job.cache is not None:
            gates.append(self._cache_gate(self.job.cache, rows))
        return [*gates, *self.job.gates]

    def _cache_gate(self, memory: SharedCache, rows: Scheduler) -> CacheGate:
        """Make the cache gate. It waits for no other run if this run could wait for itself or its reader delay it."""
        job, disk = self.job, None
        shared = not (job.streaming or ROW.get() or BLOCKS_A_LOOP.get())
        if memory.disk is not None and job.lasting is not None:
            disk = DiskTier(memory.disk, job.lasting, job.types, claims=shared)
        tell = self._emit if self._telling else None
        gate = CacheGate(memory, job.digest, rows.unpark, shared=shared, disk=disk, tell=tell)
        self._cached = gate.counts
        return gate

    def _made_executor(self, rows: Scheduler) -> Executor:
        """Make the executor that calls the chain for this run. Only this place chooses it."""
        if self.job.workers is not None:
            return self._at_workers(self.job.workers)
        send = self._send(rows)
        if self.job.lane is None:
            return self._local(send)
        from cottonpalm.engine.executors.answering import Terms  # noqa: PLC0415 - few runs have one
        from cottonpalm.engine.executors.batch import BatchExecutor  # noqa: PLC0415 - few runs have one
        from cottonpalm.request.flex import Flex  # noqa: PLC0415 - few runs have one

        job = self.job
        terms = Terms(
            lane=self.job.lane,
            name=job.name or "",
            linear=job.linear,
            keeps_state=job.keeps_state,
            sends=job.settings.mode != "live",
            detach=job.settings.detach,
            deadline_s=job.settings.deadline_s,
            cheapest=job.settings.mode == "auto",
            rehearsed=job.rehearsed,
            tools=job.types if job.tools else None,
            lazy=not isinstance(self.source, Sequence),
        )
        assert isinstance(self.store, KeepsBatches)
        if terms.flexes:
            openai = [host for host, provider in terms.lane.hosts.items() if provider == "openai"]
            self.account.flex = Flex(self.account.pricing.prices, openai)
        return BatchExecutor(terms, self.account, self.store, send, local=self._local, stop=self._stopping)

    def _at_workers(self, workers: Callable[[], tuple[Pool, Begin]]) -> WorkersExecutor:
        from cottonpalm.engine.executors.workers import WorkersExecutor  # noqa: PLC0415 - few runs have them

        made = self._workers = WorkersExecutor(*workers(), self.account, self._stopping)
        self._admission.workers, self._watch.workers = made.wants, made
        if self._count is not None:
            made.count = self._count
        return made

    def _local(self, send: Inner) -> LocalExecutor:
        return LocalExecutor(
            self.account,
            send,
            self._failed,
            self._lost,
            context=contextvars.copy_context(),
            item_timeout_s=self.job.settings.item_timeout_s,
        )

    def _send(self, rows: Scheduler) -> Inner:
        """Return the call of a row, with the row layers round it."""
        pieces = self._made_pieces()
        for caller in self.job.callers:
            caller.prepare(self._crew, pieces)
        job = self.job
        return layered(
            job.callers,
            job.settings.retry,
            self._judge,
            self.account,
            rows.asleep,
            validate=job.settings.validate,
            none_is_no_answer=job.none_is_no_answer,
        )

    def _made_pieces(self) -> Pieces | None:
        """Return where a streaming run puts its pieces. The stream of a single row cannot say that it starts over."""
        if not self.job.streaming:
            return None
        return Pieces(self.outbox, self._restarted, restarts=self.job.many)

    def _restarted(self, index: int) -> None:
        self._profiler.restarted()
        self._emit(RowRestarted(index))

    # -- decisions of the run

    def _on_finish(self, item: Item, outcome: Outcome) -> None:
        if item.stored is not None:  # such a row was counted when it was read
            return
        self._tally.add(outcome)
        if self._first is not None and item.broken is None:
            self._first.add(outcome, began_s=item.began_s)
            if self._first.mixed:
                self._first = None
        if self._spikes is not None and outcome.cost_pico:
            self._compare(self._spikes, outcome.index, outcome.cost_pico)
        if self.job.many:
            self._profiler.row(item, outcome)
        if outcome.error is not None and self.stopped is None:
            self._judge_run(outcome, outcome.error)

    def _judge_run(self, outcome: Outcome, error: ErrorRecord) -> None:
        """Whether the run stops with this failed row."""
        if error.kind is Kind.STOP_RUN:
            self._stopping("fatal", f"no row can be answered: {error.message}", outcome.exception)
        elif why := self._tally.too_many():
            self._stopping("max_failures", why)
        elif self._fails_as_a_whole():
            self._stopping("fatal", f"{self._first}", outcome.exception)

    def _fails_as_a_whole(self) -> bool:
        """Whether no row was ever answered, and all fail for one reason: paying for the others would be in vain."""
        if self._first is None or not self._first.all_alike(self._executor.under_way()):
            return False
        if self.store is None or not self.store.counts().get(OK):
            return True
        self._first = None  # an earlier call had answers
        return False

    def _compare(self, spikes: Spikes, index: int, cost_pico: int) -> None:
        """Warn of a row that costs many times what others cost: it may be a mistake, and the user can still stop."""
        if (median := spikes.median_if_spike(cost_pico)) is not None:
            self._emit(CostSpike(index, cost_pico / PICO, median / PICO))

    def _failed(self, item: Item, exc: BaseException) -> Outcome:
        """Return the outcome of a row that raised. A fault that all rows share stops the run; the row can be redone."""
        if isinstance(exc, KeyboardInterrupt):
            self._stopping("interrupted", "it was interrupted", exc)
            return Outcome(item.index, "skipped")
        if isinstance(exc, MemoryError):
            self._stopping("fatal", "memory ran out", exc)
            return Outcome(item.index, "skipped")
        if self._judge.out_of_money(exc):
            self._stopping("budget", str(exc), exc)
            return Outcome(item.index, "skipped")
        partial_text = None if item.account is None else item.account.partial
        return Outcome(item.index, "failed", partial_text, error=self._judge.record(exc), exception=exc)

    def _lost(self, item: Item) -> None:
        """Note a row whose task was cancelled, but not by us: it must be done again, so the run is not complete."""
        why = (
            f"the task of {numbered(item.index)} was cancelled, by the row's own code or with its event loop"
        )
        self._stopping("interrupted", why)

    def _pack(self, outcome: Outcome) -> bytes:
        try:
            return pack(outcome, keep_input=self.job.settings.store_inputs, types=self.job.types)
        except CannotStore as exc:
            # Probably no answer can be stored, so stop before the user pays for more of them.
            if self._tally.ok + self._tally.failed < FIRST:
                self._stopping("store", f"{numbered(outcome.index)}: {exc}", exc)
            raise

    # -- stopping

    def stop(self, reason: str = "interrupted", why: str = "it was asked to") -> None:
        """Start no more rows, and finish the rows in flight. From any thread or signal handler."""
        self._on_loop(partial(self._stopping, reason, why))

    def hold(self, held: bool) -> None:
        """Start no more rows until this is called with False; rows in flight go on. From any thread."""
        self._admission.held = held
        self._nudge()

    @property
    def cap(self) -> int | None:
        """The most rows at once, even if the limits allow more. It may be changed during the run, from any thread."""
        return self._admission.cap

    @cap.setter
    def cap(self, most: int | None) -> None:
        self._admission.cap = most
        self._nudge()

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
            self._on_loop(partial(self._workers.resize, self._count))

    def _cancelled_elsewhere(self) -> None:
        self.stop("interrupted", CANCELLED)

    def _says(self) -> dict[str, Any]:
        """What is shown to other processes while somebody looks on."""
        said = standing(
            self.stats(), held=self._admission.held, cap=self.cap, stopping=self.stopped is not None
        )
        report = None if self._kept is None else self._kept.current()
        return {**said, "report": report, "notes": self._notes.lines()}

    def _stalled(self, why: str) -> None:
        fault = self.account.last_fault
        self._stopping("stalled", why, None if fault is None else fault.cause)
        self._executor.drop_all()

    def abort(self) -> None:
        """End the run now: cancel and settle the rows in flight. From any thread."""
        self._left = True
        self._on_loop(self._cancel)

    def discard(self) -> None:
        """Release the store of a run that never began."""
        if self._task is None and not self._finished:
            error = self._over(None)
            try:
                self._let_go(error)
            except StoreError as exc:
                error = error or exc
            finally:
                self._tell_end(error)

    def _cancel(self) -> None:
        if self._task is not None and not self._finished and not self._cancelled:
            self._cancelled = True  # cancel only once: a second cancel would interrupt the clean-up
            self.outbox.leave()
            self._task.cancel()

    def _stopping(self, reason: str, why: str, cause: BaseException | None = None) -> None:
        if self.stopped is not None or self._finished:
            return
        self._why = why
        self.stopped = RunStopped(self._told(), reason=reason, cause=cause)
        if self._rows is not None:
            self._rows.closing = True
            self._nudge()

    def _told(self) -> str:
        """Why the run stopped, and after how many rows: those in flight at that moment count once they are done."""
        done = self._tally.ok + self._tally.failed + self.reader.stored
        return f"the run stopped after {done} {'row' if done == 1 else 'rows'}: {self._why}. {self.job.go_on}"

    def _request_stopped(self, fault: Fault) -> None:
        """Start no more rows, since the budget is reached or cannot be kept.

        A provider's refusal is not handled here but with the row, since a fallback may still answer the row.
        """
        if not isinstance(fault.cause, BudgetReached):
            return
        self._on_loop(partial(self._stopping, "budget", fault.message, fault.cause))

    def _store_failed(self, error: BaseException, lost: list[Outcome]) -> None:
        self.unstored.extend(lost)
        self._stopping("store", f"{error}; {len(lost)} finished rows could not be stored", error)

    # -- from other threads

    def _on_loop(self, function: Callable[[], None]) -> None:
        if self._loop is None or threading.get_ident() == self._thread:
            function()
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: the run is over
            self._loop.call_soon_threadsafe(function)

    def _nudge(self) -> None:
        """Something changed: check once, in the next turn of the loop, whether more rows may start."""
        if self._nudged or self._loop is None or self._finished:
            return
        self._nudged = True
        here, loop = threading.get_ident() == self._thread, self._loop
        with contextlib.suppress(RuntimeError):  # the loop is closed: the run is over
            (loop.call_soon if here else loop.call_soon_threadsafe)(self._turn)

    def _turn(self) -> None:
        self._nudged = False
        self.outbox.room = self._admission.room
        self._window.capacity = self._admission.read_ahead
        self.outbox.make_space()
        if self._rows is None or self._finished:
            return
        if self.stopped is not None:
            self._executor.let_go()
        self._rows.wake()

    # -- what users and observers can see

    def _emit_from_anywhere(self, event: Event) -> None:
        if threading.get_ident() == self._thread:
            self._emit(event)
        else:
            self._on_loop(partial(self._emit, event))

    @property
    def _reason(self) -> str:
        return "error" if self.stopped is None else self.stopped.reason

    def keep_report(self) -> None:
        """Keep the report with the run as it is now."""
        if self._kept is not None and not self._finished:
            self._kept.write(over=False)

    def report(self) -> Report:
        """Return where time and money have gone so far. From any thread."""
        cached, budget = self._cached, self.job.settings.budget
        saved_usd = cached.saved_usd if cached.saved_known else None
        report = self._profiler.report(
            self.reader.stored,
            saved_usd,
            None if budget is None else budget.total,
            self.account.prompts.summary(),
            self._has_batches(),
        )
        return replace(
            report,
            transports=self.account.transports.counts(),
            total=self.job.total if self.job.total is not None else self._total_if_read(),
            over=self._finished,
            stopped=self._reason if self.stopped is not None or self.reader.error is not None else None,
        )

    def _has_batches(self) -> Callable[[str], bool] | None:
        """Which models' requests a batch could have held; None for a run that streams, or that goes through batches."""
        if self.job.lane is not None or self.job.streaming:
            return None
        from cottonpalm.providers.batches.choice import has_batches  # noqa: PLC0415 - its imports cost time

        return partial(has_batches, hosts=self.job.settings.lane.hosts)

    def _look(self) -> Look:
        binds = self._watch.now
        return Look(binds.what, self._limit(), self._requests(), binds.why)

    def _limit(self) -> float:
        return self.account.flow.limit() if self._workers is None else self._workers.limit

    def _requests(self) -> int:
        return self.account.flow.in_flight() if self._workers is None else self._workers.requests

    def _holding_back(self) -> Bottleneck:
        if (rows := self._rows) is None or self._finished:
            return ""
        return self._admission.holding_back(rows, self._window, self.outbox.room)

    def stats(self) -> Stats:
        """Return a snapshot of the counts. From any thread."""
        tally, rows = self._tally, self._rows
        return Stats(
            total=self.job.total if self.job.total is not None else self._total_if_read(),
            stored=self.reader.stored,
            ok=tally.ok,
            failed=tally.failed,
            skipped=tally.skipped,
            in_flight=0 if rows is None or self._finished else max(0, rows.active),
            waiting=self.account.flow.waiting,
            limit=self._limit(),
            requests=self._requests(),
            binding=self._watch.binding,
            pause_s=self.account.flow.pause_s(),
            silent_s=self._watch.silent_s,
            trouble=self.account.reach.trouble,
            allowed_per_s=self.account.flow.allowed_per_s(),
            cost_usd=tally.cost_pico / PICO,
            cost_known=tally.cost_known and not self.account.spending.unbounded,
            reported_usd=self.account.spending.reported / PICO,
            uncertain_usd=self.account.spending.uncertain / PICO,
            budget_left_usd=None if (left := self.account.pricing.budget_left()) is None else left / PICO,
            repeated=self.account.pricing.repeated,
            attempts=tally.attempts,
            started=self._started,
            finished=self._finished,
            chunks=None if self._chunks is None else self._chunks.finished,
            chunks_total=self.job.chunks_total,
            out=getattr(self._executor, "out", 0) if self.job.lane is not None else 0,
            cache=replace(self._cached),
        )

    def _total_if_read(self) -> int | None:
        return self.reader.read if self._rows is not None and self._rows.feed.done else None
