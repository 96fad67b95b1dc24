"""What one row of the batch lane comes to: its output, its exception, or that it waits for a batch."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from cottonpalm import clock
from cottonpalm.engine.executors.batch.journal import Journal, hook
from cottonpalm.engine.executors.batch.rounds import one_round
from cottonpalm.engine.executors.batch.rows_out import WAITS
from cottonpalm.engine.executors.batch.worth import Worth
from cottonpalm.errors import ConfigError
from cottonpalm.providers import dressed
from cottonpalm.providers.batches.lanes import whose
from cottonpalm.providers.batches.made_up import made_up
from cottonpalm.request.attempt.reservation import Reservation
from cottonpalm.request.pricing import call_in
from cottonpalm.request.recording import SWAPS, Recording, can_swap
from cottonpalm.request.row_account import RowAccount
from cottonpalm.runtime.wait_queue import RowClosed
from cottonpalm.types import numbered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cottonpalm.engine.executors.batch.post import Post
    from cottonpalm.engine.executors.batch.rescue import Rescue
    from cottonpalm.engine.executors.batch.row_source import RowsInRounds
    from cottonpalm.engine.executors.batch.rows_out import RowsOut, Waits
    from cottonpalm.engine.executors.batch.terms import BatchTerms
    from cottonpalm.protocols import Inner
    from cottonpalm.providers.batches.lines import Result
    from cottonpalm.providers.batches.stages import Book
    from cottonpalm.request.run_account import RunAccount
    from cottonpalm.types import Item

PATIENTLY: Final = -1  # in place of the number of a swap: the order in which they were asked, with patience
COMPARED: Final = 2  # rows that are recorded twice before anything is sent
KEEPS_STATE: Final = (
    "the chain keeps what a row did (a checkpointer, a history): it cannot run again from its start"
)
DIVERGED: Final = 3  # rows whose answers did not fit: from so many on, nothing more goes into batches


class Answering:
    """Runs rows round by round.

    Attributes:
        no_batches: why no row goes into batches any more; empty: they do.
    """

    def __init__(
        self,
        terms: BatchTerms,
        run: RunAccount,
        send: Inner,
        *,
        book: Book,
        rows: RowsOut,
        post: Post,
        source: RowsInRounds,
        rescue: Rescue | None,
        stop: Callable[[str, str, BaseException | None], None],
    ) -> None:
        self._terms, self._options, self._run, self._send = terms, terms.lane, run, send
        self._book, self._rows, self._post, self._source = book, rows, post, source
        self._rescue, self._stop = rescue, stop
        self._worth = Worth(run, cheapest=terms.cheapest, rescue=rescue)
        self.no_batches = "" if terms.sends else "that was asked for"
        if terms.sends and terms.keeps_state:
            self.no_batches = KEEPS_STATE
            run.alerts.warn("keeps state", f"rows run live: {KEEPS_STATE}")
        self._compared = self._comparing = self._diverged = 0
        self._tools: dict[
            int, dict[bytes, bytes]
        ] = {}  # answers of tools that are not written down yet, by slot
        if terms.tools is not None:
            hook()
        self._judged = asyncio.Event()  # no row is being compared

    async def answer(self, item: Item) -> Any:
        """Return its output, raise its exception, or return WAITS."""
        slot = item.slot
        self._rows.begin(slot)
        if self._source.spent is not None and slot not in self._rows.owed:
            item.account.refused = True  # it is left to another call
            raise dressed(RowClosed, "nothing of the row is paid for, and no money is left")
        if self._rows.out(slot) and self._post.reachable:
            return self._waits(item)
        try:
            return await (self._cancelled(item) if self._options.cancel else self._next_round(item))
        finally:
            self._tools.pop(slot, None)

    async def _next_round(self, item: Item, *, flex: bool = True) -> Any:
        slot = item.slot
        known = await self._known(slot)
        if slot in self._rows.live or self.no_batches or (self._rescue is not None and self._rescue.probes()):
            return await self._finished_live(item)
        ways = SWAPS + 1 if can_swap(known) else 1
        for swap in (*range(ways), PATIENTLY):
            recording, task = await self._round(item, known, swap=swap)
            self._post.knows(recording.credentials)
            if recording.refused:
                break
            if not (recording.closed and recording.needs):
                recording.drop()
                self._warn_unseen(item, recording)
                return await self._came_to(item, recording, task)
            if self._source.closing:
                break
            if not (recording.unused and recording.asked):
                return await self._submitted(item, known, recording, flex=flex)
            recording.drop()
            if self._terms.linear and swap == ways - 1:
                break  # it has no branch that could be late
        return await self._not_recorded(item, recording)

    def _warn_unseen(self, item: Item, recording: Recording) -> None:
        """A row asked a model through a client that we do not see: no batch can hold that."""
        if item.account is not None and item.account.attempts and not recording.seen:
            self._run.alerts.warn(
                "unseen",
                f"requests of {numbered(item.index)} cannot be held back, as its model sends them through a client of "
                "its own: they run live, at the full price",
            )

    async def _came_to(self, item: Item, recording: Recording, task: asyncio.Task[Any]) -> Any:
        """Its output or exception; what the chain makes of a request that was refused is neither."""
        await self._count_unread(item, recording)
        if item.account.refused:
            raise dressed(RowClosed, "a request of the row was refused")
        return task.result()

    async def _count_unread(self, item: Item, recording: Recording) -> None:
        """What was paid for the row and not read in its last round is part of its cost all the same."""
        if not (unread := recording.unread):
            return
        account, lanes = item.account, await asyncio.to_thread(self._book.lanes, item.slot)
        last = account.model
        for key, result in unread.items():
            call = call_in(lanes[key])
            account.replayed()
            Reservation(account, call).show(call.family.read(result.body or {}))
        account.model = last or account.model

    async def introduce(self, item: Item) -> None:
        """Run a row up to its first request, which goes nowhere: it says who pays for what is out."""
        item.account = RowAccount(self._run, item.index, item.priority, None)
        recording, _ = await self._round(item, {}, probe=True)
        self._post.knows(recording.credentials)

    async def _cancelled(self, item: Item) -> Any:
        """Nothing is asked: the row only says who pays."""
        recording, _ = await self._round(item, await self._known(item.slot), probe=True)
        self._post.knows(recording.credentials)
        return self._waits(item)

    async def _not_recorded(self, item: Item, recording: Recording) -> Any:
        """The run is stopping, no batch can hold a request of the row, or its answers do not fit."""
        recording.drop()
        if self._source.closing:  # what a chain makes of the cancel of a request is no answer
            return self._waits(item)
        if recording.nowhere and self._terms.at_its_price and not (self._post.any or self._post.unspooled):
            self.gets_none(recording.refused or "")
            return self._waits(item)
        if recording.refused:
            self._run.alerts.warn(
                "live",
                f"no batch can hold some requests, which run live, at the full price: {recording.refused}",
            )
        else:
            self._diverge(item, recording)
        self._rows.live.add(item.slot)
        return await self._finished_live(item)

    def gets_none(self, why: str) -> None:
        """End the run: whoever asked for batches, and gets none at all, would pay twice what was asked for."""
        live = (
            'mode="auto" (--mode auto), or BatchLane(or_live=True), answers such rows live, at the full price'
        )
        text = f"{why}; {live}"
        self._stop("fatal", text, ConfigError(text))

    async def _submitted(
        self, item: Item, known: Mapping[bytes, Result | None], recording: Recording, *, flex: bool
    ) -> Any:
        """Hand its requests in, or finish it live; after a cancel, what was not handed in goes nowhere."""
        try:
            return await self._judged_first(item, known, recording, flex=flex)
        except BaseException:
            recording.drop()
            raise

    async def _judged_first(
        self, item: Item, known: Mapping[bytes, Result | None], recording: Recording, *, flex: bool
    ) -> Any:
        """The same requests must come of the same row before any is handed in."""
        if recording.asked and self._compared < COMPARED:
            await self._compare(item, known, recording)
        while self._comparing:  # nothing is sent before it is known that the chain is steady
            await self._judged.wait()
        if self.no_batches:
            recording.drop()
            return await self._finished_live(item)
        if flex and self._worth.of_flex(recording):
            recording.drop()
            return await self._finished_live(item, withdraws=True)
        if not self._worth.of(recording, out=self._post.any):
            recording.drop()
            self._rows.live.add(item.slot)
            return await self._finished_live(item)
        await self._hand_in(item, recording)
        return self._waits(item)  # where nothing of it is out by now, its next round begins at once

    async def _hand_in(self, item: Item, recording: Recording) -> None:
        """What its tools answered is durable before its requests are."""
        if news := self._tools.pop(item.slot, None):
            await asyncio.to_thread(self._book.keep_tools, item.slot, news)
        for key, asked in list(recording.asked.items()):
            if why := self._post.add(item, asked):
                self._run.alerts.warn("too big", f"{numbered(item.index)} runs live: {why}")
                self._rows.live.add(item.slot)
            else:
                self._rows.sent(item.slot, key)
            del recording.asked[key]

    async def _compare(self, item: Item, known: Mapping[bytes, Result | None], recording: Recording) -> None:
        """Run the row once more: does it ask the same?"""
        self._compared += 1
        self._comparing += 1
        self._judged.clear()
        try:
            again, _ = await self._round(item, known, probe=True)
            if _differ(recording, again) or await self._differs_later(item, known, again):
                self.no_batches = "the chain asks something else each time that it is run with the same row"
                self._run.alerts.warn("unsteady", f"rows run live: {self.no_batches}")
        finally:
            self._comparing -= 1
            if not self._comparing:
                self._judged.set()

    async def _differs_later(
        self, item: Item, known: Mapping[bytes, Result | None], asked: Recording
    ) -> bool:
        """Whether it asks different questions after the same answers, which are made up."""
        for _ in range(self._terms.rehearsed):
            answers = {key: made_up(*seen) for key, seen in asked.seen.items() if key not in known}
            if not answers or None in answers.values():
                return False
            known = {**known, **answers}
            one, _task = await self._round(item, known, probe=True)
            asked, _task = await self._round(item, known, probe=True)
            if _differ(one, asked):
                return True
            if not (one.needs and asked.needs):  # the chain does not take such an answer
                return False
        return False

    async def _finished_live(self, item: Item, *, withdraws: bool = False) -> Any:
        """What is known is used, and the rest is asked now; what is out is waited for first.

        Batches may have ended since the row's last round began, so it is looked up anew what is known.

        Args:
            item: the row.
            withdraws: where the flex tier has no room for it, it goes into a batch after all.
        """
        known = await self._known(item.slot)
        if self._rows.out(item.slot):
            if not self._post.reachable:  # it has to say once who pays
                recording, _ = await self._round(item, known, probe=True)
                self._post.knows(recording.credentials)
            return self._waits(item)
        began_s = clock.now()
        self._rows.sending += 1
        try:
            recording, task = await self._round(item, known, live=True, withdraws=withdraws)
            if not recording.withdrawn:
                return await self._came_to(item, recording, task)
        finally:
            self._rows.sending -= 1
            if self._rescue is not None:
                self._rescue.done(clock.now() - began_s)
        return await self._next_round(item, flex=False)

    async def _round(
        self,
        item: Item,
        known: Mapping[bytes, Result | None],
        *,
        live: bool = False,
        probe: bool = False,
        withdraws: bool = False,
        swap: int = 0,
    ) -> tuple[Recording, asyncio.Task[Any]]:
        name, types = self._terms.name, self._terms.tools
        journal = None
        if types is not None:
            news = self._tools.setdefault(item.slot, {})
            journal = Journal(await asyncio.to_thread(self._book.tools, item.slot), news, types)

        def record(news: Callable[[], None]) -> Recording:
            recording = Recording(
                known,
                hosts=self._post.hosts,
                account=lambda credentials: whose(credentials, name),
                news=news,
                live=live,
                probe=probe,
                withdraws=withdraws,
                swap=max(swap, 0),
            )
            recording.journal = journal
            return recording

        quiet_s = 0.0 if self._terms.linear else self._options.quiet_s
        patient_s = self._options.patient_s if swap == PATIENTLY else 0.0
        calls = item.calls
        recording, task = await one_round(item, self._send, record, quiet_s, patient_s)
        if recording.closed:  # the row was taken down: that was no try of it
            item.calls = calls
        return recording, task

    async def _known(self, slot: int) -> dict[bytes, Result | None]:
        """What the row has asked. A request is None in it only as long as it is out."""
        while self._post.any:
            found = await asyncio.to_thread(self._book.asked, slot)
            if (known := self._rows.known(slot, found)) is not None:
                return known
        return dict.fromkeys(self._rows.out(slot))

    def _waits(self, item: Item) -> Waits:
        self._source.aside(item, out=True)
        return WAITS

    def _diverge(self, item: Item, recording: Recording) -> None:
        """Its answers are not those of the questions that it asks now: they were paid in vain."""
        self._diverged += 1
        self._run.alerts.warn(
            "diverged",
            f"{numbered(item.index)} asks something else than it did before, so {len(recording.unused)} answers that "
            "were paid for are of no use: it runs live. A chain that reads the clock or chance cannot go through "
            "batches",
        )
        if self._diverged >= DIVERGED and not self.no_batches:
            self.no_batches = f"{self._diverged} rows asked something else than they did before"
            self._run.alerts.warn("no batches", f"all other rows run live: {self.no_batches}")


def _differ(one: Recording, other: Recording) -> bool:
    """Whether two executions ask different things; a slow branch may come late in either."""
    return other.closed and not (one.seen.keys() <= other.seen.keys() or other.seen.keys() <= one.seen.keys())
