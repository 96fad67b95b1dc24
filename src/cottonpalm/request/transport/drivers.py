"""The two drivers of `attempts`, for tasks and for threads: they do its steps and send the results back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from cottonpalm import clock
from cottonpalm.providers import BudgetBusy, CutAnswer, FilteredAnswer, dressed
from cottonpalm.request.attempt.attempts import attempts
from cottonpalm.request.attempt.judging import handed_out
from cottonpalm.request.attempt.steps import AskMoney, AskPermit, Hold, Send, Sleep
from cottonpalm.request.limiter.rules.tokens import Tokens
from cottonpalm.request.money.rules.grants import Ask, Grant
from cottonpalm.request.queueing import permitted, permitted_sync
from cottonpalm.request.transport.hedging import Hedge
from cottonpalm.request.transport.holding import hold, hold_sync
from cottonpalm.runtime.threads import runs_a_loop
from cottonpalm.runtime.wait_queue import Behind
from cottonpalm.types import BYTES_PER_TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from cottonpalm.providers.call import Call
    from cottonpalm.request.attempt.steps import Reply, Result, Step
    from cottonpalm.request.limiter.limiter import Permit
    from cottonpalm.request.money.ledger import Ledger
    from cottonpalm.request.row_account import RowAccount
    from cottonpalm.request.transport.sender import Sender
    from cottonpalm.runtime.wait_queue import Claim

T = TypeVar("T")


class Sends(Protocol):
    """What sends a request as a task: `Sender`, or the fast transport's."""

    async def once(
        self,
        timeout_s: float,
        body: bytes | None = None,
        began: Callable[[Callable[[], None]], None] | None = None,
    ) -> Reply:
        """Send once."""


async def drive(row: RowAccount, call: Call, sender: Sender) -> Any:
    """Get the answer to a request of this row, as a task; return the response."""
    try:
        done = await walk(row, call, sender, attempts(row, call))
    except (CutAnswer, FilteredAnswer) as refusal:
        done = handed_out(refusal)
    return sender.response(done, row.run.timeout_s)


async def walk(row: RowAccount, call: Call, sender: Sends, steps: Generator[Step, Result, T]) -> T:
    """Wait for one step after the other; what a wait came to instead of its result is thrown in."""
    try:
        step = next(steps)
        while True:
            try:
                if type(step) is AskPermit:  # these two make a request, mostly: a coroutine less for each
                    result: Result = _free_permit(row, call, step) or await _permit(row, call, step)
                elif type(step) is Send:
                    result = await _send(row, call, sender, step)
                else:
                    result = await _await(row, step)
            except BaseException as error:  # noqa: BLE001 - the generator raises it again, or knows better
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        steps.close()


async def _await(row: RowAccount, step: Step) -> Result:
    """Wait for one of the rarer steps as a task."""
    match step:
        case AskMoney():
            return await _money(row, step.ask)
        case Hold():
            return await hold(row, step)
        case Sleep():
            with row.idling():
                await asyncio.sleep(step.seconds)
            _slept(row, step)
    return None


async def _send(row: RowAccount, call: Call, sender: Sends, step: Send) -> Reply:
    if (copy := step.copy) is None:
        return await sender.once(step.timeout_s, step.body)
    hedge = Hedge(row, call, lambda ticket: walk(row, call, sender, copy(ticket)))
    try:
        reply = await sender.once(step.timeout_s, step.body, hedge.began)
        return reply if hedge.alone else await hedge.best(reply)
    finally:
        hedge.end()
        if not hedge.alone:  # a coroutine less for most requests
            await hedge.over()


def drive_sync(row: RowAccount, call: Call, sender: Sender) -> Any:
    """Get the answer to a request of this row, and block this thread; return the response."""
    steps = attempts(row, call)
    try:
        step = next(steps)
        while True:
            try:
                result = _wait(row, call, sender, step)
            except BaseException as error:  # noqa: BLE001 - the generator raises it again, or knows better
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as stop:
        return sender.response_sync(stop.value)
    except (CutAnswer, FilteredAnswer) as refusal:
        return sender.response_sync(handed_out(refusal))
    finally:
        steps.close()


