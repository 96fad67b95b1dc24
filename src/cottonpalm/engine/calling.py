"""How the rows of a run are called: by which executor, and with which layers round the chain."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING

from cottonpalm.engine.executors.local.executor import LocalExecutor
from cottonpalm.engine.layers.order import layered
from cottonpalm.providers.batches.stages import KeepsBatches
from cottonpalm.runtime.threads import Crew

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.engine.classifier import Classifier
    from cottonpalm.engine.executors.batch.executor import BatchExecutor
    from cottonpalm.engine.executors.batch.terms import BatchTerms
    from cottonpalm.engine.executors.workers.executor import WorkersExecutor
    from cottonpalm.engine.executors.workers.links import Begin, WorkerPool
    from cottonpalm.engine.executors.workers.mates import Mates
    from cottonpalm.engine.job import Job
    from cottonpalm.engine.output.outbox import Pieces
    from cottonpalm.engine.scheduler import Scheduler
    from cottonpalm.engine.stopping import Stopping
    from cottonpalm.protocols import Executor, Inner, RunStore
    from cottonpalm.request.run_account import RunAccount


class Calling:
    """Makes the executor of a run on its loop, and keeps the threads of its callers.

    Attributes:
        workers: the executor, if other processes run the rows.
        batches: the executor, if rows go through batches.
    """

    def __init__(self, job: Job, account: RunAccount, judge: Classifier, stopping: Stopping) -> None:
        self.workers: WorkersExecutor | None = None
        self.batches: BatchExecutor | None = None
        self._job, self._account, self._judge, self._stopping = job, account, judge, stopping
        self._crew = Crew(loop=asyncio.get_running_loop())

    @property
    def mates(self) -> Mates | None:
        """The workers together; None: this process runs the rows itself."""
        return None if self.workers is None else self.workers.mates

    def executor(self, rows: Scheduler, store: RunStore | None, pieces: Pieces | None) -> Executor:
        """Make the executor that calls the chain for these rows. Only this place chooses it.

        Args:
            rows: what it takes them from.
            store: where batches are kept.
            pieces: where a streaming run puts its pieces; None: it does not stream.
        """
        if self._job.workers is not None:
            return self._at_workers(self._job.workers)
        send = self._send(rows, pieces)
        terms = self._job.terms
        return self._local(send) if terms is None else self._batches(terms, send, store)

    def close(self) -> None:
        """The run is over."""
        self._crew.close()

    def _at_workers(self, made: Callable[[], tuple[WorkerPool, Begin]]) -> WorkersExecutor:
        from cottonpalm.engine.executors.workers.executor import WorkersExecutor  # noqa: PLC0415 - few runs have them

        settings = self._job.settings
        self.workers = WorkersExecutor(
            *made(), self._account, self._stopping.stop, silent_s=settings.stall_timeout_s, cap=settings.cap
        )
        return self.workers

    def _local(self, send: Inner) -> LocalExecutor:
        return LocalExecutor(
            self._account,
            send,
            self._stopping.failed,
            self._stopping.lost,
            context=contextvars.copy_context(),
            item_timeout_s=self._job.settings.item_timeout_s,
        )

    def _batches(self, terms: BatchTerms, send: Inner, store: RunStore | None) -> BatchExecutor:
        from cottonpalm.engine.executors.batch.executor import BatchExecutor  # noqa: PLC0415 - few runs have one
        from cottonpalm.request.flex import Flex  # noqa: PLC0415 - few runs have one

        account = self._account
        assert isinstance(store, KeepsBatches)
        if terms.flexes:
            openai = [host for host, provider in terms.lane.hosts.items() if provider == "openai"]
            account.flex = Flex(account.pricing.prices, openai)
        self.batches = BatchExecutor(terms, account, store, send, local=self._local, stop=self._stopping.stop)
        self._stopping.takes_paid = self.batches.takes_paid
        return self.batches

    def _send(self, rows: Scheduler, pieces: Pieces | None) -> Inner:
        """Return the call of a row, with the row layers round it."""
        job = self._job
        for caller in job.callers:
            caller.prepare(self._crew, pieces)
        return layered(
            job.callers,
            job.settings.retry,
            self._judge,
            self._account,
            rows.asleep,
            validate=job.settings.validate,
            none_is_no_answer=job.none_is_no_answer,
        )
