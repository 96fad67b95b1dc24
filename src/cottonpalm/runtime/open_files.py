"""How many files this process may have open: each request in flight takes one, and all that fails without one fails."""

from __future__ import annotations

import math
from typing import Any

resource: Any
try:
    import resource
except ImportError:  # Windows: it has no such limit
    resource = None


def allow(requests: int) -> float:
    """Let so many requests in flight take no more than half of the files, where the system lets us have more.

    The other half is for all else: the store, what rows read, modules that are imported late. On macOS a program begins
    with 256 files, and may take more without asking anybody.

    Returns:
        That half.
    """
    if resource is None:
        return math.inf
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if now == resource.RLIM_INFINITY or now >= 2 * requests:
        return math.inf
    wanted = 2 * requests if most == resource.RLIM_INFINITY else min(2 * requests, most)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    except (OSError, ValueError):  # the system has a limit of its own
        wanted = now
    return wanted / 2
