"""Rows answered through a provider's Batch API, in rounds, behind the same seam as the local executor.

A round runs a row with its known answers up to the requests that have none. Those are packed into batches; when the
batches are over, the rows go into their next round, and the last round of a row is like a live one. Rows at different
depths travel together. Nothing is held of a row while it waits but the row itself.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from cottonpalm.engine.executors.batch.answering import Answering
from cottonpalm.engine.executors.batch.post import Post
from cottonpalm.engine.executors.batch.rescue import Rescue
from cottonpalm.engine.executors.batch.returned import out_words
from cottonpalm.engine.executors.batch.row_source import RowsInRounds
from cottonpalm.engine.executors.batch.rows_out import RowsOut
from cottonpalm.engine.executors.batch.shelf import RowShelf
from cottonpalm.errors import CottonpalmError, StoreError
from cottonpalm.observers.words.formatting import count, money
from cottonpalm.providers.batches.client import connections
from cottonpalm.providers.batches.stages import Stage
from cottonpalm.providers.batches.submission import Desk
from cottonpalm.providers.batches.troubles import may_pass
from cottonpalm.request.transport.sender import INSIDE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cottonpalm.engine.executors.batch.terms import BatchTerms
    from cottonpalm.engine.executors.local.executor import LocalExecutor
    from cottonpalm.protocols import Inner, RowSource
    from cottonpalm.providers.batches.stages import Batch, KeepsBatches, Member
    from cottonpalm.request.run_account import RunAccount
    from cottonpalm.types import Item

log = logging.getLogger("cottonpalm")
_LOOK_S: Final = 0.02  # between looks while requests wait for money that comes by itself


class BatchExecutor:
    """Answers rows through batches; what no batch can hold is asked live.

    Args:
        terms: how.
        run: what its requests share.
        store: keeps the batches.
        send: the row layers round the call of the chain.
        local: makes the executor that calls `send` for each row.
        stop: reason, why and cause: ends the run.
    """

    def __init__(
        self,
        terms: BatchTerms,
        run: RunAccount,
        store: KeepsBatches,
        send: Inner,
        *,
        local: Callable[[Inner], LocalExecutor],
        stop: Callable[[str, str, BaseException | None], None],
    ) -> None:
        self._terms, self._options = terms, terms.lane
        self._run, self._send, self._stop = run, send, stop
        self._local = local(self._answer)
        self._book = store.book()
        self._shelf = RowShelf(used=terms.lazy)
        self._out = RowsOut(self._shelf)
        self._rescue: Rescue | None = None
        if terms.deadline_s is not None and terms.sends:
            self._rescue = Rescue(terms.deadline_s, terms.lane, run, self._out, self._give_up)
        self._answering: Answering
        self._post: Post
        self._rows: RowsInRounds
        self._later: asyncio.TimerHandle | None = None  # a look that is due soon

    # -- the executor's seam

    async def run(self, rows: RowSource) -> None:
        """See `protocols.Executor`."""
        token = INSIDE.set(True)  # the Batch API's own requests are none of a row's
        watch: asyncio.Task[None] | None = None
        try:
            async with connections() as http:
                self._post = self._made_post(
                    Desk(
                        self._book,
                        http,
                        lambda lane: self._post.whose(lane) or {},
                        listing_wait_s=self._options.listing_wait_s,
                        poll_s=self._options.poll_s,
                    )
                )
                self._rows = RowsInRounds(
                    rows,
                    self._out,
                    self._post,
                    self._run.flow,
                    rescue=self._rescue,
                    cancels=self._options.cancel,
                    look=self._look,
                )
                self._answering = Answering(
                    self._terms,
                    self._run,
                    self._send,
                    book=self._book,
                    rows=self._out,
                    post=self._post,
                    source=self._rows,
                    rescue=self._rescue,
                    stop=self._stop,
                )
                try:
                    await self._take_up()
                    if self._rescue is not None:
                        watch = asyncio.get_running_loop().create_task(self._rescue.watch())
                        watch.add_done_callback(self._watched)
                    INSIDE.reset(token)
                    await self._local.run(self._rows)
                    await self._settled()
                finally:
                    self._rows.alive = False
                    if watch is not None:
                        watch.cancel()
                    await self._post.close()
                    self._rows.give_up_waiting()
        finally:
            self._shelf.close()
            self._tell_end()

    async def _settled(self) -> None:
        """All rows are done: wait for batches that still hold some of them, so that it is known what they cost."""
        if self._options.cancel:
            await self._all_cancelled()
        if self._rows.closing or self._terms.detach or not self._terms.sends:
            return
        rows = await asyncio.to_thread(self._book.rows)  # but for those that an earlier call has done
        unfinished, late = {row for row, _, _ in rows} - {*self._out.done}, set[str]()
        for tag in self._post.open.keys() - self._post.given_up:
            if self._rescue is not None and self._post.is_mine(tag):
                continue  # whoever set a deadline is waited for no longer; the next call settles it
            members = await asyncio.to_thread(self._book.members, tag)
            if not unfinished.issuperset(member.row for member in members):
                late.add(tag)
        if late:
            await self._introduced()
        while late & self._post.open.keys() and self._post.reachable and self._has_time:
            await self._post.next_move(1.0)

    @property
    def _has_time(self) -> bool:
        return not self._rows.closing and (self._rescue is None or self._rescue.left_s > 0)

    async def _all_cancelled(self) -> None:
        """Rows that are done asked nothing in this call, so nobody has said yet who pays for what is out."""
        await self._introduced()
        while self._post.open and self._post.reachable and not self._rows.closing:
            await self._post.next_move(1.0)
        self._end_cancelled()

    async def _introduced(self) -> None:
        if not self._post.reachable and (row := self._rows.first or self._rows.passed) is not None:
            await self._answering.introduce(row)

    def _made_post(self, desk: Desk) -> Post:
        post = Post(
            self._book,
            desk,
            self._run,
            self._options,
            over=self._over,
            failed=self._failed,
            rescue=self._rescue,
        )
        post.news = self._look
        return post

    def let_go(self) -> None:
        """See `protocols.Executor`."""
        self._local.let_go()

    def under_way(self) -> Sequence[float]:
        """See `protocols.Executor`. A row that waits for a batch is not under way."""
        return self._local.under_way()

    def drop_all(self) -> None:
        """See `protocols.Executor`."""
        self._local.drop_all()

    async def tidy(self) -> None:
        """What was answered is stored: the answers of batches need not be kept twice."""
        if self._out.done and self._post.any:
            await asyncio.to_thread(self._book.forget, self._out.done)

    @property
    def out(self) -> int:
        """How many rows wait for answers from batches."""
        return len(self._out.waiting)

    async def _answer(self, item: Item) -> object:
        """What the local executor calls for each row."""
        return await self._answering.answer(item)

    # -- what to do when nothing more comes

    def takes_paid(self, why: str, cause: BaseException | None) -> bool:
        """No money is left. Whether answers that are out or not taken yet come first; the run stops after them."""
        if self._rows.spent is None:
            if self._rows.closing or not self._out.owed:
                return False
            self._rows.spent = why, cause
            self._run.alerts.warn(
                "spent",
                f"{why.rstrip('.')}. What is out in batches, or answered by them, is taken first; then the run stops",
            )
        return True

    def _look(self) -> None:
        """Submit what there is once nothing more will come for now; leave where that was all that was wanted."""
        if not self._rows.alive or self._rows.closing:
            return
        if self._rows.spent is not None and self._rows.taken:
            why, cause = self._rows.spent
            self._stop("budget", why, cause)
            return
        unpaid, busy = self._run.flow.unpaid, self._rows.busy
        if self._post.unspooled and busy <= 0 and self._rows.dry:
            self._post.flush()
        elif self._post.unspooled and 0 < busy <= unpaid and self._is_short():
            self._tell_short()
            self._post.flush()
        if self._terms.detach and self._out.waiting and self._post.settled:
            self._look_detached(short=0 < busy <= unpaid)
        if self._options.cancel and not self._rows.active:
            self._look_cancelled()
        elif not self._rows.active and self._rows.dry:
            self._give_up_unreachable()

    def _look_detached(self, *, short: bool) -> None:
        """Leave once all is out, or only a batch that ends, in hours, could bring money for more."""
        out = out_words(self._post.open.values())
        if not self._rows.active and self._rows.dry:
            self._stop("detached", out, None)
        elif short and self._is_short():
            self._stop("detached", f"{out}, and the budget lets no more out until one is over", None)

    def _give_up_unreachable(self) -> None:
        """Rows wait for no batch of a model that the chain asks no more."""
        for batch in filter(self._is_awaited, self._post.unreachable()):
            self._run.alerts.warn(
                f"unreachable {batch.tag}",
                f"the chain asks {batch.lane.label} no more, so batch {batch.batch_id or batch.tag} cannot be"
                " looked at: its rows run live, and what it has done is paid. Look for it at the provider",
            )
            self._give_up(batch)

    def _is_awaited(self, batch: Batch) -> bool:
        waiting = self._out.waiting
        return bool(waiting) and any(member.row in waiting for member in self._book.members(batch.tag))

    def _tell_short(self) -> None:
        out = self._post.unspooled + sum(batch.rows for batch in self._post.open.values())
        self._run.alerts.warn(
            "short",
            f"the budget lets about {count(out, 'request')} be out at once, as each sets aside all that it may cost:"
            " the others wait until a batch is over. A higher budget, or fewer tokens of an answer at most (max_tokens,"
            " --max-output-tokens), lets more of them out",
        )

    def _is_short(self) -> bool:
        """Whether only batches that end can bring money; else those that wait go on by themselves."""
        if self._run.ledger is not None and self._run.ledger.full:
            return True
        loop = asyncio.get_running_loop()
        if self._later is None or self._later.when() <= loop.time():
            self._later = loop.call_later(_LOOK_S, self._look)
        return False

    def _look_cancelled(self) -> None:
        """Leave once all batches are over, or nobody can say who pays for them; that may be a row that is done."""
        if not self._post.open or (self._rows.dry and not self._rows.ended and not self._post.reachable):
            self._end_cancelled()

    def _end_cancelled(self) -> None:
        if not self._post.open:
            self._stop("cancelled", "no batch is out any more; what they had done is kept", None)
        elif not self._post.reachable:
            ids = ", ".join(batch.batch_id or batch.tag for batch in self._post.unreachable())
            self._stop("cancelled", f"the chain asks their model no more: cancel {ids} at the provider", None)

    # -- batches that come back

    async def _take_up(self) -> None:
        """What an earlier process left out."""
        await self._post.begin()
        if self._post.any:  # what an account was refused stopped the run: it goes on once that is settled
            await asyncio.to_thread(self._book.doubt, may_pass)
        for tag in list(self._post.open):
            for member in await asyncio.to_thread(self._book.members, tag):
                self._out.sent(member.row, member.key)
        self._out.found(row for row, _, _ in await asyncio.to_thread(self._book.rows))
        if self._options.cancel:
            for batch in list(self._post.open.values()):
                await self._post.cancel(batch)
        if self._rescue is not None:
            self._rescue.post = self._post
            self._rescue.remember(await asyncio.to_thread(self._book.past))

    def _over(self, batch: Batch, members: Sequence[Member], lost: Sequence[Member]) -> None:
        """The rows that have all their answers go into their next round."""
        refused = batch.stage is Stage.ABANDONED and self._post.refused(batch)
        if refused:
            self._tell_refused(batch)
        pulled = self._rescue is not None and batch.cancelling
        before = len(self._out.live)
        self._out.over(members, members if refused else lost, live=refused or pulled)
        if (live := len(self._out.live) - before) and not (refused or pulled):
            self._run.alerts.warn(
                "live after all",
                f"{count(live, 'row')} got no answer from two batches, the last of them {batch.batch_id or batch.tag}:"
                " such rows run live, at the full price",
            )
        self._rows.wake()

    def _tell_refused(self, batch: Batch) -> None:
        """The provider will never take this batch. Where it took none at all, the rows are worth more than was said."""
        said = (
            f"{batch.lane.label} took no batch of {count(batch.rows, 'request')} (BatchLane(rows=...) makes smaller"
            f" ones): {batch.why.rstrip('.')}"
        )
        if self._terms.at_its_price and not any(known.batch_id for known in self._book.batches()):
            self._answering.gets_none(said)
        else:
            self._run.alerts.warn("refused", f"{said}. They run live, at the full price")

    def _give_up(self, batch: Batch) -> None:
        """Its rows wait for it no longer: they go live."""
        if batch.tag not in self._post.given_up:
            self._post.give_up(batch)
            self._out.give_up(self._book.members(batch.tag), live=True)
            self._rows.wake()

    def _tell_end(self) -> None:
        """Say what was paid twice, or may be."""
        if twice := {tag: cost for tag, cost in self._post.money.paid_twice.items() if cost}:
            self._run.alerts.warn(
                "paid twice",
                f"{_were(len(twice))} not stopped in time for the deadline, while the rows ran live: up to"
                f" {money(sum(twice.values()))} was paid twice",
            )
        if hanging := [tag for tag in self._post.given_up if tag in self._post.open]:
            self._run.alerts.warn(
                "may be paid twice",
                f"{_were(len(hanging))} still out at the end, while the rows ran live: what is done there may be paid"
                " twice. `cottonpalm status` shows it, `collect` settles it",
            )
        elif self._post.open and (out := [batch for batch in self._book.batches() if batch.out]):
            self._run.alerts.warn(
                "out",
                f"{out_words(out)}, and paid for: the same call again (`cottonpalm"
                " collect RUN`) goes on, `cottonpalm cancel RUN` stops what is out",
            )

    def _watched(self, watch: asyncio.Task[None]) -> None:
        """The deadline is not watched any more: without this, a run would miss it and say nothing."""
        if not watch.cancelled() and (error := watch.exception()) is not None:
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        """No batch goes on: what is out is found again by the next call."""
        reason = "store" if isinstance(error, StoreError) else "fatal"
        if not isinstance(error, CottonpalmError):
            log.error("the batch lane failed", exc_info=error)
        self._stop(reason, str(error), error)


def _were(batches: int) -> str:
    return "1 batch was" if batches == 1 else f"{batches:,} batches were"
