"""A loop that is closed with a run under way: nobody resumes its tasks any more, so they are ended from outside.

Closing a loop by hand cancels nothing. Its tasks stay as they are, with their permits, money and places in line, until
the garbage collector comes by, which may be never. But `close` drops all timers, at once; so each run on a loop that
can be closed sets one that is never due, and is ended when that is dropped: a cancel is thrown into its coroutines, as
their loop would have done it, and they give everything back. A loop that is merely stopped keeps its timers.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import ContextVar

T = TypeVar("T")
log = logging.getLogger("cottonpalm")
NEVER_S: Final = 1e9
GRACE_S: Final = 5.0  # whoever closes the loop waits this long for what the rows' own code does at its end
_MOST_AWAITS: Final = 1_000  # at the end of one task: each of them is cancelled, too
_NO_CONTEXT: Final = Context()


class Discardable(Protocol):
    """What a task works for."""

    def discard(self) -> None:
        """The task will never do its first step: let go of what it was given."""


def watch(task: asyncio.Task[Any], work: Discardable) -> None:
    """End the task when its loop is closed under it, before `close` returns. Neither is kept alive for that."""
    loop = task.get_loop()
    if getattr(loop, "lasting", False):
        return
    timer = loop.call_later(NEVER_S, _nothing, context=_NO_CONTEXT)
    dropped = weakref.finalize(timer, _dropped, weakref.ref(task), weakref.ref(work))
    dropped.atexit = False
    del timer  # the loop alone holds it

    def over(_: object) -> None:
        if (alive := dropped.detach()) is not None:
            alive[0].cancel()

    task.add_done_callback(over)


def _dropped(task_ref: weakref.ref[asyncio.Task[Any]], work_ref: weakref.ref[Discardable]) -> None:
    task, work = task_ref(), work_ref()
    if task is None or work is None or task.done() or not task.get_loop().is_closed():
        return
    thread = threading.Thread(
        target=_end, args=(task, work), name="cottonpalm-closed-loop", daemon=True
    )  # not here: the caller may have a loop running, and locks held
    try:
        thread.start()
    except RuntimeError:  # the interpreter is about to end
        return
    thread.join(GRACE_S)


def _end(task: asyncio.Task[Any], work: Discardable) -> None:
    async def ended() -> None:  # on a loop of its own, since the rows' code may look for one at its end
        end(task)
        work.discard()

    asyncio.run(ended())


def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task whose loop is closed, step by step to its end. What it raises there concerns nobody any more."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - no complaint: that is meant
    coroutine: Any = task.get_coro()
    context = _context_of(task)  # what its code has set there, it can take back only there
    for _ in range(_MOST_AWAITS):
        try:
            context.run(coroutine.throw, asyncio.CancelledError())
        except (StopIteration, asyncio.CancelledError):
            return
        except BaseException:  # it expected its own loop, or to be in its own task
            log.debug("a task whose event loop was closed did not end in order", exc_info=True)
            return
    log.warning("a task whose event loop was closed goes on awaiting, and is left as it is: %r", task)


def tasks_with(
    loop: asyncio.AbstractEventLoop, variable: ContextVar[T], holds: Callable[[T], bool]
) -> list[asyncio.Task[Any]]:
    """The unfinished tasks of a loop in whose contexts this holds for the variable."""
    found = []
    for task in asyncio.all_tasks(loop):
        context = _context_of(task)
        if variable in context and holds(context[variable]):
            found.append(task)
    return found


def _context_of(task: asyncio.Task[Any]) -> Context:
    """The context a task runs in. Python 3.11 has no way to ask for it; it is among what the task refers to."""
    if (ask := getattr(task, "get_context", None)) is not None:
        context: Context = ask()
        return context
    return next((found for found in gc.get_referents(task) if isinstance(found, Context)), Context())


def _nothing() -> None:
    """The timer that is never due."""
