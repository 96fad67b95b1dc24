"""What users and observers can see of a run: its counts, its report, and what holds it back."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from cottonpalm import clock
from cottonpalm.engine.kept_report import KeptReport
from cottonpalm.engine.monitor import Monitor
from cottonpalm.engine.output.dear_rows import DearRows
from cottonpalm.engine.standing import standing
from cottonpalm.events import Binding
from cottonpalm.observers.kept import SAMPLE
from cottonpalm.observers.notes import Notes
from cottonpalm.observers.profiler import Besides, Look, Profiler
from cottonpalm.stats import CacheCounts, Stats
from cottonpalm.types import PICO

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from cottonpalm.engine.chunks import Chunks
    from cottonpalm.engine.executors.batch.executor import BatchExecutor
    from cottonpalm.engine.executors.workers.mates import Mates
    from cottonpalm.engine.input.reader import Reader
    from cottonpalm.engine.job import Job
    from cottonpalm.engine.output.telling import Telling
    from cottonpalm.engine.own_loop import OwnLoop
    from cottonpalm.engine.scheduler import Scheduler
    from cottonpalm.engine.stopping import Stopping
    from cottonpalm.observers.report import Report
    from cottonpalm.protocols import RunStore
    from cottonpalm.request.run_account import RunAccount
    from cottonpalm.types import Bottleneck


class View:
    """One run, seen from outside. `stats`, `report` and `says` may be used from any thread, also before it begins.

    Attributes:
        profiler: measures the run.
        cached: what its cache did.
        chunks: counts its rows by chunk; None: it has no chunks.
    """

    def __init__(
        self,
        job: Job,
        account: RunAccount,
        reader: Reader,
        store: RunStore | None,
        *,
        stopping: Stopping,
        loop: OwnLoop,
        holding_back: Callable[[], Bottleneck],
    ) -> None:
        self.profiler = Profiler(self._look, cached=job.cache is not None)
        self.cached = CacheCounts()
        self.chunks: Chunks | None = None
        self._job, self._account, self._reader, self._stopping = job, account, reader, stopping
        self._loop = loop
        self._monitor = Monitor(account, holding_back, self.profiler.look)
        self._kept = KeptReport(store, self._to_keep) if store is not None and job.many else None
        self._notes = Notes()
        self._rows: Scheduler | None = None
        self._batches: BatchExecutor | None = None
        self._workers: Mates | None = None
        self._started = clock.now()
        if job.many:
            stopping.on_row = self.profiler.row

    # -- the run tells what there is to see

    def tell(self, telling: Telling) -> None:
        """Somebody listens: tell them what is found, and note what they are told."""
        self._monitor.emit = telling.emit
        if self._job.many:  # events are made anyway
            telling.add(self._notes)
            telling.add(DearRows(telling.emit))

    def open(
        self,
        loop: asyncio.AbstractEventLoop,
        rows: Scheduler,
        batches: BatchExecutor | None,
        workers: Mates | None,
    ) -> None:
        """The run begins: these are its parts."""
        self._batches, self._workers, self._monitor.workers = batches, workers, workers
        self._rows = rows  # last: other threads look at it
        if not self._job.many:
            return
        if self._account.measure is None:  # a worker's is there already
            self._account.measure = self.profiler
        self._monitor.open(loop)

    def close(self) -> None:
        """No more rows are called."""
        self._monitor.close()

    def before_order(self) -> None:
        """An order is about to change what holds the run: what did so until now is counted as that. From any thread."""
        if self._rows is not None and self._job.many:
            self.profiler.look()

    def after_order(self) -> None:
        """It has. From any thread."""
        self._loop.call(self._monitor.heed)

    # -- what there is to see

    def says(self, *, held: bool, cap: int | None) -> dict[str, Any]:
        """What is shown to other processes while somebody looks on."""
        said = standing(self.stats(), held=held, cap=cap, stopping=self._stopping.stopped is not None)
        report = None if self._kept is None else self._kept.current()
        return {**said, "report": report, "notes": self._notes.lines()}

    def keep_report(self, reason: str | None = None, *, over: bool) -> None:
        """Keep the report with the run as it is now. A run of which a sample was made is not done: it can go on."""
        if reason is None and self._job.sample_of is not None:
            reason = SAMPLE
        if self._kept is not None:
            self._kept.write(reason=reason, over=over)

    def _to_keep(self) -> Report:
        of = self._job.sample_of
        return self.report() if of is None else self._report(of.rows, of.stored)

    def report(self) -> Report:
        """Return where time and money have gone so far."""
        return self._report(self._total(), self._reader.stored)

    def _report(self, total: int | None, stored: int) -> Report:
        cached, budget, account = self.cached, self._job.settings.budget, self._account
        return self.profiler.report(
            Besides(
                total=total,
                stored=stored,
                saved_usd=cached.saved_usd if cached.saved_known else None,
                budget_usd=None if budget is None else budget.total,
                uncertain_usd=account.spending.uncertain / PICO,
                prompts=account.prompts.summary(),
                has_batches=self._has_batches(),
                transports=account.transports.counts(),
                over=self._loop.finished,
                stopped=self._stopped(),
            )
        )

    def _stopped(self) -> str | None:
        """Why the run ends before its rows do; None: it does not."""
        if (stopped := self._stopping.stopped) is not None:
            return stopped.reason
        return None if self._reader.error is None else "error"

    def _has_batches(self) -> Callable[[str], bool] | None:
        """Which models' requests a batch could have held; None for a run that streams, or that goes through batches."""
        if self._job.terms is not None or self._job.streaming:
            return None
        from cottonpalm.providers.batches.choice import has_batches  # noqa: PLC0415 - its imports cost time

        return partial(has_batches, hosts=self._job.settings.lane.hosts)

    def _look(self) -> Look:
        binds = self._monitor.found()
        return Look(binds.what, self._limit(), self._requests(), binds.why)

    def _limit(self) -> float | None:
        return self._account.flow.limit() if self._workers is None else self._workers.limit

    def _requests(self) -> int:
        return self._account.flow.in_flight() if self._workers is None else self._workers.requests

    def _pause_s(self) -> float:
        return self._account.flow.pause_s() if self._workers is None else self._workers.pause_s

    def _why_down(self) -> str:
        said = self._account.last_said if self._monitor.binding.what == "down" else ""
        return f"provider down: {said}" if said else ""

    def stats(self) -> Stats:
        """Return a snapshot of the counts."""
        tally, rows, account = self._stopping.tally, self._rows, self._account
        finished = self._loop.finished
        return Stats(
            total=self._total(),
            stored=self._reader.stored,
            ok=tally.ok,
            failed=tally.failed,
            skipped=tally.skipped,
            in_flight=0 if rows is None or finished else max(0, rows.active),
            waiting=account.flow.waiting,
            limit=self._limit() or 0.0,
            requests=self._requests(),
            binding=Binding("", "") if finished else self._monitor.binding,
            pause_s=self._pause_s(),
            silent_s=self._monitor.silent_s,
            trouble=account.reach.trouble or self._why_down(),
            unreached=account.reach.unreached,
            allowed_per_s=account.flow.allowed_per_s(),
            cost_usd=tally.cost_pico / PICO,
            cost_known=tally.cost_known and not account.spending.unbounded,
            reported_usd=account.spending.reported / PICO,
            uncertain_usd=account.spending.uncertain / PICO,
            budget_left_usd=None if (left := account.pricing.budget_left()) is None else left / PICO,
            budget_spent_usd=None if (spent := account.pricing.budget_spent()) is None else spent / PICO,
            repeated=account.pricing.repeated,
            attempts=tally.attempts,
            started=self._started,
            finished=finished,
            chunks=None if self.chunks is None else self.chunks.finished,
            chunks_total=self._job.chunks_total,
            out=self.out(),
            cache=replace(self.cached),
        )

    def out(self) -> int:
        """How many rows wait for batches."""
        return 0 if self._batches is None else self._batches.out

    def _total(self) -> int | None:
        """How many rows there are; None: nobody knows yet."""
        if self._job.total is not None:
            return self._job.total
        return self._reader.read if self._rows is not None and self._rows.feed.done else None
