"""Rows answered through a provider's Batch API, in rounds, behind the same seam as the local executor.

A round runs a row with its known answers up to the requests that have none. Those are packed into batches; when the
batches are over, the rows go into their next round, and the last round of a row is like a live one. Rows at different
depths travel together. Nothing is held of a row while it waits but the row itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import httpx

from cottonpalm.engine.executors.post import Post
from cottonpalm.engine.executors.rounds import one_round
from cottonpalm.errors import CottonpalmError, StoreError
from cottonpalm.providers.batches.lanes import whose
from cottonpalm.providers.batches.stages import Stage
from cottonpalm.providers.batches.submission import Desk
from cottonpalm.request.recording import SWAPS, Recording, can_swap
from cottonpalm.request.transport.sender import INSIDE
from cottonpalm.types import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cottonpalm.config import BatchLane
    from cottonpalm.engine.executors.local import LocalExecutor
    from cottonpalm.protocols import Admitted, Inner, Later, RowSource
    from cottonpalm.providers.batches.lines import Result
    from cottonpalm.providers.batches.stages import Batch, KeepsBatches, Member
    from cottonpalm.request.run_account import RunAccount
    from cottonpalm.types import Item, Parked

log = logging.getLogger("cottonpalm")
QUIET_S: Final = 0.25  # in which parallel branches of a row come to their requests
TWICE: Final = 2  # a request that two batches brought back without an answer is asked live
COMPARED: Final = 2  # rows that are recorded twice before anything is sent
DIVERGED: Final = 3  # rows whose answers did not fit: from so many on, nothing more goes into batches


class Waits:
    """The type of WAITS: the row's requests are out."""


