"""Runs rows in other processes, each with an engine of its own. Gates, store, order and budget stay in this one.

A row that was let in is on its way to one worker until its outcome comes back. If the worker dies, the row goes to
another one; what the dead one may have spent counts as spent, and its share of the limits ends with it. A row that a
worker dies of is found by trying those of dead workers apart, and fails (see `suspects`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cottonpalm import clock
from cottonpalm.engine.executors.local.executor import LAST_S
from cottonpalm.engine.executors.workers.links import Order, WorkerLost
from cottonpalm.engine.executors.workers.mate import Mate
from cottonpalm.engine.executors.workers.mates import Mates
from cottonpalm.engine.executors.workers.news import News
from cottonpalm.engine.executors.workers.suspects import Suspects, to_blame
from cottonpalm.errors import ConfigError
from cottonpalm.providers.raised import TooDear
from cottonpalm.request.money.remote import Lumps, MoneyTold
from cottonpalm.types import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cottonpalm.engine.executors.workers.links import Begin, Heard, WorkerPool
    from cottonpalm.protocols import Later, RowSource
    from cottonpalm.request.run_account import RunAccount
    from cottonpalm.types import Item

LEAVE_S: Final = 5.0  # a worker that was told to stop has so long to say its last
LOOK_S: Final = 2.0  # between two looks at how many workers there are to be
DEATHS: Final = 3  # workers that die one after the other without an answer: they will go on dying


class WorkersExecutor:
    """Hands rows out to the workers of a pool. See `protocols.Executor`.

    Args:
        pool: where the workers come from.
        begin: what each one is told first.
        account: what the requests of this run share; money and counts go there.
        stop: stops the run, with (reason, why).
        silent_s: a worker that has begun speaks twice a second; one that says nothing for so long is lost.
        cap: how many rows may run at once, of all workers; None: not said.

    Attributes:
        mates: its workers.
    """

    def __init__(
        self,
        pool: WorkerPool,
        begin: Begin,
        account: RunAccount,
        stop: Callable[[str, str], None],
        *,
        silent_s: float,
        cap: int | None = None,
    ) -> None:
        self._silent_s = silent_s
        self._pool, self._begin, self._account, self._stop = pool, begin, account, stop
        self.mates = Mates(lambda: account.flow.limiters.maximum, cap, self._over)
        self._again: deque[Item] = deque()  # rows that were let in, and wait for a worker
        self._suspects = Suspects()  # those with which workers died
        self._tasks: set[asyncio.Task[None]] = set()  # one for each worker
        self._opening: set[asyncio.Task[None]] = set()  # those whose worker is not there yet
        self._asides: set[asyncio.Task[None]] = set()  # rows at a slow gate, and requests for money
        self._ended = asyncio.Event()
        self._leaving = False
        self._begun = False  # there is a row for them
        self._news = News(account)
        self._deaths = 0
        self._loop = asyncio.get_running_loop()
        self._rows: RowSource

    # -- what the run sees

    def wants(self) -> int:
        """How many rows the workers want together; before they begin, the first row, which makes them begin."""
        return self.mates.wants if self._begun else 1

    @property
    def count(self) -> int:
        """How many workers there are to be."""
        return self._pool.count

    @count.setter
    def count(self, count: int) -> None:
        self._pool.count = count

    def _over(self) -> bool:
        return self._leaving or self._ended.is_set()

    async def run(self, rows: RowSource) -> None:
        """See `protocols.Executor`."""
        self._rows = rows
        rows.wake = self.fill
        ended = self._loop.create_task(self._ended.wait())
        try:
            self.fill()
            await self._until(ended)
            self._tell_all_to_stop()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=LEAVE_S)
        finally:
            rows.closing = self._leaving = True
            try:
                await self._last_answers()
            finally:
                try:
                    await _cancelled([*self._tasks, *self._asides, ended])
                finally:
                    self._settle_all()
                self._pool.close()

    async def _last_answers(self) -> None:
        """Take what the workers have answers of already; nobody asks anything more."""
        if self._tasks and any(mate.out for mate in self.mates):
            for mate in self.mates:
                mate.say(Order(leave=True))
            await asyncio.wait(self._tasks, timeout=3 * LAST_S)

    async def _until(self, ended: asyncio.Task[Any]) -> None:
        """Wait until all rows are back; an error of a worker's task ends the run with it."""
        while not ended.done() and (self._tasks or not self._begun):
            done, _ = await asyncio.wait(
                {ended, *self._tasks}, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done & self._tasks:
                self._tasks.discard(task)
                if not task.cancelled():
                    task.result()
            if self._begun and not (ended.done() or self._leaving or self._rows.closing):
                if (why := await asyncio.to_thread(self._pool.look)) is not None:
                    self._account.alerts.warn("workers wait", why)
                self.resize()

    def resize(self, count: int | None = None) -> None:
        """Begin more workers, or let some finish what they have, until there are as many as there are to be.

        Args:
            count: how many; None: as many as the pool says.
        """
        if count is not None:
            self._pool.count = count
        if not self._begun:
            return
        draining = sum(mate.stopped for mate in self.mates)
        there = [task for task in self._tasks if not task.cancelling()]
        more = self._pool.count - len(there) + draining
        for _ in range(more):
            self._tasks.add(self._loop.create_task(self._worker()))
        able = sorted((mate for mate in self.mates if not mate.stopped), key=lambda one: len(one.out))
        ends: list[Callable[[], object]] = [task.cancel for task in there if task in self._opening]
        ends += [partial(mate.say, Order(stop=True)) for mate in able]
        for end in ends[: max(0, -more)]:
            end()

    def fill(self) -> None:
        """Hand out as many rows as the workers want, evenly. Called after every change; never awaits."""
        if not self._begun and (first := self._next()) is not None:
            self._again.append(first)
            self._begun = True
            self.resize()
        kept_free = self._try_apart()
        self.mates.hand_out(self._next, but=kept_free)
        self._rows.flush_if_idle()
        if self._leaving or self._rows.closing:
            self._drop_unsent()
        under_way = any(mate.out for mate in self.mates)
        if self._rows.ended and not (self._again or self._suspects or self._asides or under_way):
            self._ended.set()

    def _try_apart(self) -> Mate | None:
        """Give one worker rows with which others died, or keep the emptiest one free for them."""
        able = [mate for mate in self.mates if mate.wants and not mate.stopped]
        if not self._suspects or not able or any(mate.apart for mate in self.mates):
            return None
        free = min(able, key=lambda mate: len(mate.out))
        if not free.out:
            free.apart = True
            for item in self._suspects.next(free.wants):
                free.give(item)
        return free

    def let_go(self) -> None:
        """See `protocols.Executor`."""
        self._leaving = True
        self._tell_all_to_stop()
        self.fill()

    def under_way(self) -> list[float]:
        """See `protocols.Executor`."""
        return [item.began_s for mate in self.mates for item in mate.out.values()]

    def drop_all(self) -> None:
        """See `protocols.Executor`."""
        self._leaving = True
        for mate in self.mates:
            mate.link.kill()

    async def tidy(self) -> None:
        """Nothing is kept."""

    # -- rows

    def _next(self) -> Item | None:
        """Return a row that no gate answers, or None: there is none now."""
        if self._again:
            return self._again.popleft()
        while (item := self._rows.next()) is not None:
            answer = self._rows.admit(item)
            if isinstance(answer, Coroutine):
                self._aside(self._admitted(item, answer))
            elif answer is None:
                return item
            else:
                self._rows.finish(item, answer)
        return None

    def _aside(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)
        task.add_done_callback(lambda _: self.fill())
        return task

    async def _admitted(self, item: Item, answer: Later) -> None:
        found: Any = Outcome(item.index, "skipped")
        try:
            found = await answer
        finally:
            if found is None and not self._leaving:
                self._again.append(item)
            else:
                self._rows.finish(item, found or Outcome(item.index, "skipped"))

    def _drop_unsent(self) -> None:
        self._again.extend(self._suspects.drain())
        while self._again:
            item = self._again.popleft()
            self._rows.finish(item, Outcome(item.index, "skipped"))

    def _settle_all(self) -> None:
        for mate in self.mates:
            self._again.extend(mate.out.values())
            mate.out = {}
            mate.lumps.lost()
            mate.link.kill()
            self.mates.leave(mate)
        self._drop_unsent()

    # -- workers

    async def _worker(self) -> None:
        """Keep one worker at work; begin another one in its place when it dies."""
        task = asyncio.current_task()
        assert task is not None
        while not self._over():
            self._opening.add(task)
            try:
                link = await self._pool.open(self._begin)
            except WorkerLost as lost:
                self._count_death(lost)
                continue
            finally:
                self._opening.discard(task)
            mate = Mate(link, self._lumps())
            self.mates.join(mate)
            sending = self._loop.create_task(mate.send())
            try:
                await self._converse(mate, sending)
            except WorkerLost as lost:
                if not mate.answered and not (mate.apart and self.mates.answered):
                    self._count_death(lost)
                self._blame(mate, lost)
                self._lost(mate)
            else:
                return
            finally:
                await _cancelled([sending])

    def _lumps(self) -> Lumps:
        account = self._account
        return Lumps(account.ledger, account.spending, lambda: self._pool.count, account.alerts.spent_more)

    def _count_death(self, lost: WorkerLost) -> None:
        self._deaths += 1
        if self._deaths >= DEATHS * self._pool.count:
            self._stop("fatal", f"its workers die before they answer a row ({lost})")

    async def _converse(self, mate: Mate, sending: asyncio.Task[None]) -> None:
        patience_s = None  # what it imports first may take any time
        while True:
            hearing = self._loop.create_task(mate.link.hear())
            try:
                done, _ = await asyncio.wait(
                    {hearing, sending}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    raise WorkerLost(f"a worker said nothing for {patience_s:.0f} seconds")
                if hearing not in done:
                    sending.result()
                heard = await hearing
            finally:
                await _cancelled([hearing])
            patience_s = self._silent_s
            self._take(mate, heard)
            if heard.over is not None:
                mate.lumps.over(heard.money)
                self._its_run_is_over(mate, heard.over)
                return

    def _take(self, mate: Mate, heard: Heard) -> None:
        mate.lumps.book(heard.money)
        if heard.money.asked is not None:
            mate.granting = self._aside(self._grant(mate, heard))
        mate.wants, mate.requests = heard.wants, heard.requests
        mate.limit, mate.limits = heard.limit, heard.limits
        mate.paused_until = clock.now() + heard.pause_s
        self.mates.add_limits()
        self._news.pass_on(mate, heard)
        for outcome in heard.done:
            if (item := mate.out.pop(outcome.index, None)) is None:
                continue
            mate.answered = True
            self.mates.answered += 1
            self._deaths = 0
            self._suspects.answered(outcome.index)
            left = outcome.status == "skipped" and not isinstance(outcome.exception, TooDear)
            if left and not self._rows.closing:
                self._again.append(item)  # its worker stopped before it began
                continue
            self._rows.finish(item, outcome)
        if mate.apart and not mate.out:
            mate.apart = False
            self._suspects.survived()
        self.fill()

    async def _grant(self, mate: Mate, heard: Heard) -> None:
        """Answer a request for money, or say why there is not enough for it."""
        asked = heard.money.asked
        assert asked is not None
        amount = await mate.lumps.grant(asked)
        if mate in self.mates:
            why = "" if amount else self._account.pricing.why_no_money("the model", lambda: asked.least)
            mate.say(Order(money=amount, why=why))
        else:
            mate.lumps.book(MoneyTold(back=amount))

    def _blame(self, mate: Mate, lost: WorkerLost) -> None:
        """It died: a row that it had alone fails, and of the others it keeps those that are not suspected."""
        if self._leaving or self._rows.closing:
            return
        rows, mate.out = list(mate.out.values()), {}
        if not mate.apart:
            mate.out = {item.index: item for item in self._suspects.died(rows)}
        elif (item := self._suspects.died_apart(rows)) is not None:
            self._rows.finish(item, to_blame(item, lost))

    def _lost(self, mate: Mate) -> None:
        """Its rows go to others."""
        self.mates.leave(mate)
        mate.link.kill()
        if mate.granting is not None:
            mate.granting.cancel()
        mate.lumps.lost()
        self._again.extendleft(reversed(mate.out.values()))
        mate.out = {}
        if not self._rows.closing:
            self.mates.add_limits()
        self.fill()

    def _its_run_is_over(self, mate: Mate, why: tuple[str, str]) -> None:
        """Its own run has ended: it was told so, or it met with something that no row survives."""
        if why[0] and not self._rows.closing:
            self._stop(*why)
        mate.answered = True
        self._lost(mate)

    def _tell_all_to_stop(self) -> None:
        for mate in self.mates:
            if not mate.stopped:
                mate.say(Order(stop=True))


async def _cancelled(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel these tasks and wait for them; what they raise is known already."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError, WorkerLost, ConfigError):
            await asyncio.wait([task])
