"""How often Python looks for garbage while runs are under way: less often than it does by itself.

It looks whenever 700 more objects were made than freed (2000 from 3.13 on). A run has many more in its rows in flight,
thousands a row where somebody listens, and none of them is garbage. Each look that finds them alive makes them older,
and every so often all of LangChain's objects are looked through with them: a tenth of a second in which the loop stands
still, five times in a thousand such rows.
"""

from __future__ import annotations

import gc
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY: Final = 5_000  # objects, a megabyte or two: of more of them, no more was gained

# The collector may run a finalizer that ends an abandoned run, on the thread that has the lock.
_lock = threading.RLock()
_runs: Final[set[object]] = set()  # those under way
_before = 0  # how many there were until the first of the runs began


@contextmanager
def seldom() -> Iterator[None]:
    """Look for garbage less often until this is over, or the last of several that overlap. From any thread.

    Whoever looks seldom or never already, or says otherwise meanwhile, has it as they say.
    """
    run = object()
    _begin(run)
    try:
        yield
    finally:
        _end(run)


def _begin(run: object) -> None:
    global _before  # noqa: PLW0603 - of the whole process, as what it goes with
    with _lock:
        _runs.add(run)
        young, *older = gc.get_threshold()
        if len(_runs) == 1 and 0 < young < MANY:
            _before = young
            gc.set_threshold(MANY, *older)


def _end(run: object) -> None:
    with _lock:
        _runs.discard(run)
        if not _runs:
            _restore()


def _restore() -> None:
    global _before  # noqa: PLW0603
    young, *older = gc.get_threshold()
    if _before and young == MANY:
        gc.set_threshold(_before, *older)
    _before = 0


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - another thread of the parent may have held it
    _lock = threading.RLock()
    _runs.clear()  # they go on in the parent
    _restore()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