WAITS: Final = Waits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a run goes through batches.

    Attributes:
        lane: the user's own bounds.
        name: of the run.
        linear: the chain makes one request at a time.
        sends: False makes no new batches: answers of earlier ones are used, and the rest is asked live.
        detach: leave once everything is submitted.
    """

    lane: BatchLane
    name: str
    linear: bool = False
    sends: bool = True
    detach: bool = False


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
        terms: Terms,
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
        self._ready: deque[Item] = deque()
        self._waiting: dict[int, Item] = {}
        self._out: dict[int, set[bytes]] = {}  # requests of a row that are in a batch, or in a spool
        self._begun: set[int] = set()  # rows that passed the gates and are not finished
        self._done: list[int] = []  # rows whose answers need not be kept for another round
        self._lost: Counter[int] = Counter()  # how often requests of a row came back without an answer
        self._live: set[int] = set()  # rows that are finished live
        self._no_batches = (
            "" if terms.sends else "that was asked for"
        )  # why no row goes into batches any more
        self._compared = self._diverged = self._active = self._sending = 0
        self._alive = True
        self._post: Post
        self._rows: RowSource
        self._wake: Callable[[], None] = lambda: None

    # -- the executor's seam

    async def run(self, rows: RowSource) -> None:
        """See `protocols.Executor`."""
        self._rows = rows
        token = INSIDE.set(True)  # the Batch API's own requests are none of a row's
        try:
            async with httpx.AsyncClient(follow_redirects=False) as http:
                options = self._options
                desk = Desk(
                    self._book,
                    http,
                    lambda lane: self._post.whose(lane) or {},
                    listing_wait_s=options.listing_wait_s,
                    poll_s=options.poll_s,
                )
                self._post = Post(self._book, desk, self._run, options, over=self._over, failed=self._failed)
                self._post.news = self._look
                try:
                    await self._take_up()
                    INSIDE.reset(token)
                    await self._local.run(self)
                finally:
                    self._alive = False
                    await self._post.close()
                    self._give_up_waiting()
        finally:
            self._alive = False

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
        if self._done and self._post.any:
            await asyncio.to_thread(self._book.forget, self._done)

    # -- the rows as the local executor sees them

    @property
    def wake(self) -> Callable[[], None]:
        """See `protocols.RowSource`."""
        return self._wake

    @wake.setter
    def wake(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._rows.wake = self._woken

    def _woken(self) -> None:
        if self._rows.closing:
            self._give_up_waiting()
        self._wake()

    @property
    def closing(self) -> bool:
        """See `protocols.RowSource`."""
        return self._rows.closing

    @closing.setter
    def closing(self, closing: bool) -> None:
        self._rows.closing = closing

    @property
    def ended(self) -> bool:
        """See `protocols.RowSource`."""
        return self._rows.ended and not self._ready and not self._waiting

    @property
    def dry(self) -> bool:
        """See `protocols.RowSource`."""
        return self._rows.dry and not self._ready

    def next(self) -> Item | None:
        """A row whose answers have come, else a new one."""
        if self._ready and not self._rows.closing:
            back = self._ready.popleft()
            self._rows.aside(back, out=False)
            self._active += 1
            return back
        item = self._rows.next()
        self._active += item is not None
        return item

    def admit(self, item: Item) -> Admitted | Later:
        """A row passes the gates once."""
        return None if item.slot in self._begun else self._rows.admit(item)

    def finish(self, item: Item, outcome: Outcome | Parked) -> None:
        """A row that waits is not finished yet."""
        self._active -= 1
        if getattr(outcome, "output", None) is WAITS:
            if self._rows.closing or not self._alive:
                self._skip(item)
            elif self._out.get(item.slot):
                self._waiting[item.slot] = item
            else:
                self._ready.append(item)
            return
        self._begun.discard(item.slot)
        if getattr(outcome, "status", "skipped") != "skipped":
            self._done.append(item.slot)
        self._rows.finish(item, outcome)

    def aside(self, item: Item, out: bool) -> None:
        """See `protocols.RowSource`."""
        self._rows.aside(item, out)

    def flush_if_idle(self) -> None:
        """See `protocols.RowSource`; also the moment to submit what there is."""
        self._rows.flush_if_idle()
        self._look()

    def _look(self) -> None:
        """Submit what there is once nothing more will come for now; leave where that was all that was wanted."""
        if not self._alive or self._rows.closing:
            return
        unpaid = self._run.flow.unpaid
        if self._post.unspooled and (
            (self._active <= self._sending and self.dry) or 0 < self._active - self._sending <= unpaid
        ):
            self._post.flush()
        if self._terms.detach and not self._active and self.dry and self._waiting and self._post.settled:
            out = sum(batch.rows for batch in self._post.open.values())
            self._stop("detached", f"{out} requests are out in {len(self._post.open)} batches", None)

    def _give_up_waiting(self) -> None:
        """The run ends here: these rows are to be done by another call."""
        items = [*self._waiting.values(), *self._ready]
        self._waiting.clear()
        self._ready.clear()
        for item in items:
            self._skip(item)

    def _skip(self, item: Item) -> None:
        self._begun.discard(item.slot)
        self._rows.finish(item, Outcome(item.index, "skipped"))

    # -- one row

    async def _answer(self, item: Item) -> Any:
        """What the local executor calls for each row: its output, its exception, or WAITS."""
        slot = item.slot
        self._begun.add(slot)
        if self._out.get(slot) and self._post.reachable:
            return self._waits(item)
        known = await self._known(slot)
        if slot in self._live or self._no_batches:
            return await self._finished_live(item)
        for swap in range(SWAPS + 1 if can_swap(known) else 1):
            recording, task = await self._round(item, known, swap=swap)
            self._post.knows(recording.credentials)
            if recording.refused:
                break
            if not (recording.closed and recording.needs):
                recording.drop()
                return task.result()
            if self._rows.closing:
                break
            if not (recording.unused and recording.asked):
                return await self._submitted(item, known, recording)
            recording.drop()
        return await self._not_recorded(item, recording)

    async def _not_recorded(self, item: Item, recording: Recording) -> Any:
        """The run is stopping, no batch can hold a request of the row, or its answers do not fit."""
        recording.drop()
        if self._rows.closing:  # what a chain makes of the cancel of a request is no answer
            return self._waits(item)
        if recording.refused:
            self._run.alerts.warn(
                "live", f"no batch can hold some requests, which run live: {recording.refused}"
            )
        else:
            self._diverge(item, recording)
        self._live.add(item.slot)
        return await self._finished_live(item)

    async def _submitted(self, item: Item, known: Mapping[bytes, Result | None], recording: Recording) -> Any:
        """Hand its requests in; the same requests must come of the same row."""
        if recording.asked and self._compared < COMPARED:
            self._compared += 1
            again, _ = await self._round(item, known, probe=True)
            one, other = recording.seen.keys(), again.seen.keys()
            if again.closed and not (one <= other or other <= one):  # a slow branch may come late in either
                recording.drop()
                self._no_batches = "the chain asks something else each time that it is run with the same row"
                self._run.alerts.warn("unsteady", f"rows run live: {self._no_batches}")
                return await self._finished_live(item)
        for key, asked in recording.asked.items():
            if why := self._post.add(item.slot, asked):
                self._run.alerts.warn("too big", f"row {item.index} runs live: {why}")
                self._live.add(item.slot)
            else:
                self._out.setdefault(item.slot, set()).add(key)
        return self._waits(item)  # where nothing of it is out by now, its next round begins at once

    async def _finished_live(self, item: Item) -> Any:
        """What is known is used, and the rest is asked now; what is out is waited for first.

        Batches may have ended since the row's last round began, so it is looked up anew what is known.
        """
        known = await self._known(item.slot)
        if self._out.get(item.slot):
            if not self._post.reachable:  # it has to say once who pays
                recording, _ = await self._round(item, known, probe=True)
                self._post.knows(recording.credentials)
            return self._waits(item)
        self._sending += 1
        try:
            _, task = await self._round(item, known, live=True)
            return task.result()
        finally:
            self._sending -= 1

    async def _round(
        self,
        item: Item,
        known: Mapping[bytes, Result | None],
        *,
        live: bool = False,
        probe: bool = False,
        swap: int = 0,
    ) -> tuple[Recording, asyncio.Task[Any]]:
        name = self._terms.name

        def record(news: Callable[[], None]) -> Recording:
            return Recording(
                known,
                hosts=self._options.hosts,
                account=lambda credentials: whose(credentials, name),
                news=news,
                live=live,
                probe=probe,
                swap=swap,
            )

        return await one_round(item, self._send, record, 0.0 if self._terms.linear else QUIET_S)

    async def _known(self, slot: int) -> dict[bytes, Result | None]:
        """What the row has asked. A request is None in it only as long as it is out."""
        found: dict[bytes, Result | None] = {}
        while self._post.any:
            found = dict(await asyncio.to_thread(self._book.asked, slot))
            out = self._out.get(slot, set())
            if all(result is not None or key in out for key, result in found.items()):
                break  # else its batch ended while the book was read
        found.update(dict.fromkeys(self._out.get(slot, ())))
        return found

    def _waits(self, item: Item) -> Waits:
        self._rows.aside(item, out=True)
        return WAITS

    def _diverge(self, item: Item, recording: Recording) -> None:
        """Its answers are not those of the questions that it asks now: they were paid in vain."""
        self._diverged += 1
        self._run.alerts.warn(
            "diverged",
            f"row {item.index} asks something else than it did before, so {len(recording.unused)} answers that were"
            " paid for are of no use: it runs live. A chain that reads the clock or chance cannot go through batches",
        )
        if self._diverged >= DIVERGED and not self._no_batches:
            self._no_batches = f"{self._diverged} rows asked something else than they did before"
            self._run.alerts.warn("no batches", f"all other rows run live: {self._no_batches}")

    # -- batches that come back

    async def _take_up(self) -> None:
        """What an earlier process left out."""
        await self._post.begin()
        for tag in list(self._post.open):
            for member in await asyncio.to_thread(self._book.members, tag):
                self._out.setdefault(member.row, set()).add(member.key)

    def _over(self, batch: Batch, members: Iterable[Member], lost: Iterable[Member]) -> None:
        """The rows that have all their answers go into their next round."""
        if batch.stage is Stage.ABANDONED and self._post.refused(batch):
            rows, why = batch.rows, batch.why
            self._run.alerts.warn(
                "refused", f"{batch.lane.label} took no batch of {rows} rows, they run live: {why}"
            )
            self._live.update(member.row for member in members)
        for member in lost:
            self._lost[member.row] += 1
            if self._lost[member.row] >= TWICE:
                self._live.add(member.row)
        for member in members:
            out = self._out.get(member.row, set())
            out.discard(member.key)
            if not out:
                self._out.pop(member.row, None)
                if (item := self._waiting.pop(member.row, None)) is not None:
                    self._ready.append(item)
        self._wake()

    def _failed(self, error: BaseException) -> None:
        """No batch goes on: what is out is found again by the next call."""
        reason = "store" if isinstance(error, StoreError) else "fatal"
        if not isinstance(error, CottonpalmError):
            log.error("the batch lane failed", exc_info=error)
        self._stop(reason, str(error), error)
