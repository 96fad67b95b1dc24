"""Two small machines that wait for what `attempts` asks for: one for tasks, one for threads."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from cottonpalm import clock
from cottonpalm.providers import BudgetBusy, dressed
from cottonpalm.request.attempts import attempts
from cottonpalm.request.limiter.limiter import BYTES_PER_TOKEN, Tokens
from cottonpalm.request.money.rules.grants import Ask, Grant
from cottonpalm.runtime.threads import runs_a_loop

if TYPE_CHECKING:
    from cottonpalm.providers.call import Call
    from cottonpalm.request.limiter.limiter import Limiter, Permit
    from cottonpalm.request.money.ledger import Ledger
    from cottonpalm.request.row_account import RowAccount
    from cottonpalm.request.transport.sender import Sender


async def drive(row: RowAccount, call: Call, sender: Sender) -> Any:
    """Answer a request under its row, as a task; returns the response."""
    steps = attempts(row, call)
    result: Any = None
    try:
        while True:
            step, value = steps.send(result)
            match step:
                case "send":
                    result = await sender.once(value.timeout_s, row.run.timeouts, call, value.body)
                case "permit":
                    result = _free_permit(row, call, *value) or await _permit(row, call, *value)
                case "money":
                    result = _free_money(row, value)
                    if result is Grant.WAIT:
                        result = await _money(row, value)
                case _:
                    with row.idling():
                        await asyncio.sleep(value)
                    _slept(row, value)
                    result = None
    except StopIteration as stop:
        return sender.response(stop.value, row.run.timeouts.allowed_s)
    finally:
        steps.close()


def drive_sync(row: RowAccount, call: Call, sender: Sender) -> Any:
    """Answer a request under its row, blocking this thread; returns the response."""
    steps = attempts(row, call)
    result: Any = None
    try:
        while True:
            step, value = steps.send(result)
            match step:
                case "send":
                    result = sender.once_sync(*value)
                case "permit":
                    result = _free_permit(row, call, *value) or _permit_sync(row, call, *value)
                case "money":
                    result = _money_sync(row, value)
                case _:
                    with row.idling():
                        row.rest(value)
                    _slept(row, value)
                    result = None
    except StopIteration as stop:
        return sender.response_sync(stop.value)
    finally:
        steps.close()


def _slept(row: RowAccount, seconds: float) -> None:
    if row.run.measure is not None:
        row.run.measure.waited("backoff", seconds)


def _free_permit(row: RowAccount, call: Call, key: str, behind: bool) -> Permit | None:
    """A permit, if one need not be waited for: the common case, which a coroutine would make dearer."""
    limiter = row.run.limiter(key)
    return limiter.try_acquire(_claim(row, limiter, behind), _tokens(call))


async def _permit(row: RowAccount, call: Call, key: str, behind: bool) -> Permit:
    limiter = row.run.limiter(key)
    row.drain()
    with row.in_line(limiter, refused=behind) as on_wait:
        return await limiter.aacquire(_claim(row, limiter, behind), _tokens(call), on_wait)


def _permit_sync(row: RowAccount, call: Call, key: str, behind: bool) -> Permit:
    row.drain()
    if runs_a_loop():
        return _force(row, call, key)
    limiter = row.run.limiter(key)
    with row.in_line(limiter, refused=behind) as also, row.parking(also) as on_wait:
        return limiter.acquire(_claim(row, limiter, behind), on_wait, _tokens(call))


def _claim(row: RowAccount, limiter: Limiter, behind: bool) -> float:
    return limiter.behind(row.priority) if behind else row.priority


def _force(row: RowAccount, call: Call, key: str) -> Permit:
    """A thread that runs a loop must not wait for permits: their holders may need that very loop to give them back."""
    limiter = row.run.limiter(key)
    if (pause_s := limiter.paused_until - clock.now()) > 0:
        row.rest(pause_s)
    if (permit := limiter.try_acquire(row.priority, _tokens(call))) is not None:
        return permit
    row.run.warn(
        "blocking call",
        "a model was called with invoke() inside an async function: that blocks the event loop, and its "
        "requests go one above the limit; use ainvoke() there.",
    )
    return limiter.force(_tokens(call))


def _tokens(call: Call) -> Tokens:
    return Tokens(len(call.content) // BYTES_PER_TOKEN, call.most_output)


def _free_money(row: RowAccount, ask: Ask) -> int | Grant:
    """Money, if it need not be waited for; 0 where there is none left."""
    answer = _ledger(row).try_grant(ask, row.priority, row.run.spending)
    return 0 if answer is Grant.STOP else answer


async def _money(row: RowAccount, ask: Ask) -> int:
    row.drain()
    with row.short_of_money():
        return await _ledger(row).agrant(ask, row.priority, row.run.spending)


def _money_sync(row: RowAccount, ask: Ask) -> int:
    if not isinstance(answer := _free_money(row, ask), Grant):
        return answer
    ledger, account = _ledger(row), row.run.spending
    row.drain()
    if not runs_a_loop():
        with row.short_of_money(), row.parking() as on_wait:
            return ledger.grant(ask, row.priority, on_wait, account)
    ledger.lease_now(ask, account)
    answer = ledger.try_grant(ask, row.priority, account)
    if answer is Grant.WAIT:
        message = "invoke() inside an async function cannot wait for money to come back; use ainvoke()"
        raise dressed(BudgetBusy, message)
    return 0 if isinstance(answer, Grant) else answer


def _ledger(row: RowAccount) -> Ledger:
    if row.run.ledger is None:
        raise RuntimeError("money was asked for in a run without a ledger")
    return row.run.ledger
