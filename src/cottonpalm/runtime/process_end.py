"""Whether the process is at its end.

A finalizer may wait for a thread only then. The collector calls finalizers anywhere: also inside `threading.enumerate`,
whose lock the thread needs in order to end.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from typing import Final

_HERE: Final = threading.Event()


def is_here() -> bool:
    """Whether what is called at exit is being called."""
    return _HERE.is_set()


weakref.finalize(_HERE, int)  # registers weakref's own hook: what is registered later is called before it
atexit.register(_HERE.set)
