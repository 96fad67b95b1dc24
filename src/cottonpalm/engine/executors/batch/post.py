"""Takes recorded requests, packs them into batches, and brings those through their stages."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from cottonpalm.engine.executors.batch.money import BatchMoney
from cottonpalm.engine.executors.batch.returned import innocent, said_of, trouble_words
from cottonpalm.errors import StoreError
from cottonpalm.providers.batches.choice import adapter_of
from cottonpalm.providers.batches.packing import may_wait, room_in
from cottonpalm.providers.batches.queue import Queues, is_full
from cottonpalm.providers.batches.scratch import Scratch
from cottonpalm.providers.batches.spool import Spool, TooBig
from cottonpalm.providers.batches.stages import AskedRow, Batch, Member, Stage
from cottonpalm.providers.batches.submission import through
from cottonpalm.types import BYTES_PER_TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cottonpalm.config import BatchLane
    from cottonpalm.providers.batches.lanes import Lane
    from cottonpalm.providers.batches.packing import Room
    from cottonpalm.providers.batches.spool import Packed
    from cottonpalm.providers.batches.stages import Book
    from cottonpalm.providers.batches.submission import Desk
    from cottonpalm.request.recording import Asked
    from cottonpalm.request.run_account import RunAccount
    from cottonpalm.types import Item

_SOON_S: Final = 60.0  # whoever waits for room looks again so often, if nothing tells it to


class Hurry(Protocol):
    """A deadline, as far as batches on their way have to know it."""

    def rows_in_a_batch(self, made: int) -> int:
        """How many rows to put into the next batch."""

    def look_s(self) -> float:
        """How long to wait at most before the next look at a batch."""


class Post:
    """The batches of one run, while it lives. On the loop of the run.

    Args:
        book: where they are written down.
        desk: submits and collects them.
        run: whose money it is.
        options: the user's own bounds.
        over: told of each batch that is over, what was in it, and what of that is to be asked again.
        failed: told of what no batch survives.
        rescue: the run's deadline.

    Attributes:
        open: all batches that are not over, by tag.
        given_up: tags of those that are not waited for: their rows ask anew.
        money: what is set aside for them, and what they cost.
        credentials: the headers that say who pays. For this process only.
        hosts: providers at addresses that are not their own: those that the user names, and those that have batches of
            this run, so that what is out is found again by whoever names nobody.
        any: there is or was a batch.
        unspooled: requests in spools.
        news: called when a batch was submitted, is over, or may go on.
    """

    def __init__(
        self,
        book: Book,
        desk: Desk,
        run: RunAccount,
        options: BatchLane,
        *,
        over: Callable[[Batch, list[Member], list[Member]], None],
        failed: Callable[[BaseException], None],
        rescue: Hurry | None = None,
    ) -> None:
        self._book, self._desk, self._run, self._options = book, desk, run, options
        self._over, self._failed, self._rescue = over, failed, rescue
        self._scratch = Scratch()
        self._spools: dict[Lane, Spool] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking: dict[int, AskedRow] = {}  # by slot: rows whose requests are not planned yet
        self._mine: set[str] = set()  # tags of batches that this process made
        self._looked: set[str] = set()  # tags of batches of which this process knows how they are
        self._made: Counter[Lane] = Counter()
        self._unplanned: set[str] = set()  # tags of batches that wait for room, or to be written down...
        self._dropped: set[str] = set()  # ...and of those of them that are not to be submitted
        self._nudges: dict[str, asyncio.Event] = {}  # ends the wait for the next look at a batch
        self._troubled_at: dict[str, float] = {}  # since when a batch waits for what does not work, by tag
        self._queues = Queues(desk.later_s)
        self._moved = asyncio.Event()  # a batch was submitted, or is over
        self.open: dict[str, Batch] = {}
        self.given_up: set[str] = set()
        self.money = BatchMoney(book, run, self.given_up)
        self.credentials: dict[Lane, Mapping[str, str]] = {}
        self.hosts: Mapping[str, str] = options.hosts
        self.any = False
        self.unspooled = 0
        self.news: Callable[[], None] = lambda: None

    async def begin(self) -> None:
        """Take up what an earlier process left."""
        batches = await asyncio.to_thread(self._book.batches)
        self.any = bool(batches)
        self.hosts = {batch.lane.host: batch.lane.provider for batch in batches} | dict(self._options.hosts)
        for batch in batches:
            if not batch.over:
                self.money.hold(batch.tag, batch.reserved)
                self._keep(batch)
        await asyncio.to_thread(self.money.lease_held)

    def knows(self, lanes: Mapping[Lane, Mapping[str, str]]) -> None:
        """The chain's own requests said who pays."""
        if not lanes.keys() <= self.credentials.keys():
            self.credentials.update(lanes)
            self._stir()

    @property
    def reachable(self) -> bool:
        """It is known who pays for everything that is out and waited for."""
        return not self.unreachable()

    def unreachable(self) -> list[Batch]:
        """Batches that are waited for, and of which nobody knows who pays."""
        return [
            batch
            for batch in self.open.values()
            if batch.tag not in self.given_up and self.whose(batch.lane) is None
        ]

    def whose(self, lane: Lane) -> Mapping[str, str] | None:
        """The headers that say who pays; with a new key of the only account there is, that one's."""
        if (found := self.credentials.get(lane)) is not None:
            return found
        others = {known.account: headers for known, headers in self.credentials.items() if _same(known, lane)}
        return next(iter(others.values())) if len(others) == 1 else None

    @property
    def settled(self) -> bool:
        """Everything that was handed in is at a provider, and was still at work there when we looked."""
        if self.unspooled:
            return False
        return all(tag in self._looked and b.stage is Stage.SUBMITTED for tag, b in self.open.items())

    # -- requests in

    def add(self, item: Item, asked: Asked) -> str | None:
        """Take a request in; why it cannot go out in a batch at all, or None."""
        lane, wanted = asked.wanted.lane, asked.wanted
        spool = self._spools.get(lane)
        if spool is None:
            spool = self._spools[lane] = Spool(lane, adapter_of(lane), self._room(lane), self._scratch)
        tokens = len(wanted.call.content) // BYTES_PER_TOKEN
        try:
            full = spool.add(asked.body, Member(item.slot, wanted.key), tokens, asked.money.reserved)
        except TooBig as exc:
            asked.money.give_back()
            return str(exc)
        if item.key is not None and item.content is not None:
            self._asking[item.slot] = AskedRow(item.slot, item.key, item.content)
        if full is not None:
            self._submit(full)
            spool.room = self._room(lane)
        self.money.spooled(lane, asked.money.reserved)
        self.unspooled += 1
        return None

    def flush(self) -> None:
        """Nothing more will come for now: submit what there is."""
        for lane, spool in list(self._spools.items()):
            del self._spools[lane]
            if (packed := spool.close()) is not None:
                self._submit(packed)

    def _submit(self, packed: Packed) -> None:
        self.unspooled -= packed.pack.rows
        self.money.packed(packed.lane, packed.tag)
        self.any = True
        self._made[packed.lane] += 1
        self._mine.add(packed.tag)
        self._unplanned.add(packed.tag)
        self.open[packed.tag] = Batch(packed.tag, packed.lane, Stage.INTENT, packed.pack.rows)
        self._start(self._planned(packed), packed)

    # -- batches on their way

    def _start(self, work: Any, packed: Packed | None = None) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)

        def gone(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if packed is not None:
                packed.drop()
            if not task.cancelled() and (error := task.exception()) is not None:
                self._failed(error)

        task.add_done_callback(gone)

    def _keep(self, batch: Batch) -> None:
        self.open[batch.tag] = batch
        self._start(self._bring(batch))

    async def _planned(self, packed: Packed) -> None:
        tag = packed.tag
        while tag not in self._dropped and not self._may_go(packed):
            await self.next_move(self._rest_s(packed.lane) or _SOON_S)
        if tag not in self._dropped:
            # counted from now on: others are woken at the same moment
            self.open[tag] = replace(self.open[tag], tokens=packed.pack.tokens)
            rows = {member.row for member in packed.members}
            asking = [row for slot in rows if (row := self._asking.pop(slot, None)) is not None]
            await asyncio.to_thread(self._book.keep_rows, asking)
            await asyncio.to_thread(self.money.lease_held)
            batch = await self._desk.plan(packed)
            self._unplanned.discard(tag)
            # only what is written down can be cancelled: a cancel that came meanwhile has waited for that
            await self._bring(await self._desk.cancel(batch) if tag in self._dropped else batch)
            return
        self._unplanned.discard(tag)
        batch = replace(self.open.pop(tag), stage=Stage.ABANDONED, cancelling=True)
        self.money.give_back(tag)
        self._over(batch, packed.members, packed.members)
        self._stir()

    def _room(self, lane: Lane) -> Room:
        rows, options = self._options.rows, self._options
        if self._rescue is not None:
            most = self._rescue.rows_in_a_batch(self._made[lane])
            rows = most if rows is None else min(rows, most)
        known = [most for most in (options.queued_tokens, self._queues.tokens(lane)) if most is not None]
        return room_in(adapter_of(lane).limits, rows=rows, queued_tokens=min(known, default=None))

    def _may_go(self, packed: Packed) -> bool:
        """Whether there is room for it in the provider's queue, as far as that is known."""
        if self._rest_s(packed.lane) > 0:
            return False
        return may_wait(self._room(packed.lane), self._waiting(packed.lane, packed.tag), packed.pack)

    def _rest_s(self, lane: Lane) -> float:
        return self._queues.rest_s(lane, asyncio.get_running_loop().time())

    def _waiting(self, lane: Lane, tag: str) -> int:
        """Tokens of this model that are at the provider already, but for those of one batch."""
        return sum(each.tokens for other, each in self.open.items() if other != tag and each.lane == lane)

    async def _bring(self, batch: Batch) -> None:
        """To its end, step by step."""
        self.open[batch.tag] = batch
        while not batch.over:
            while self.whose(batch.lane) is None:
                await self._stirred()
            after = await self._desk.advance(batch)
            if after is not batch or batch.tag not in self._looked:
                self._looked.add(batch.tag)
                self.open[batch.tag] = batch = after
                self._stir()
            self._tell_trouble(batch)
            if not batch.over:
                await self._pause(batch)
        members = await through(self.money.settle, batch)
        unanswered = await asyncio.to_thread(self._book.lost, batch.tag)
        del self.open[batch.tag]
        for topic, text in said_of(batch, len(unanswered)):
            self._run.alerts.warn(topic, text)
        self._learn(batch)
        lost = [member for member, result in unanswered if not innocent(batch, result)]
        self._over(batch, members, lost)  # first: who looks now finds its rows at work
        self._stir()

    def _tell_trouble(self, batch: Batch) -> None:
        """What does not work at the first try mostly does at the next: it is told once it has lasted."""
        trouble, now = self._desk.troubles.get(batch.tag), asyncio.get_running_loop().time()
        if trouble is None:
            self._troubled_at.pop(batch.tag, None)
        elif now - self._troubled_at.setdefault(batch.tag, now) >= self._options.listing_wait_s:
            self._run.alerts.warn(f"trouble {batch.lane.label}", trouble_words(batch, trouble))

    def _learn(self, batch: Batch) -> None:
        """How much the provider lets wait: what is packed from now on keeps to that."""
        lane = batch.lane
        self._queues.learn(batch, self._waiting(lane, batch.tag), asyncio.get_running_loop().time())
        if (spool := self._spools.get(lane)) is not None:
            spool.room = self._room(lane)

    async def _pause(self, batch: Batch) -> None:
        """Until the next look at it is due, or something else is wanted of it."""
        wait_s = self._desk.wait_s(batch)
        if self._rescue is not None:
            wait_s = min(wait_s, self._rescue.look_s())
        nudge = self._nudges[batch.tag] = asyncio.Event()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await nudge.wait()

    async def next_move(self, most_s: float) -> None:
        """Until a batch was submitted or is over, or so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                await self._stirred()

    async def _stirred(self) -> None:
        self._moved.clear()
        await self._moved.wait()

    def _stir(self) -> None:
        self._moved.set()
        self.news()

    def is_mine(self, tag: str) -> bool:
        """Whether this process made it; else an earlier one left it."""
        return tag in self._mine

    def refused(self, batch: Batch) -> bool:
        """Whether it was abandoned because the provider would not take it: neither we nor a crash gave it up."""
        return batch.tag in self._mine and not (batch.cancelling or is_full(batch))

    async def cancel(self, batch: Batch) -> None:
        """Ask the provider to stop it; what is done by then is collected."""
        if batch.tag in self._unplanned:
            self._dropped.add(batch.tag)
            self._stir()
            return
        after = await self._desk.cancel(batch)
        if batch.tag in self.open:
            self.open[batch.tag] = after
        if (nudge := self._nudges.get(batch.tag)) is not None:
            nudge.set()

    def give_up(self, batch: Batch) -> None:
        """Wait for it no longer. It is looked at all the same, as long as the run goes on."""
        self.given_up.add(batch.tag)
        self._stir()

    # -- the end

    async def close(self) -> None:
        """Leave; what is out stays out, and is found again."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        try:
            if tasks:
                await asyncio.wait(tasks)
                with contextlib.suppress(StoreError):  # which has ended the run, and is told there
                    await through(self.money.settle_ended)
        finally:  # also after a second cancel
            for spool in self._spools.values():
                if (packed := spool.close()) is not None:
                    packed.drop()
            self._scratch.close()
            self.money.close()


def _same(one: Lane, other: Lane) -> bool:
    return (one.provider, one.origin, one.root) == (other.provider, other.origin, other.root)
