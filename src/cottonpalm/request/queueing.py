"""A row stands in line at a limiter: with one of its requests, or for its own permit."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from cottonpalm import clock
from cottonpalm.types import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cottonpalm.request.limiter.limiter import Limiter, Permit
    from cottonpalm.request.limiter.rules.tokens import Tokens
    from cottonpalm.request.row_account import RowAccount
    from cottonpalm.runtime.wait_queue import Claim, Place


@contextmanager
def in_line(
    row: RowAccount, limiter: Limiter, *, again: bool = False
) -> Iterator[Callable[[Place], None] | None]:
    """Count one request as waiting at this limiter during the block; during a pause there, it counts as sleeping.

    A request that waits `again`, after it failed, does not keep new rows from starting. Else rows that always fail
    would fill the line, and be the only ones that are ever asked.

    It yields a function to call with the place in line, if the row may leave that place for another endpoint.

    Raises:
        Moved: the row goes to another endpoint.
        ProviderDown: the row goes to another chain.
    """
    stay, replaceable = row.stay, row.replaceable or row.back is not None
    row.run.flow.queue(+1, again=+again)
    began = clock.now()
    paused = limiter.paused_until > began
    try:
        if stay is None and not (replaceable or paused):  # as in most runs
            yield None
            return
        with (
            nullcontext() if stay is None else stay.lining_up(limiter) as on_wait,
            row.run.failover.lining_up(row, limiter, on_wait)
            if replaceable
            else nullcontext(on_wait) as told,
            row.idling() if paused else nullcontext(),
        ):
            yield told
    finally:
        row.run.flow.queue(-1, again=-again)
        if (measure := row.run.measure) is not None:
            now = clock.now()
            paused_s = max(0.0, min(now, limiter.paused_until) - began) if paused else 0.0
            measure.waited("permit", now - began - paused_s)
            if paused:
                measure.waited("pause", paused_s)


async def permitted(
    row: RowAccount, limiter: Limiter, claim: Claim, ask: int | Tokens, *, again: bool = False
) -> Permit:
    """Wait for a permit as a task; `claim` and `ask` as the limiter takes them."""
    with in_line(row, limiter, again=again) as on_wait:
        if (turns := row.run.flow.turns(limiter.key)) is None:
            return await limiter.aacquire(claim, ask, on_wait)
        turn = await turns.aacquire(claim, on_wait=on_wait)
        with _its_turn(turn):
            while True:
                got = _taken(limiter, claim, ask, turn)
                if not isinstance(got, float):
                    return got
                await asyncio.sleep(got)


def permitted_sync(
    row: RowAccount, limiter: Limiter, claim: Claim, ask: int | Tokens, *, again: bool = False
) -> Permit:
    """Wait for a permit and block this thread; arguments as in `permitted`."""
    with in_line(row, limiter, again=again) as also, row.parking(also) as on_wait:
        if (turns := row.run.flow.turns(limiter.key)) is None:
            return limiter.acquire(claim, on_wait, ask)
        turn = turns.acquire(claim, on_wait)
        with _its_turn(turn):
            while True:
                got = _taken(limiter, claim, ask, turn)
                if not isinstance(got, float):
                    return got
                row.rest(got)


def _taken(limiter: Limiter, claim: Claim, ask: int | Tokens, turn: Permit) -> Permit | float:
    """A permit that is free, else one above the limit, which keeps the turn; or the seconds until time allows it."""
    if (free := limiter.try_acquire(claim, ask)) is None:
        return limiter.force_in_time(ask, turn)
    turn.limiter.release(turn, Verdict.IGNORED)
    return free


@contextmanager
def _its_turn(turn: Permit) -> Iterator[None]:
    """Give the turn back if nothing comes of it."""
    try:
        yield
    except BaseException:
        turn.limiter.release(turn, Verdict.IGNORED)
        raise


async def enter(row: RowAccount) -> None:
    """Take the row's own permit as a task, unless its requests or model calls take the permits."""
    if row.entered() or (limiter := row.own_limiter()) is None:
        return
    row.take(await permitted(row, limiter, row.priority, 0))
