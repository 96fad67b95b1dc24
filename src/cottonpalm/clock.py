"""The two clocks of the library, and the only place that imports `time`.

`now()` measures durations: monotonic seconds, the same for every loop and thread. `wall()` stamps what outlives the
process: Unix seconds. Tests replace both at once (`cottonpalm.testing.virtual_run`).
"""

import time
from collections.abc import Callable

_now: Callable[[], float] = time.monotonic
_wall: Callable[[], float] = time.time


def now() -> float:
    """Monotonic seconds, for durations."""
    return _now()


def wall() -> float:
    """Unix seconds, for stamps that outlive the process."""
    return _wall()


def cpu() -> float:
    """CPU seconds of this process so far, all threads together; never replaced."""
    return time.process_time()


def replace(now_: Callable[[], float] | None = None, wall_: Callable[[], float] | None = None) -> None:
    """Use other sources of time; None puts the real ones back. For tests on a virtual loop."""
    global _now, _wall  # noqa: PLW0603 - one clock for the process is the point
    _now = now_ or time.monotonic
    _wall = wall_ or time.time
