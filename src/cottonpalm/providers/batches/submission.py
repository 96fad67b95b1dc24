"""Batches brought through their stages, so that nothing is paid twice: the one place that submits."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cottonpalm import clock
from cottonpalm.providers.batches.client import BatchClient
from cottonpalm.providers.batches.collection import collect, state_now
from cottonpalm.providers.batches.lanes import whose
from cottonpalm.providers.batches.lines import Phase, full
from cottonpalm.providers.batches.stages import (
    CLOCKS_DIFFER_S,
    Batch,
    Stage,
    after_absence,
    next_step,
    ours,
    search,
    surely_absent,
    with_state,
)
from cottonpalm.providers.batches.troubles import BatchDenied, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx

    from cottonpalm.providers.batches.lanes import Lane
    from cottonpalm.providers.batches.spool import Packed
    from cottonpalm.providers.batches.stages import Book

T = TypeVar("T")
LISTING_WAIT_S: Final = 300.0  # a batch that a listing does not show so long after it was sent is not there
FULL_TRIES: Final = 5  # a batch that is refused so often as too much would wait goes into smaller ones
_GROWTH: Final = 1.5
_LONGEST: Final = 20.0  # times the shortest wait


class Desk:
    """Submits and collects the batches of one run.

    batch = await desk.plan(packed)                     # durable: the intent
    while not batch.over:
        batch = await desk.advance(batch)               # one step, durable before and after
        await asyncio.sleep(desk.wait_s(batch))

    After a crash, the same loop over `book.batches()`: those that were out are found again before anything is
    submitted anew. Results are in the book (`book.asked(row)`) once their batch is over.
    """

    def __init__(
        self,
        book: Book,
        http: httpx.AsyncClient,
        credentials: Callable[[Lane], Mapping[str, str]],
        *,
        listing_wait_s: float = LISTING_WAIT_S,
        poll_s: float = 15.0,
    ) -> None:
        """Arrange.

        Args:
            book: where batches are written down.
            http: a client without retries of its own.
            credentials: the headers that say who pays, of the chain's own requests (`lanes.credentials_of`).
            listing_wait_s: how long a listing may lag.
            poll_s: the shortest wait between two looks at a batch; it grows to 20 times as much.
        """
        self._book, self._http, self._credentials = book, http, credentials
        self._listing_wait_s, self._poll_s = listing_wait_s, poll_s
        self._files: dict[str, Packed] = {}
        self._waits: dict[str, float] = {}
        self._refusals: dict[str, int] = {}  # how often a batch was refused as too much waits
        # By tag, and by the clock that nobody sets: when the answer to a submission was lost...
        self._lost_at: dict[str, float] = {}
        self._gone_at: dict[str, float] = {}  # ...and when a batch or its results were first not found
        self._latest: dict[str, Batch] = {}  # as they were written down, or are being written down
        self._creating: dict[tuple[str, str], asyncio.Lock] = {}
        self._at_work: set[str] = set()  # tags of batches whose next step is being taken
        self._random = Random()  # noqa: S311 - jitter
        self.troubles: dict[str, str] = {}  # what a batch waits for, by tag, to show

    async def plan(self, packed: Packed) -> Batch:
        """Write down what is about to be submitted. The desk keeps the file until the provider has it."""
        pack = packed.pack
        batch = Batch(
            packed.tag,
            packed.lane,
            Stage.INTENT,
            pack.rows,
            pack.size,
            pack.tokens,
            pack.reserved,
            clock.wall(),
            whose=whose(self._credentials(packed.lane), packed.tag),
            dearest=pack.dearest,
        )
        await asyncio.to_thread(self._book.plan, batch, packed.members)
        self._files[packed.tag] = packed
        return batch

    async def advance(self, batch: Batch) -> Batch:
        """Take the next step of a batch and return where it stands then; the same batch where it must wait.

        Raises:
            BatchDenied: the provider does not let this account do it.
            StoreError: the book cannot be written.
        """
        batch = self._latest.get(batch.tag, batch)  # whoever was interrupted may hold an older one
        client = BatchClient(batch.lane, self._http, self._credentials(batch.lane))
        step = next_step(batch, file_here=batch.tag in self._files, uploads=client.uploads)
        steps = {
            "upload": self._upload,
            "create": self._create,
            "find": self._find,
            "look": self._look,
            "collect": self._collect,
        }
        self._at_work.add(batch.tag)
        try:
            if step == "abandon":
                said = "it was cancelled" if batch.cancelling else "its process ended"
                return await self._abandon(batch, f"{said} before it was submitted")
            after = await steps[step](batch, client) if step in steps else batch
        except Trouble as trouble:
            return self._wait_for(self._latest.get(batch.tag, batch), trouble)
        finally:
            self._at_work.discard(batch.tag)
        if after is batch:
            self._longer(batch)
        else:
            self._waits.pop(batch.tag, None)
        self.troubles.pop(batch.tag, None)
        return after

    def wait_s(self, batch: Batch) -> float:
        """How long to wait before the next step of it; 0 where it can go on at once."""
        wait = self._waits.get(batch.tag, 0.0)
        if not wait and batch.stage is Stage.SUBMITTED:
            wait = self._poll_s
        return wait * self._random.uniform(0.9, 1.1)

    def later_s(self, times: int) -> float:
        """How long to wait after something did not work so many times in a row."""
        return self._poll_s * min(_GROWTH**times, _LONGEST) * self._random.uniform(0.9, 1.1)

    async def cancel(self, batch: Batch) -> Batch:
        """Ask the provider to stop it. It still has to end, and what is done by then is collected and paid."""
        batch = self._latest.get(batch.tag, batch)
        # What another key does not see is given up.
        ended = batch.stage is Stage.ENDED and self._same_key(batch)
        if batch.over or ended or batch.cancelling:
            return batch
        if batch.stage in (Stage.INTENT, Stage.UPLOADED) and batch.tag not in self._at_work:
            return await self._abandon(
                replace(batch, cancelling=True), "it was cancelled before it was submitted"
            )
        self._waits.pop(batch.tag, None)  # it is sent by the next look, and after a crash too
        return await self._put(replace(batch, cancelling=True, cancelled_at=clock.wall()))

    async def give_up(self, batch: Batch, why: str) -> Batch:
        """Do without it: its requests are to be asked anew, though it may have been paid for."""
        return await self._close(replace(batch, stage=Stage.LOST, why=why))

    # -- steps --------------------------------------------------------------------------------------------

    async def _upload(self, batch: Batch, client: BatchClient) -> Batch:
        try:
            file = await client.upload(self._files[batch.tag])
        except Trouble as trouble:
            if trouble.what not in ("refused", "gone"):
                raise
            return await self._abandon(batch, str(trouble))
        return await self._put(replace(batch, stage=Stage.UPLOADED, input_file_id=file))

    async def _create(self, batch: Batch, client: BatchClient) -> Batch:
        """One submission at a time for an account, and none while an earlier one is not explained."""
        lane = batch.lane
        async with self._creating.setdefault((lane.origin, lane.account), asyncio.Lock()):
            if not client.uploads and await self._unexplained(lane):
                raise Trouble("later", "an earlier submission was not answered, and is looked for first")
            before = self._latest.get(batch.tag, batch)
            if before.cancelling:
                return await self._abandon(before, "it was cancelled before it was submitted")
            batch = replace(before, stage=Stage.CREATING, sent_at=clock.wall(), sends=batch.sends + 1)
            await self._put(batch)
            try:
                state = await client.create(batch.tag, batch.input_file_id, self._files.get(batch.tag))
            except Trouble as trouble:
                return await self._not_created(before, batch, trouble)
            return await self._submitted(with_state(batch, state))

    async def _not_created(self, before: Batch, batch: Batch, trouble: Trouble) -> Batch:
        if trouble.what == "unsure":
            self._lost_at[batch.tag] = clock.now()
            return self._wait_for(batch, trouble)
        if trouble.what == "refused":
            return await self._abandon(batch, str(trouble))
        if trouble.what == "full" and self._is_too_much(batch.tag):
            return await self._abandon(replace(batch, state=full(str(trouble))), str(trouble))
        await self._put(before)
        raise trouble

    def _is_too_much(self, tag: str) -> bool:
        """Whether it was refused so often that it may never fit as it is, whatever else is through by then."""
        self._refusals[tag] = refusals = self._refusals.get(tag, 0) + 1
        return refusals >= FULL_TRIES

    async def _submitted(self, batch: Batch) -> Batch:
        await self._put(batch)
        if batch.proven:  # else its lines may have to be sent after all
            self._drop_file(batch)
        self._lost_at.pop(batch.tag, None)
        return batch

    async def _unexplained(self, lane: Lane) -> bool:
        """Whether a submission of this account may or may not have been done: one without a mark of ours."""
        batches = await asyncio.to_thread(self._book.batches)
        where = (lane.origin, lane.account)
        return any(b.stage is Stage.CREATING and (b.lane.origin, b.lane.account) == where for b in batches)

    async def _find(self, batch: Batch, client: BatchClient) -> Batch:
        sent_at, asked_at = batch.sent_at or batch.planned_at, clock.now()
        # After a crash only the other clock can tell, which may have been set back: then it is counted from now on.
        passed_s = max(0.0, clock.wall() - sent_at)
        since = self._lost_at.setdefault(batch.tag, asked_at - passed_s)
        listed = await client.listing(sent_at - CLOCKS_DIFFER_S)
        known = await asyncio.to_thread(self._book.known)
        found, proven = search(batch, listed, known)
        if found is not None:
            return await self._submitted(replace(with_state(batch, found), proven=proven))
        if not surely_absent(since, asked_at, self._listing_wait_s):
            return batch
        if not self._same_key(batch):
            if batch.cancelling:
                return await self.give_up(
                    batch, "its submission was not answered, and the key is another one"
                )
            raise _another_key(batch)
        here = batch.tag in self._files
        if after_absence(file_here=here, uploads=client.uploads) == "abandon":
            return await self._abandon(
                batch, "its submission was not answered, and it is not at the provider"
            )
        stage = Stage.UPLOADED if client.uploads else Stage.INTENT
        return await self._put(replace(batch, stage=stage, sent_at=None))

    async def _look(self, batch: Batch, client: BatchClient) -> Batch:
        assert batch.batch_id is not None
        try:
            state = await client.look(batch.batch_id)
        except Trouble as trouble:
            if trouble.what != "gone":
                raise
            return await self._vanished(batch, trouble)
        self._gone_at.pop(batch.tag, None)
        stops = batch.cancelling and batch.proven  # else it may be somebody else's
        if stops and not state.ended and state.phase is not Phase.CANCELLING:
            await client.cancel(batch.batch_id)
        if state == batch.state:
            return batch
        return await self._put(with_state(batch, state))

    async def _vanished(self, batch: Batch, trouble: Trouble) -> Batch:
        """What another key does not see may be there all the same, unless the user gives it up."""
        if not self._same_key(batch) and not batch.cancelling:
            raise _another_key(batch)
        if self._may_come(batch):
            raise Trouble("later", str(trouble))
        return await self.give_up(batch, f"the provider does not know it any more: {trouble}")

    def _may_come(self, batch: Batch) -> bool:
        """Whether what the provider does not have may be there all the same: one answer may err, as a listing may."""
        return clock.now() - self._gone_at.setdefault(batch.tag, clock.now()) < self._listing_wait_s

    def _same_key(self, batch: Batch) -> bool:
        return whose(self._credentials(batch.lane), batch.tag) == batch.whose

    async def _collect(self, batch: Batch, client: BatchClient) -> Batch:
        if batch.tag in self._gone_at:
            batch = await self._as_it_is_now(batch, client)
        if batch.sends > 1 and client.uploads:
            batch = await self._with_twins(batch, client)
        after = await collect(batch, client, self._book, more_may_come=partial(self._may_come, batch))
        if after is batch:
            return batch  # a twin has not ended yet
        if not after.over:
            return await self._put(after)
        if after.stage is Stage.LOST and not self._same_key(batch) and not batch.cancelling:
            raise _another_key(batch)
        after = await self._close(after)
        if after.stage is Stage.COLLECTED and after.input_file_id:
            await client.remove(after.input_file_id)
        return after

    async def _as_it_is_now(self, batch: Batch, client: BatchClient) -> Batch:
        """Its results were not all there: it may have ended before it said where they are."""
        assert batch.batch_id is not None
        state = await state_now(client, batch.batch_id)
        return batch if state is None or state == batch.state else await self._put(with_state(batch, state))

    async def _with_twins(self, batch: Batch, client: BatchClient) -> Batch:
        """It was sent twice because a listing did not show it: does one show the first one now?"""
        listed = await client.listing(batch.planned_at - CLOCKS_DIFFER_S)
        twins = tuple(twin for twin in ours(batch, listed) if twin.batch_id != batch.batch_id)
        for twin in twins:
            if not twin.ended and twin.phase is not Phase.CANCELLING:
                await client.cancel(twin.batch_id)
        ids = tuple(twin.batch_id for twin in twins)
        return batch if ids == batch.twins else await self._put(replace(batch, twins=ids))

    # -- writing down -------------------------------------------------------------------------------------

    async def _put(self, batch: Batch) -> Batch:
        latest = self._latest.get(batch.tag)
        if latest is not None and latest.cancelling:  # meanwhile
            batch = replace(batch, cancelling=True, cancelled_at=latest.cancelled_at)
        self._latest[batch.tag] = batch
        await asyncio.to_thread(self._book.put, batch)
        return batch

    async def _abandon(self, batch: Batch, why: str) -> Batch:
        return await self._close(replace(batch, stage=Stage.ABANDONED, why=why))

    async def _close(self, batch: Batch) -> Batch:
        self._latest[batch.tag] = batch
        await through(self._book.close, batch)
        self._drop_file(batch)
        return batch

    def _drop_file(self, batch: Batch) -> None:
        if (packed := self._files.pop(batch.tag, None)) is not None:
            packed.drop()

    # -- waiting ------------------------------------------------------------------------------------------

    def _wait_for(self, batch: Batch, trouble: Trouble) -> Batch:
        if trouble.what == "denied":
            raise BatchDenied(
                f"{batch.lane.label}: the provider does not let this account use its Batch API ({trouble}). What is"
                " out stays there: run the same command again once that is settled"
            ) from trouble
        self.troubles[batch.tag] = str(trouble)
        self._longer(batch, trouble.after_s or 0.0)
        return batch

    def _longer(self, batch: Batch, at_least: float = 0.0) -> None:
        wait = self._waits.get(batch.tag, self._poll_s / _GROWTH) * _GROWTH
        self._waits[batch.tag] = max(min(wait, self._poll_s * _LONGEST), at_least)


async def through(write: Callable[..., T], *args: Any) -> T:
    """Call it on a thread. A cancel waits until it is through: whoever leaves has to know what was written."""
    task = asyncio.ensure_future(asyncio.to_thread(write, *args))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _another_key(batch: Batch) -> BatchDenied:
    return BatchDenied(
        f"{batch.lane.label} does not know batch {batch.batch_id or batch.tag} with this key, and it was submitted with"
        " another one. Nothing was asked anew: run the same command with that key, or cancel the batch to give it up"
    )
