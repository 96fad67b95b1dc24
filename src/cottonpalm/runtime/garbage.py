"""How often Python looks for garbage while runs are under way: less often than it does by itself.

It looks whenever 700 more objects were made than freed (2000 from 3.13 on). A run has many more in its rows in flight,
thousands a row where somebody listens, and none of them is garbage. Each look that finds them alive makes them older,
and every so often all of LangChain's objects are looked through with them: a tenth of a second in which the loop stands
still, five times in a thousand such rows.
"""

from __future__ import annotations

import gc
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY: Final = 5_000  # objects, a megabyte or two: of more of them, no more was gained

_lock: Final = threading.Lock()
_under_way = 0
_before = 0  # how many there were until the first of the runs began


@contextmanager
def seldom() -> Iterator[None]:
    """Look for garbage less often until this is over, or the last of several that overlap. From any thread.

    Whoever looks seldom or never already, or says otherwise meanwhile, has it as they say.
    """
    _begin()
    try:
        yield
    finally:
        _end()


def _begin() -> None:
    global _under_way, _before  # noqa: PLW0603 - of the whole process, as what they change
    with _lock:
        _under_way += 1
        young, *older = gc.get_threshold()
        if _under_way == 1 and 0 < young < MANY:
            _before = young
            gc.set_threshold(MANY, *older)


def _end() -> None:
    global _under_way, _before  # noqa: PLW0603
    with _lock:
        _under_way -= 1
        young, *older = gc.get_threshold()
        if not _under_way and _before:
            if young == MANY:
                gc.set_threshold(_before, *older)
            _before = 0
