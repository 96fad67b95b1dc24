"""Waits until the prefix that a request shares can be read from the provider's cache: as a task, and in a thread."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cottonpalm import clock
from cottonpalm.runtime.threads import runs_a_loop
from cottonpalm.runtime.wait_queue import RowClosed, TaskPlace, Waiter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cottonpalm.request.attempt.steps import Hold
    from cottonpalm.request.row_account import RowAccount


async def hold(row: RowAccount, step: Hold) -> bool:
    """Wait as a task. It holds nothing meanwhile; False: it took too long."""
    place = TaskPlace(step)
    if not step.leader.line_up(place, row.priority):
        return True
    timer = asyncio.get_running_loop().call_later(step.seconds, _give_up, place)
    try:
        with _counted(row):
            row.drain()
            await place.future
    finally:
        timer.cancel()
        step.leader.leave(place)
    return not place.prize


def hold_sync(row: RowAccount, step: Hold) -> bool:
    """Block this thread; but never one that runs a loop, which the leader may need to go on."""
    if runs_a_loop():
        return False
    place = Waiter(step)
    if not step.leader.line_up(place, row.priority):
        return True
    try:
        with _counted(row), row.parking() as on_wait:
            row.drain()
            on_wait(place)
            in_time = place.event.wait(step.seconds)
            if place.abandoned:
                raise RowClosed("the row is over; its request was not sent")
    finally:
        step.leader.leave(place)
    return in_time


def _give_up(place: TaskPlace) -> None:
    place.prize = True
    place.wake()


@contextmanager
def _counted(row: RowAccount) -> Iterator[None]:
    began = clock.now()
    try:
        with row.run.flow.holding():
            yield
    finally:
        if (measure := row.run.measure) is not None:
            measure.waited("warm", clock.now() - began)
