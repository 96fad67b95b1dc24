"""The runs that are under way, and a shadow row for requests of which we do not know the row.

A context variable does not reach the threads of a `ThreadPoolExecutor` or of `threading.Thread`. If exactly one live
run sends by the HTTP client of a model request without a row, the request must belong to that run: one of its rows was
seen to use the client, or a function of its chain reads the model that holds it. We count it for the run's shadow row,
so that permits, retries and budget apply to it. Any other such request belongs to other code in the same process, and
passes uncounted.

LangChain's integrations share one HTTP client per address, also with a web handler beside the run. Tasks keep their
row, so an awaited request without one is the run's only on a loop that the run may have made: a bridge's, or one of a
thread that is younger than the run.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from cottonpalm.request.row_account import RowAccount

if TYPE_CHECKING:
    from cottonpalm.request.run_account import RunAccount

# a plain dict: for each request the hook checks whether it is empty, and nothing is faster
LIVE: Final[dict[RunAccount, RowAccount]] = {}
_older: Final[dict[RunAccount, WeakSet[threading.Thread]]] = {}  # the threads that a run found when it began
SHADOW: Final = -1  # the index of a shadow row
_lock = threading.Lock()


def begin(run: RunAccount) -> None:
    """The run begins: from now on, requests without a row may belong to it."""
    with _lock:
        LIVE[run] = RowAccount(run, SHADOW)
        LIVE[run].adopts = True
        _older[run] = WeakSet(threading.enumerate())


def end(run: RunAccount) -> None:
    """The run is over: late requests of its threads pass uncounted."""
    with _lock:
        shadow = LIVE.pop(run, None)
        _older.pop(run, None)
    if shadow is not None:
        shadow.close()


def shadow_row(client: Any, *, awaited: bool = False) -> RowAccount | None:
    """The shadow row of the only live run that sends by this client, or None.

    Args:
        client: the HTTP client.
        awaited: the request is awaited on a loop that is no bridge's.
    """
    here = threading.current_thread() if awaited else None
    with _lock:
        rows = [row for run, row in LIVE.items() if here not in _older[run]]
    rows = [row for row in rows if row.run.sends_by(client)]
    if len(rows) != 1 or not rows[0].run.flow.hooked:
        return None
    rows[0].run.alerts.warn(
        "lost row",
        "a model request came from a thread that does not know its row (a ThreadPoolExecutor of your own?): "
        "limits, retries and budget hold for it, but its tokens count for the run, not for a row. "
        "contextvars.copy_context().run keeps the row.",
    )
    return rows[0]


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - another thread of the parent may have held it
    _lock = threading.Lock()
    LIVE.clear()  # they go on in the parent: what a child asks is none of theirs
    _older.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
