"""Keeps a deadline: looks every little while which batches would be late, pulls them back, and gives up what hangs."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final

from cottonpalm import clock
from cottonpalm.engine.executors.batch import deadline as rules
from cottonpalm.providers.batches.stages import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cottonpalm.config import BatchLane
    from cottonpalm.engine.executors.batch.post import Post
    from cottonpalm.engine.executors.batch.rows_out import RowsOut
    from cottonpalm.providers.batches.lanes import Lane
    from cottonpalm.providers.batches.stages import Batch
    from cottonpalm.request.recording import Asked
    from cottonpalm.request.run_account import RunAccount

PROBES: Final = 2  # rows that run live first, to learn how long one takes
_LOOKS: Final = 100  # at the batches, within the time that is left
_LOOK_S: Final = 5.0  # and at least so often


class Rescue:
    """The deadline of one run. On its loop.

    Args:
        deadline_s: seconds from now.
        options: the user's own bounds.
        run: whose limits are known.
        rows: where the rows are.
        give_up: told of a batch whose rows can wait for it no longer.
    """

    def __init__(
        self,
        deadline_s: float,
        options: BatchLane,
        run: RunAccount,
        rows: RowsOut,
        give_up: Callable[[Batch], None],
    ) -> None:
        self._until, self._deadline_s = clock.now() + deadline_s, deadline_s
        self._cancel_s, self._poll_s = options.cancel_s, options.poll_s
        self._run, self._rows, self._give_up = run, rows, give_up
        self._pace = rules.LivePace()
        self._past: list[Batch] = []
        self._turnarounds: dict[tuple[str, str], list[rules.Past]] = {}
        self._cancelled: dict[str, float] = {}
        self.post: Post

    @property
    def left_s(self) -> float:
        """Seconds until the deadline; below 0 when it is past."""
        return self._until - clock.now()

    @property
    def reserve_s(self) -> float:
        """How long before the deadline batches are cancelled, as far as we know."""
        return rules.reserve_s(len(self._rows.begun), self.live(), self._cancel_s)

    def may_start(self, active: int) -> bool:
        """Whether a new row may begin: at first only a few, which show how long one takes."""
        return self._pace.known or active < PROBES

    def probes(self) -> bool:
        """Whether this row runs live, to show how long one takes."""
        return not self._pace.known

    def remember(self, past: list[Batch]) -> None:
        """Take note of how long this account's batches took."""
        self._past = past

    def done(self, seconds: float) -> None:
        """A row was finished live."""
        self._pace.done(clock.now(), seconds)
        if not self._rows.ready:
            self._pace.starved()

    def live(self) -> rules.Live:
        """How fast rows are answered live, as far as we know."""
        return self._pace.live(self._run.flow.limit(), _known_rate(self._run))

    def worth(self, asked: Iterable[Asked]) -> bool:
        """Whether these requests of a row may come back in time from a batch."""
        unfinished = len(self._rows.begun)
        return all(self._worth(lane, unfinished) for lane in {one.wanted.lane for one in asked})

    def unproven(self, asked: Iterable[Asked]) -> Lane | None:
        """The lane of a request that no deadline lets out: a cancel may lose its batch, and none has ended before."""
        lanes = {one.wanted.lane for one in asked}
        return next(
            (
                lane
                for lane in lanes
                if lane.provider in rules.LOSES_ON_CANCEL
                and rules.quantile(self._past_of(lane), rules.SURE) is None
            ),
            None,
        )

    def _worth(self, lane: Lane, rows: int) -> bool:
        loses = lane.provider in rules.LOSES_ON_CANCEL
        return rules.worth_a_batch(
            self.left_s, rows, self.live(), self._cancel_s, self._past_of(lane), loses=loses
        )

    def _past_of(self, lane: Lane) -> list[rules.Past]:
        where = (lane.provider, lane.model)
        if where not in self._turnarounds:
            self._turnarounds[where] = rules.turnarounds(self._past, *where)
        return self._turnarounds[where]

    def rows_in_a_batch(self, made: int) -> int:
        """How many rows to put into the next batch."""
        return rules.rows_in_a_batch(self.live(), self._cancel_s, made)

    def look_s(self) -> float:
        """How long to wait before the next look at anything."""
        return min(_LOOK_S, self._poll_s, max(0.01, self._deadline_s / _LOOKS))

    async def watch(self) -> None:
        """Look until the run is over."""
        while True:
            await asyncio.sleep(self.look_s())
            await self._look()

    async def _look(self) -> None:
        now, live, left_s = clock.now(), self.live(), self.left_s
        sent = [
            self._sent(batch, now) for batch in self.post.open.values() if batch.tag not in self.post.given_up
        ]
        in_batches = sum(batch.left for batch in sent)
        going_live = max(0, len(self._rows.begun) - len(self._rows.waiting))
        waiting = max(0, len(self._rows.waiting) - in_batches)
        for tag in rules.to_give_up(left_s, going_live, sent, live, self._cancel_s):
            self._give_up(self.post.open[tag])
        for tag in rules.to_cancel(left_s, going_live, sent, live, self._cancel_s, waiting=waiting):
            if (batch := self.post.open.get(tag)) is None or batch.stage is Stage.ENDED:
                continue
            self._cancelled.setdefault(tag, now)
            await self.post.cancel(batch)
        if left_s <= self.reserve_s:
            self.post.flush()  # else a spool that is not full holds rows back

    def _sent(self, batch: Batch, now: float) -> rules.Sent:
        done = batch.state.done + batch.state.failed if batch.state is not None else 0
        asked_s = self._cancelled.get(batch.tag)
        if asked_s is None and batch.cancelling:
            asked_s = self._cancelled[batch.tag] = now
        return rules.Sent(
            batch.tag, batch.rows, max(1, batch.rows - done), None if asked_s is None else now - asked_s
        )


def _known_rate(run: RunAccount) -> float:
    """Rows in a second that the known limits allow, as if each row made one request; inf: none is known."""
    rates = [
        quota.rate
        for limiter in run.flow.seen()
        for unit, quota in limiter.admission.quotas.shown.items()
        if unit == "requests" and quota.trusted and quota.rate
    ]
    return min(rates, default=math.inf)