def _wait(row: RowAccount, call: Call, sender: Sender, step: Step) -> Result:
    """Block this thread for one step."""
    match step:
        case Send():
            return sender.once_sync(step.timeout_s, step.body)
        case AskPermit():
            return _free_permit(row, call, step) or _permit_sync(row, call, step)
        case AskMoney():
            return _money_sync(row, step.ask)
        case Hold():
            return hold_sync(row, step)
        case Sleep():
            with row.idling():
                row.rest(step.seconds)
            _slept(row, step)
            return None


def _slept(row: RowAccount, step: Sleep) -> None:
    if row.run.measure is not None:
        row.run.measure.waited("backoff", step.seconds)


def _free_permit(row: RowAccount, call: Call, step: AskPermit) -> Permit | None:
    """Return a permit if one is free. This is the common case, and a coroutine would make it slower."""
    limiter = row.run.flow.limiter(step.key)
    return limiter.try_acquire(_claim(row, step), _tokens(call))


async def _permit(row: RowAccount, call: Call, step: AskPermit) -> Permit:
    limiter = row.run.flow.limiter(step.key)
    if step.above:
        permit = limiter.force_in_time(_tokens(call))
        if not isinstance(permit, float):
            return permit
    row.drain()
    return await permitted(row, limiter, _claim(row, step), _tokens(call), again=step.again)


def _permit_sync(row: RowAccount, call: Call, step: AskPermit) -> Permit:
    row.drain()
    if runs_a_loop():
        return _force(row, call, step.key)
    limiter = row.run.flow.limiter(step.key)
    return permitted_sync(row, limiter, _claim(row, step), _tokens(call), again=step.again)


def _claim(row: RowAccount, step: AskPermit) -> Claim:
    return Behind(step.behind, row.priority) if step.behind else row.priority


def _force(row: RowAccount, call: Call, key: str) -> Permit:
    """Take a permit without waiting: this thread runs a loop, which the holders of permits may need to go on."""
    limiter = row.run.flow.limiter(key)
    if (pause_s := limiter.paused_until - clock.now()) > 0:
        row.rest(pause_s)
    if (permit := limiter.try_acquire(row.priority, _tokens(call))) is not None:
        return permit
    row.run.alerts.warn(
        "blocking call",
        "a model was called with invoke() inside an async function: that blocks the event loop, and its "
        "requests go one above the limit; use ainvoke() there.",
    )
    return limiter.force(_tokens(call))


def _tokens(call: Call) -> Tokens:
    return Tokens(len(call.content) // BYTES_PER_TOKEN, call.most_output)


def _free_money(row: RowAccount, ask: Ask) -> int | Grant:
    """Return the money if we need not wait for it; 0 if none is left."""
    answer = _ledger(row).try_grant(ask, row.claim, row.run.spending)
    return 0 if answer is Grant.STOP else answer


async def _money(row: RowAccount, ask: Ask) -> int:
    if not isinstance(answer := _free_money(row, ask), Grant):
        return answer
    row.drain()
    with row.short_of_money():
        return await _ledger(row).agrant(ask, row.claim, row.run.spending)


def _money_sync(row: RowAccount, ask: Ask) -> int:
    if not isinstance(answer := _free_money(row, ask), Grant):
        return answer
    ledger, account = _ledger(row), row.run.spending
    row.drain()
    if not runs_a_loop():
        with row.short_of_money(), row.parking() as on_wait:
            return ledger.grant(ask, row.claim, on_wait, account)
    ledger.lease_now(ask, account)
    answer = ledger.try_grant(ask, row.claim, account)
    if answer is Grant.WAIT:
        message = "invoke() inside an async function cannot wait for money to come back; use ainvoke()"
        raise dressed(BudgetBusy, message)
    return 0 if isinstance(answer, Grant) else answer


def _ledger(row: RowAccount) -> Ledger:
    if row.run.ledger is None:
        raise RuntimeError("money was asked for in a run without a ledger")
    return row.run.ledger
