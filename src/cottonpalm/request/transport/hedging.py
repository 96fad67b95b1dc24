"""Watches one send of a task: if it is late, a copy is sent beside it, and the first good answer counts."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from cottonpalm.providers.call import Call
    from cottonpalm.request.row_account import RowAccount
    from cottonpalm.request.steps import Reply


class Hedge:
    """Watches one send.

    Args:
        row: the row that the request belongs to.
        call: the request.
        copy: sends it once more, with its own permit and money. It is settled if its answer is good; None: not sent.
    """

    def __init__(
        self, row: RowAccount, call: Call, copy: Callable[[], Coroutine[Any, Any, Reply | None]]
    ) -> None:
        self._run, self._key, self._copy = row.run, call.key, copy
        self._loop = asyncio.get_running_loop()
        self._limit: asyncio.Timeout | None = None  # the original's timeout, while it is under way
        self._since = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._copying: asyncio.Task[None] | None = None
        self._reply: Reply | None = None  # the copy's good reply
        self._look: Callable[[], None] | None = None  # one object, so that `unwatch` finds it

    def began(self, limit: asyncio.Timeout) -> None:
        """The original is sent now; `limit` can cut it off."""
        self._limit, self._look = limit, self._arm
        self._run.hedges.watch(self._key, self._look)
        self._arm()

    def _arm(self) -> None:
        late_s = self._run.hedges.late_s(self._key)
        if late_s is not None and self._timer is None and self._limit is not None:
            self._timer = self._loop.call_at(self._since + late_s, self._late)

    def _late(self) -> None:
        self._timer = None
        hedges, now = self._run.hedges, self._loop.time()
        late_s = hedges.late_s(self._key) or 0.0
        if now < self._since + late_s:  # slower answers came meanwhile, so it is not late yet
            self._arm()
            return
        if hedges.take(self._run.allowance.requests):
            self._copying = self._loop.create_task(self._ask())
        else:  # too many requests are late, so no further copy may be sent now
            self._again()

    def _again(self) -> None:
        late_s = self._run.hedges.late_s(self._key) or 0.0
        self._timer = self._loop.call_later(late_s / 4, self._late)

    async def _ask(self) -> None:
        reply: Reply | None = None
        with suppress(Exception):  # there is no money or the row has ended; a copy may fail silently
            reply = await self._copy()
        if reply is None:
            return
        if reply.copy is not None:
            self._reply = reply
        if self._limit is None:
            return
        if self._reply is not None:
            self._limit.reschedule(self._loop.time())
        else:  # the copy failed, for instance was rejected: another copy may succeed
            self._again()

    async def best(self, reply: Reply) -> Reply:
        """Return the reply that counts, after the original ended with `reply` or was cut off for its copy's reply."""
        self._limit, cut_off = None, self._reply is not None and not reply.good
        if self._reply is None and not reply.good and self._copying is not None:
            await asyncio.wait([self._copying])
        if self._reply is None:
            return reply
        self._run.hedges.overtaken()
        if self._run.measure is not None:
            self._run.measure.overtaken()
        self._reply.instead_of = None if cut_off else reply
        return self._reply

    async def over(self) -> None:
        """End the watch: cancel what is still under way, and wait until it has given everything back."""
        if self._look is not None:
            self._run.hedges.unwatch(self._look)
        self._limit = self._look = None  # else it would hold itself, and all of the row, until a collection
        if self._timer is not None:
            self._timer.cancel()
        if (copying := self._copying) is not None and not copying.done():
            copying.cancel()
            await asyncio.wait([copying])
