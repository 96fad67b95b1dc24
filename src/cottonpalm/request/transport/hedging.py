"""Watches one send of a task: if it is late, a copy is sent beside it, and the first good answer counts."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from cottonpalm import clock
from cottonpalm.request.hedges import SOON, SURELY, Ticket

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from cottonpalm.providers.call import Call
    from cottonpalm.request.attempt.steps import Reply
    from cottonpalm.request.hedges import Late
    from cottonpalm.request.row_account import RowAccount
    from cottonpalm.runtime.due import Due


class Hedge:
    """Watches one send.

    Args:
        row: the row that the request belongs to.
        call: the request.
        copy: sends it once more, with its own permit and money, as the ticket says. It is settled if its answer is
            good; None: not sent.
    """

    def __init__(
        self,
        row: RowAccount,
        call: Call,
        copy: Callable[[Ticket], Coroutine[Any, Any, Reply | None]],
    ) -> None:
        self._run, self._copy = row.run, copy
        self._watching: Due[Late] | None = None
        self._cut: Callable[[], None] | None = None  # cuts the original off, while it is under way
        self._timer: asyncio.TimerHandle | None = None
        self._copying: asyncio.Task[None] | None = None
        self._ticket: Ticket | None = None  # of the latest copy
        self._reply: Reply | None = None  # the copy's good reply
        self._loop, self._context = asyncio.get_running_loop(), copy_context()
        self.key, self.since_s = call.key, self._loop.time()

    def began(self, cut: Callable[[], None]) -> None:
        """The original goes out now; `cut` cuts it off. Again: it got a connection, and something else cuts it off."""
        self._cut = cut
        if self._watching is None:
            self._watching = self._run.hedges.watched(self._loop)
            self._watching.add(self)

    def late(self) -> None:
        """It is late now, or still."""
        self._timer, in_line = None, self._copying if self._ticket is not None else None
        if (ticket := self._may_go(in_line=in_line is not None)) is not None:
            self._ticket = ticket
            # In the row's context, whoever's was the timer.
            self._copying = self._loop.create_task(self._ask(ticket, in_line), context=self._context)
        self._again()

    def _may_go(self, *, in_line: bool) -> Ticket | None:
        """Whether a copy goes, and how: one of the run's share waits for a place, unless it is `in_line` already.

        Where all that are in flight hang, it goes at once: above the number that was found to fit, or, where no more
        may be in flight, in the original's place. That takes a surer sign, as the original is lost.
        """
        hedges, now, flow = self._run.hedges, clock.now(), self._run.flow
        limiter, total = flow.limiter(self.key), flow.limiters.total
        more = limiter.may_grow and (total is None or total.may_grow)
        hangs, silence = hedges.hangs(self), hedges.silence(self.key, now, limiter.last_accepted)
        all_hang = silence >= (SOON if more else SURELY)
        if not (hangs or in_line) and hedges.take(self._run.allowance.requests):
            return Ticket(counted=True, above=all_hang and more)
        if hangs or (all_hang and hedges.asks(self.key, now)):
            return Ticket(counted=False, above=True, cut=None if more else self._cut)
        return None

    def _again(self) -> None:
        """Look again whether a further copy may be sent, or the one in line may go at once."""
        if self._timer is not None:
            self._timer.cancel()
        late_s = self._run.hedges.late_s(self.key) or 0.0
        self._timer = self._loop.call_later(late_s / 4, self._late_still)

    def _late_still(self) -> None:
        if self._cut is not None and (self._ticket is None or self._ticket.sent_s is None):
            self.late()

    async def _ask(self, ticket: Ticket, in_line: asyncio.Task[None] | None) -> None:
        """Send a copy, in place of one that is still in line."""
        if in_line is not None:
            in_line.cancel()
            await asyncio.wait([in_line])
        reply: Reply | None = None
        with suppress(Exception):  # there is no money or the row has ended; a copy may fail silently
            reply = await self._copy(ticket)
        if reply is None:
            return
        if reply.copy is not None:
            self._reply = reply
            if ticket.above and ticket.sent_s is not None:
                self._run.hedges.woke(self.key, ticket.sent_s)
        if self._cut is None:
            return
        if self._reply is not None:
            self._cut()
        else:  # the copy failed, for instance was rejected: another copy may succeed
            self._ticket = None
            self._again()

    async def best(self, reply: Reply) -> Reply:
        """Return the reply that counts, after the original ended with `reply` or was cut off for its copy's reply.

        A copy that still waits in line is not waited for: the original holds a place of that line.
        """
        self._cut, ticket = None, self._ticket
        cut_off = not reply.good and (
            self._reply is not None or (ticket is not None and ticket.cut is not None)
        )
        gone = ticket is not None and ticket.sent_s is not None
        if self._reply is None and not reply.good and self._copying is not None and gone:
            await asyncio.wait([self._copying])
        if self._reply is None:
            return reply
        self._run.hedges.overtaken()
        if self._run.measure is not None:
            self._run.measure.overtaken()
        self._reply.instead_of = None if cut_off else reply
        return self._reply

    @property
    def alone(self) -> bool:
        """No copy was begun."""
        return self._copying is None

    def end(self) -> None:
        """End the watch: no further copy begins."""
        if self._watching is not None:
            self._watching.discard(self)
        self._cut = None  # else it would hold itself, and all of the row, until a collection
        if self._timer is not None:
            self._timer.cancel()

    async def over(self) -> None:
        """Cancel the copy that is still under way, and wait until it has given everything back."""
        if (copying := self._copying) is not None and not copying.done():
            copying.cancel()
            await asyncio.wait([copying])
