"""Ends a run's tasks from outside when someone closes the event loop during the run.

Closing a loop by hand cancels no task. The tasks keep their permits, reservations and places in the wait queues until
the garbage collector finds them, which may never happen. But `close` drops all timers at once. So each run on a loop
that can be closed sets a timer that is never due. When the loop drops this timer, we throw a cancel into the run's
coroutines, as their loop would have done, and they give everything back. A loop that is only stopped keeps its timers.
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
GRACE_S: Final = 5.0  # seconds that `loop.close()` waits for the clean-up code of the rows
_MOST_AWAITS: Final = 1_000  # awaits that one task may begin while it ends; each of them is cancelled too
_NO_CONTEXT: Final = Context()


class Discardable(Protocol):
    """The object that a task works for."""

    def discard(self) -> None:
        """Give back what the task was given: the task will never run its first step."""


def watch(task: asyncio.Task[Any], work: Discardable) -> None:
    """End the task if its loop is closed, before `close` returns. This keeps neither task nor loop alive."""
    loop = task.get_loop()
    if getattr(loop, "lasting", False):
        return
    timer = loop.call_later(NEVER_S, _nothing, context=_NO_CONTEXT)
    dropped = weakref.finalize(timer, _dropped, weakref.ref(task), weakref.ref(work))
    dropped.atexit = False
    del timer  # now only the loop refers to it

    def over(_: object) -> None:
        if (alive := dropped.detach()) is not None:
            alive[0].cancel()

    task.add_done_callback(over)


def _dropped(task_ref: weakref.ref[asyncio.Task[Any]], work_ref: weakref.ref[Discardable]) -> None:
    task, work = task_ref(), work_ref()
    if task is None or work is None or task.done() or not task.get_loop().is_closed():
        return
    # on a thread of its own: the caller may be running a loop and holding locks
    thread = threading.Thread(target=_end, args=(task, work), name="cottonpalm-closed-loop", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter is shutting down and starts no more threads
        return
    thread.join(GRACE_S)


def _end(task: asyncio.Task[Any], work: Discardable) -> None:
    async def ended() -> None:  # on a new loop: the rows' clean-up code may ask for the running one
        end(task)
        work.discard()

    asyncio.run(ended())


def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task whose loop is closed, and step it to its end. Nobody needs what it raises there."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - no complaint: that is meant
    coroutine: Any = task.get_coro()
    context = _context_of(task)  # its code can reset a context variable only in the context where it set it
    for _ in range(_MOST_AWAITS):
        try:
            context.run(coroutine.throw, asyncio.CancelledError())
        except (StopIteration, asyncio.CancelledError):
            return
        except BaseException:  # the task's code may have expected its own loop, or its own current task
            log.debug("a task whose event loop was closed did not end in order", exc_info=True)
            return
    log.warning("a task whose event loop was closed goes on awaiting, and is left as it is: %r", task)


def tasks_with(
    loop: asyncio.AbstractEventLoop, variable: ContextVar[T], holds: Callable[[T], bool]
) -> list[asyncio.Task[Any]]:
    """Return the loop's unfinished tasks whose context has a value of the variable that passes the test."""
    found = []
    for task in asyncio.all_tasks(loop):
        context = _context_of(task)
        if variable in context and holds(context[variable]):
            found.append(task)
    return found


def _context_of(task: asyncio.Task[Any]) -> Context:
    """Return the context a task runs in. Python 3.11 cannot tell it, so we find it among the task's references."""
    if (ask := getattr(task, "get_context", None)) is not None:
        context: Context = ask()
        return context
    return next((found for found in gc.get_referents(task) if isinstance(found, Context)), Context())


def _nothing() -> None:
    """Do nothing: the callback of the timer that is never due."""
