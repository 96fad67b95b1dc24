"""One round of a row: its chain runs up to the requests that have no answer yet, and is taken down there."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.request.row_account import ROW, RowAccount

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.protocols import Inner
    from cottonpalm.request.recording import Recording
    from cottonpalm.types import Item

_LOOK_S: Final = 0.1  # between two cancels of a chain that takes no notice of the first


async def one_round(
    item: Item,
    send: Inner,
    record: Callable[[Callable[[], None]], Recording],
    quiet_s: float,
    patient_s: float = 0.0,
) -> tuple[Recording, asyncio.Task[Any]]:
    """Run the row until it is done or, having asked something, falls quiet; nothing of it runs on afterwards.

    An exception in the chain would be caught by what it holds of retries and fallbacks, which would then ask more. So
    requests are held back where they are sent, and the task is cancelled.

    Args:
        item: the row; gets an account of its own for this round.
        send: calls the chain, row layers and all.
        record: makes the recording, given what to call when something was asked.
        quiet_s: how long nothing more must be asked.
        patient_s: the same as long as known answers are not asked for: a slow branch may still come to them.
    """
    loop, news = asyncio.get_running_loop(), asyncio.Event()

    def tell() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(news.set)

    recording = record(tell)
    account = item.account = _account(item.account, recording)
    item.refused = None  # it begins with its first question, whatever was wrong in the round before
    context = contextvars.copy_context()
    context.run(ROW.set, account)
    task = loop.create_task(_sent(send, item), context=context)
    try:
        try:
            if await _fell_quiet(task, recording, news, quiet_s, patient_s):
                recording.close()
        finally:
            if not task.done():
                await _taken_down(task, account)
            if not task.cancelled():
                task.exception()  # looked at, also where nobody asks what came of this round
    except BaseException:  # a cancel, at any moment: nobody hears of what was set aside
        recording.drop()
        raise
    return recording, task


async def _sent(send: Inner, item: Item) -> Any:
    return await send(item)


def _account(first: RowAccount, recording: Recording) -> RowAccount:
    account = RowAccount(first.run, first.index, first.priority, first.parent)
    account.recording = recording
    if recording.live:  # it waits as any other row does
        account.place, account.on_aside, account.on_short = first.place, first.on_aside, first.on_short
    first.close()
    return account


async def _fell_quiet(
    task: asyncio.Task[Any], recording: Recording, news: asyncio.Event, quiet_s: float, patient_s: float
) -> bool:
    """Wait for the end of the round: whether it came before the end of the row."""
    while not task.done():
        more = asyncio.ensure_future(news.wait())
        try:
            quiet = None
            if recording.needs:
                quiet = max(quiet_s, patient_s) if recording.unused else quiet_s
            await asyncio.wait({task, more}, timeout=quiet, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                break
            if recording.closed or (recording.needs and not more.done()):
                return True
        finally:
            more.cancel()
        news.clear()
    return False


async def _taken_down(task: asyncio.Task[Any], account: RowAccount) -> None:
    account.close()  # lets go of threads that hold a request back
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_LOOK_S)
