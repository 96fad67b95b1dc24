"""Does blocking work on a thread, so that the event loop goes on."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


async def aside(loop: asyncio.AbstractEventLoop, work: Callable[[], None]) -> None:
    """Do `work` on its own thread to its end, even if the caller is cancelled; on a closed loop, do it at once here.

    Raises:
        Exception: what `work` raised; else a CancelledError that came meanwhile.
    """
    if loop.is_closed():
        work()
        return
    errors: list[BaseException] = []
    # waited for, also where we are closed
    with ThreadPoolExecutor(1, thread_name_prefix="cottonpalm-aside") as thread:
        done = loop.run_in_executor(thread, _kept, work, errors)
        while not (done.done() or loop.is_closed()):
            try:
                await asyncio.wait([done])
            except asyncio.CancelledError as cancel:
                errors.append(cancel)
    if errors:
        raise next((error for error in errors if not isinstance(error, asyncio.CancelledError)), errors[0])


def _kept(work: Callable[[], None], errors: list[BaseException]) -> None:
    try:
        work()
    except BaseException as error:  # noqa: BLE001 - raised by whoever waits
        errors.append(error)
