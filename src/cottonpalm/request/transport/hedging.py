"""One send of a task that may be late: then a copy is sent beside it, and the first good answer counts."""

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
    """Watches over one send.

    Args:
        row: whose request it is.
        call: the request.
        copy: sends it once more, under a permit and money of its own; settled where it is good, None if not sent.
    """

    def __init__(
        self, row: RowAccount, call: Call, copy: Callable[[], Coroutine[Any, Any, Reply | None]]
    ) -> None:
        self._run, self._key, self._copy = row.run, call.key, copy
        self._loop = asyncio.get_running_loop()
        self._limit: asyncio.Timeout | None = None  # of the original, while it is under way
        self._since = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._copying: asyncio.Task[None] | None = None
        self._reply: Reply | None = None  # a good one, of the copy
        self._look = self._arm  # one bound method, to be found again

    def began(self, limit: asyncio.Timeout) -> None:
        """The original goes out; `limit` cuts it off."""
        self._limit = limit
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
        if now < self._since + late_s:  # slower answers came meanwhile
            self._arm()
            return
        if hedges.take(self._run.allowance.requests):
            self._copying = self._loop.create_task(self._ask())
        else:  # so many are late that none may be copied now
            self._again()

    def _again(self) -> None:
        late_s = self._run.hedges.late_s(self._key) or 0.0
        self._timer = self._loop.call_later(late_s / 4, self._late)

    async def _ask(self) -> None:
        reply: Reply | None = None
        with suppress(Exception):  # no money, the row is over: it is only a copy
            reply = await self._copy()
        if reply is None:
            return
        if reply.copy is not None:
            self._reply = reply
        if self._limit is None:
            return
        if self._reply is not None:
            self._limit.reschedule(self._loop.time())
        else:  # it was rejected, say: another may do better
            self._again()

    async def best(self, reply: Reply) -> Reply:
        """The answer that counts, now that the original has come to `reply`, or was cut off for its copy's."""
        self._limit, cut_off = None, self._reply is not None and not reply.good
        if self._reply is None and not reply.good and self._copying is not None:
            await asyncio.wait([self._copying])
        if self._reply is None:
            return reply
        self._reply.instead_of = None if cut_off else reply
        return self._reply

    async def over(self) -> None:
        """One answer counts: what else is under way is cancelled, and has given everything back."""
        self._run.hedges.unwatch(self._look)
        self._limit = None
        if self._timer is not None:
            self._timer.cancel()
        if (copying := self._copying) is not None and not copying.done():
            copying.cancel()
            await asyncio.wait([copying])
