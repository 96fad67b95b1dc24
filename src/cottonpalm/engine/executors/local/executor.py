"""The hot loop: rows run as coroutines on this process's loop. A task that ends a row goes on with the next row."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cottonpalm import clock
from cottonpalm.engine.executors.local.in_context import InContext
from cottonpalm.engine.executors.local.row_deadlines import Deadlines
from cottonpalm.engine.layers.order import FirstTry
from cottonpalm.errors import RowTimeout
from cottonpalm.protocols import known
from cottonpalm.request.row_account import ROW, RowAccount
from cottonpalm.runtime import loop_shutdown
from cottonpalm.runtime.signal_handlers import raised_by_handler
from cottonpalm.types import Item, Outcome, Parked, numbered

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Awaitable, Callable, Collection

    from cottonpalm.protocols import Inner, RowSource
    from cottonpalm.request.run_account import RunAccount


MOMENT_S: Final = 0.02  # a run that is left takes the answers that come, until none came in so long...
LAST_S: Final = 1.0  # ...or so long; and a row that has its answers may take as long to its end
AT_ONCE: Final = 64  # rows that start before the loop turns, so that they show whether they must wait in line


class LocalExecutor:
    """Runs rows on this loop.

    Args:
        run: what the requests of this run share.
        send: calls the chain for a row, with the row layers round it.
        failed: exception -> outcome of a failed row, or None if the run itself must stop.
        lost: called for a row whose task was cancelled by others: by the row's own code, or at the end of the loop.
        context: each row runs in its own copy of this context.
        item_timeout_s: seconds that a row may take in all, or None.
    """

    def __init__(
        self,
        run: RunAccount,
        send: Inner,
        failed: Callable[[Item, BaseException], Outcome],
        lost: Callable[[Item], None],
        *,
        context: contextvars.Context,
        item_timeout_s: float | None,
    ) -> None:
        self._run, self._failed, self._context = run, failed, context
        self._send = send
        self._after: Callable[[Item, Exception], Awaitable[Any]] = _raises
        if isinstance(send, FirstTry):
            self._send, self._after = send.send, send.after
        self._lost = lost
        self._leaving = False  # True: we have cancelled the rows
        self._stopping = False  # no further call is to begin
        self._going_on = False  # more rows start in the next turn of the loop
        self._parent = context.get(ROW)
        self._loop = asyncio.get_running_loop()
        self._deadlines = None if item_timeout_s is None else Deadlines(item_timeout_s, self._loop)
        self._item_timeout_s = item_timeout_s
        self._workers: dict[asyncio.Task[None], Item | None] = {}  # worker -> a row it has not begun, or None
        self._unbegun = 0  # how many of them have not
        self._now: dict[asyncio.Task[None], Item] = {}  # worker -> the row it works on
        self._ended = self._loop.create_future()
        self._rows: RowSource
        self._aside: Callable[[Item, bool], None]

    async def run(self, rows: RowSource) -> None:
        """Take rows while there is room, until none is left. If cancelled, settle the rows under way.

        Those that have all answers they asked for may end in order, since these are paid for; the others are cancelled.
        """
        self._rows, self._aside = rows, rows.aside
        rows.wake = self.fill
        self.fill()
        try:
            await self._ended
        except BaseException:  # else all rows are done: the run was not left
            rows.closing = True
            raise
        finally:
            self._leaving = True
            try:
                await self._all_gone()
            finally:
                if self._loop.is_closed():
                    self._end_all()
                if self._deadlines is not None:
                    self._deadlines.close()

    async def _all_gone(self) -> None:
        """End the rows under way, and wait until they have ended."""
        if self._loop.is_closed():
            return
        try:
            await self._last_answers()
        finally:
            if not self._loop.is_closed():
                self._cancel_but()
        while self._workers:
            await asyncio.wait(self._workers)
            await asyncio.sleep(0)  # let their done callbacks remove them from the table

    async def _last_answers(self) -> None:
        """Let the rows end whose answers have arrived; nobody asks anything more."""
        accounts = [item.account for item in self._now.values() if item.account is not None]
        for account in accounts:
            account.ask_no_more()
        until = self._loop.time() + LAST_S
        out, before = sum(account.on_wire for account in accounts), -1
        while out and out != before and self._loop.time() < until:
            await asyncio.sleep(MOMENT_S)
            out, before = sum(account.on_wire for account in accounts), out
        answered = {
            worker
            for worker, item in self._now.items()
            if item.account is not None and item.account.has_its_answers
        }
        self._cancel_but(answered)
        if answered:
            await asyncio.wait(answered, timeout=LAST_S)

    def _cancel_but(self, these: Collection[asyncio.Task[None]] = ()) -> None:
        for worker in self._workers:
            if worker not in these:
                worker.cancel()

    def _end_all(self) -> None:
        """End all rows from outside, since the loop was closed; first the tasks that the rows themselves started."""
        self._rows.wake = lambda: None
        for item in self._now.values():
            if item.account is not None:
                item.account.on_aside = item.account.on_short = None
                item.account.close()
        for task in loop_shutdown.tasks_with(self._loop, ROW, self._is_mine):
            loop_shutdown.end(task)
        workers, self._workers = self._workers, {}
        for worker, unbegun in workers.items():
            loop_shutdown.end(worker)
            if unbegun is not None:
                self._rows.finish(unbegun, Outcome(unbegun.index, "skipped"))

    def _is_mine(self, row: RowAccount | None) -> bool:
        return row is not None and row.run is self._run

    def fill(self) -> None:
        """Start as many rows as may start now. Called after every change; never awaits."""
        try:
            if self._stopping:
                self._drop_untouched()
            if not self._going_on:
                self._start_some()
            self._rows.flush_if_idle()
        except BaseException as exc:  # noqa: BLE001 - raised by `run`; in a callback, the loop would only note it
            self._break_off(exc)
        if not self._workers and self._rows.ended and not self._ended.done():
            self._ended.set_result(None)

    def _break_off(self, error: BaseException) -> None:
        """End the run with a bug of our own, or an exception of a signal handler: a row may be lost, and waited for."""
        if not self._ended.done():
            self._ended.set_exception(error)

    def _start_some(self) -> None:
        for _ in range(AT_ONCE):
            if (item := self._rows.next()) is None:
                return
            worker = self._loop.create_task(self._work(item), context=self._context)
            self._workers[worker] = item
            self._unbegun += 1
            worker.add_done_callback(self._gone)
        self._going_on = True
        self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._going_on = False
        self.fill()

    def let_go(self) -> None:
        """The run is stopping: rows that have called nothing yet, or sleep between two calls, need not be finished.

        They end with the next `fill`; there may have been none yet.
        """
        self._leaving = self._stopping = True

    def _drop_untouched(self) -> None:
        for worker, unbegun in self._workers.items():
            if not worker.cancelling() and (unbegun is not None or self._is_untouched(worker)):
                worker.cancel()

    def _is_untouched(self, worker: asyncio.Task[None]) -> bool:
        """Whether it loses nothing if the row that this worker is at ends now, also one that waits at a gate."""
        item = self._now.get(worker)
        return item is not None and (item.account is None or item.account.close_untouched())

    def under_way(self) -> list[float]:
        """When each row began that is not over."""
        return [item.began_s for item in self._now.values() if item.account is not None]

    def drop_all(self) -> None:
        """The run is stopping and its rows make no progress: drop all of them, and wait for none."""
        self._leaving = True
        for worker in list(self._workers):
            worker.cancel()

    async def tidy(self) -> None:
        """Nothing is kept."""

    async def _work(self, item: Item | None) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._workers[task] = None
        self._unbegun -= 1
        while item is not None:
            row = InContext(self._row(item, task), self._context.copy())
            try:
                await row
            except GeneratorExit:
                if not row.finished:
                    raise
            if self._unbegun:  # rows let in before go first: another worker takes the next one, behind them
                return
            item = self._rows.next()

    def _gone(self, worker: asyncio.Task[None]) -> None:
        """A worker ended. If it was cancelled before its first step, it never touched its row."""
        self._now.pop(worker, None)
        if (item := self._workers.pop(worker)) is not None:
            self._unbegun -= 1
            self._rows.finish(item, Outcome(item.index, "skipped"))
        if not worker.cancelled() and (error := worker.exception()) is not None:
            self._break_off(error)
        self.fill()

    async def _row(self, item: Item, task: asyncio.Task[Any]) -> None:
        """Run one row from its admission to its settlement, which happens exactly once in every case."""
        item.began_s = started = clock.now()
        self._now[task] = item
        outcome: Outcome | Parked | None = None
        try:
            if self._deadlines is not None:
                self._deadlines.start(task)
            answer = self._rows.admit(item)
            if answer is not None and (outcome := await known(answer)) is not None:
                return
            account = self._begun(item, task)
            failure: Exception | None = None
            try:  # here, not in a layer round each row: one coroutine less to resume at each await
                output = await self._send(item)
            except Exception as exc:  # noqa: BLE001 - raised again, but for what the layers know better
                failure = exc
            if failure is not None:
                again, failure = self._after(item, failure), None
                output = await again
            outcome = _answered(item, account, output)
        except BaseException as exc:  # noqa: BLE001 - raised again if it is not the row's
            outcome = self._raised(exc, item, task)
        finally:
            self._settle(item, outcome or Outcome(item.index, "skipped"), started, task)

    def _begun(self, item: Item, task: asyncio.Task[Any]) -> RowAccount:
        item.account = account = RowAccount(self._run, item.index, item.priority, self._parent)
        account.place, account.on_aside = item, self._aside
        if self._deadlines is not None:
            account.on_short = partial(self._deadlines.stand_still, task)
        ROW.set(account)
        return account

    def _raised(self, exc: BaseException, item: Item, task: asyncio.Task[Any]) -> Outcome | None:
        """The outcome of a row that raised; None: it is skipped. A cancel of ours goes on."""
        if (meant_for_all := raised_by_handler(exc)) is not None:
            self._break_off(meant_for_all)
            return None
        if not self._ours(item, task):
            return self._late(exc, item) if self._is_late(task) else self._failed(item, exc)
        if isinstance(exc, asyncio.CancelledError):
            raise exc
        return None

    def _settle(self, item: Item, outcome: Outcome | Parked, started: float, task: asyncio.Task[Any]) -> None:
        if self._deadlines is not None:
            self._deadlines.end(task)
        if (account := item.account) is not None:
            account.close()
        if type(outcome) is Outcome:
            if account is not None:
                note(outcome, item)
                if account.too_dear is not None and outcome.status == "skipped":
                    outcome.exception = account.too_dear
            if item.stored is None:
                outcome.latency_s = clock.now() - started
        item.account = None
        self._rows.finish(item, outcome)

    def _ours(self, item: Item, task: asyncio.Task[Any]) -> bool:
        """Whether we, or the end of the loop, ended the row; the chain may have raised something else since.

        Any other cancel came from the chain: a failed row.
        """
        if self._loop.is_closed() or (item.account is not None and item.account.refused):
            return True
        if task.cancelling() and not self._is_late(task):
            self._rows.closing = True
            if not self._leaving:
                self._lost(item)
            return True
        return False

    def _is_late(self, task: asyncio.Task[Any]) -> bool:
        return self._deadlines is not None and self._deadlines.late(task)

    def _late(self, exc: BaseException, item: Item) -> Outcome:
        late = RowTimeout(
            f"{numbered(item.index)} took longer than item_timeout={self._item_timeout_s:g} seconds"
        )
        late.__cause__ = exc
        return self._failed(item, late)


async def _raises(_: Item, failure: Exception) -> Any:
    raise failure


def _answered(item: Item, account: RowAccount, output: Any) -> Outcome:
    if account.refused:  # the run was left, and the chain has made something up in an answer's place
        return Outcome(item.index, "skipped")
    last = item.account  # of its last round, if it has rounds
    return Outcome(item.index, "ok", output, truncated=last.truncated)


def note(outcome: Outcome, item: Item) -> None:
    """Write what the row's requests used into its outcome. If we could not see its requests, count calls instead."""
    account = item.account
    calls = 0 if outcome.status == "skipped" or account.known else item.calls
    outcome.attempts = account.attempts or calls
    outcome.usage, outcome.model = account.usage, account.model
    outcome.cost_pico, outcome.cost_source = account.cost_pico, account.cost_source
    if account.replays or account.flexed:
        outcome.lane = account.lane
    if outcome.error is not None and account.tries:
        tries = tuple(each._replace(at_s=each.at_s - item.began_s) for each in account.tries)
        outcome.error = replace(outcome.error, tries=tries)
