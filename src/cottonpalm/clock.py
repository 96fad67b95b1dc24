"""The clocks of the library, and the only place that imports `time`.

`now()` measures durations: monotonic seconds, the same for every loop and thread. `wall()` gives Unix seconds, for
stamps that are kept after the process. `cpu()` gives the CPU seconds of this process so far, of all threads; 0 if a
test replaced `now`. Tests replace all of them at once (`cottonpalm.testing.virtual_run`): keep none of them.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

_SCHEDULED: Final = Path("/proc/thread-self/schedstat")  # Linux: nanoseconds on a core, and waiting for one
_replaced = 0

# Tests of users put a clock that stands in the place of each name of `time.monotonic` that they find (freezegun), and
# no wait would end: this is no such name.
steady: Final[Callable[[], float]] = partial(time.monotonic)

# Not functions of our own that ask these: each row reads the clock several times.
now: Callable[[], float] = steady
wall: Callable[[], float] = time.time
cpu: Callable[[], float] = time.process_time


def worked() -> float:
    """Return the seconds this thread ran, plus (if the system tells) those it waited for a core."""
    if cpu is not time.process_time:
        return cpu()
    try:
        return time.thread_time() + int(_SCHEDULED.read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return time.thread_time()


def local(at: float, form: str = "%Y-%m-%d %H:%M:%S %Z") -> str:
    """Return a moment, in Unix seconds, as the user's own clocks show it, with their zone."""
    return time.strftime(form, time.localtime(at))


def replace(
    now_: Callable[[], float] | None = None,
    wall_: Callable[[], float] | None = None,
    cpu_: Callable[[], float] | None = None,
) -> None:
    """Use other sources of time; None restores the real ones. For tests on a virtual loop."""
    global now, wall, cpu, _replaced  # noqa: PLW0603 - one clock for the process is the point
    _replaced += 1
    now = now_ or steady
    wall = wall_ or time.time
    cpu = cpu_ or (time.process_time if now_ is None else _none)


def era() -> int:
    """Another number after each `replace`: what was noted by the clock before says nothing of the time now."""
    return _replaced


def _none() -> float:
    return 0.0
