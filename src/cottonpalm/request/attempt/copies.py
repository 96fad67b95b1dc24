"""A copy of a request that is late: one more try beside the first, with its own permit and money."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cottonpalm import clock
from cottonpalm.providers.openai import FLEX
from cottonpalm.request.attempt.judging import judge_reply
from cottonpalm.request.attempt.reservation import may_be_repeated
from cottonpalm.request.attempt.settlement import Settlement
from cottonpalm.request.attempt.steps import AskPermit, Reply, Send, Sleep
from cottonpalm.request.attempt.waits import among_all
from cottonpalm.request.limiter.limiter import Permit
from cottonpalm.types import Kind

if TYPE_CHECKING:
    from collections.abc import Generator

    from cottonpalm.providers.call import Call
    from cottonpalm.request.attempt.reservation import Reservation
    from cottonpalm.request.attempt.steps import Copier, Result, Step
    from cottonpalm.request.hedges import Ticket
    from cottonpalm.request.row_account import RowAccount
    from cottonpalm.types import Fault

# Of one request. With two, one run of 1,000 rows in 125 met three hangs in a row, and waited for its timeout.
COPIES: Final = 3


def copier(row: RowAccount, call: Call, money: Reservation, copies: int = COPIES) -> Copier | None:
    """Return what makes a copy's steps; None for a request of which no copy may be sent, or no further one."""
    if not copies or call.streams or call.signed or call.tier == FLEX or not row.run.hedges.wanted:
        return None
    return lambda ticket: _copy(row, call, money, copies - 1, ticket)


def _copy(
    row: RowAccount, call: Call, money: Reservation, copies: int, ticket: Ticket
) -> Generator[Step, Result, Reply | None]:
    """One more try of a request that is late, beside the first: settled, and a good answer marked as `copy`.

    It is sent where its money need not be waited for, and a second answer is as good as the first; else None.
    """
    run, ending, counts = row.run, None, False
    row.begin()
    try:
        if not may_be_repeated(call) or (second := money.again()) is None:
            return None
        try:
            permit = yield AskPermit(call.key, above=ticket.above)
        except BaseException:  # mostly a cancel in line: the original was answered
            second.give_back()
            raise
        assert isinstance(permit, Permit)
        ending = Settlement(row, call, permit, second)
        yield from among_all(row, ending, above=ticket.cut is not None)
        row.check_open()
        ending.begin()
        counts = True
        yield from _goes(ticket)
        reply = yield Send(run.timeout_s, second.body, copier(row, call, second, copies))
        assert isinstance(reply, Reply)
        if reply.copy is not None:
            settle_original(ending, reply)
        elif (fault := _settle_as(ending, reply)) is not None:
            counts = fault.kind is not Kind.THROTTLE  # a rejection costs nothing
        else:
            reply.copy = ending
        return reply
    finally:
        if ending is not None:
            ending.abandon()
        row.end()
        if not counts:
            run.hedges.give_back(ticket)
        elif run.measure is not None:
            run.measure.hedged()


def _goes(ticket: Ticket) -> Generator[Step, Result, None]:
    """It leaves the line; an original whose place it takes has ended before it is sent."""
    ticket.goes(clock.now())
    if ticket.cut is not None:
        yield Sleep(0.0)


def settle_original(ending: Settlement, reply: Reply) -> None:
    """Its copy was answered: it was cut off, or came to something that does not count."""
    ending.answered_by_copy()
    if reply.instead_of is None:
        ending.abandon()
    else:
        _settle_as(ending, reply.instead_of)


def _settle_as(ending: Settlement, reply: Reply) -> Fault | None:
    """Settle a try that no other follows; its fault."""
    judged = judge_reply(ending.row.run, ending.call, reply)
    fault = judged.fault
    pause_s = (fault.retry_after_s or 0.0) if fault is not None and fault.kind is Kind.THROTTLE else 0.0
    ending.over(
        fault,
        status=reply.status or None,
        answer=judged.answer,
        billed=judged.billed,
        pause_s=pause_s,
        headers=reply.headers,
    )
    return fault
