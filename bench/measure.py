"""What the commands of this folder share: CPU time side by side, fresh processes, plain tables.

Ratios and differences of CPU time taken in one run are compared, never seconds of different runs: the machine may be
busy, slow or shared, and then all sides of a comparison are.
"""

from __future__ import annotations

import asyncio
import gc
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
Work = Callable[[], Awaitable[object]]


class Spent(NamedTuple):
    """What one piece of work took, all threads of the process together."""

    cpu_s: float
    wall_s: float


async def spent(work: Work) -> Spent:
    """Do the work once, after a collection of garbage, so that nobody pays for what another left behind."""
    gc.collect()
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    await work()
    return Spent(time.process_time() - cpu_s, time.perf_counter() - wall_s)


async def interleaved(works: Mapping[str, Work], repeats: int) -> dict[str, list[Spent]]:
    """Do each work `repeats` times, turn by turn, after one turn that does not count.

    Every turn begins with another one, so that no work always runs in the shadow of the same neighbour.
    """
    found: dict[str, list[Spent]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name in rotated(list(works), turn):
            took = await spent(works[name])
            if turn:
                found[name].append(took)
    return found


def rotated(names: list[str], by: int) -> list[str]:
    at = by % len(names)
    return names[at:] + names[:at]


def per_row_us(taken: Sequence[Spent], rows: int, *, wall: bool = False) -> list[float]:
    """Microseconds of CPU (or of the clock) per row, one for each repetition."""
    return [(one.wall_s if wall else one.cpu_s) / rows * 1e6 for one in taken]


def over(values: Sequence[float], baseline: Sequence[float]) -> float:
    """The median difference to the baseline, turn by turn: what both suffered in a turn cancels out."""
    return median(value - base for value, base in zip(values, baseline, strict=True))


def sure(values: Sequence[float], baseline: Sequence[float]) -> tuple[float, float]:
    """Between which two differences the median of all such turns lies, with 95 % certainty, by their ranks."""
    found = sorted(value - base for value, base in zip(values, baseline, strict=True))
    off = int(len(found) / 2 - 0.98 * len(found) ** 0.5)
    low = max(0, off)
    return found[low], found[-1 - low]


def times(values: Sequence[float], baseline: Sequence[float]) -> float:
    """The median ratio to the baseline, turn by turn."""
    return median(value / base for value, base in zip(values, baseline, strict=True))


async def workers(chain: Any, rows: Iterable[Any], count: int) -> None:
    """The barest loop there is: `count` coroutines over one iterator, each awaiting the chain's own `ainvoke`."""
    source = iter(rows)

    async def work() -> None:
        for row in source:
            await chain.ainvoke(row)

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(work())


def fresh(script: str, *arguments: object) -> dict[str, Any]:
    """Run a command of this folder in a process of its own; what it prints last is its answer, as JSON."""
    command = [sys.executable, str(ROOT / "bench" / script), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with code {done.returncode}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def answer(**values: object) -> None:
    """What a fresh process tells the one that started it."""
    print(json.dumps(values), flush=True)


def peak_mb() -> float:
    """The most memory this process ever had resident.

    From /proc where there is one: the system's own figure would start with the parent's on Linux.
    """
    return _status_mb("VmHWM")


def now_mb() -> float:
    """What it has resident now; elsewhere than on Linux, the most it ever had."""
    return _status_mb("VmRSS")


def _status_mb(name: str) -> float:
    status = Path("/proc/self/status")
    if status.exists():
        [line] = [line for line in status.read_text().splitlines() if line.startswith(name)]
        return int(line.split()[1]) / 1024
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def children_cpu_s() -> float:
    """CPU of all processes this one has started and seen end."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def headline(title: str, goal: str) -> None:
    """What is measured, on what, and what the design asks for."""
    system = f"Python {platform.python_version()}, {platform.system()}"
    print(f"{title}  ({system})\n  goal: {goal}", flush=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns, the first left-aligned, numbers rounded to what can be read off them."""
    cells = [list(columns), *([_shown(value) for value in row] for row in rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(columns))]
    for row in cells:
        first, *rest = (
            cell.ljust(widths[0]) if not at else cell.rjust(widths[at]) for at, cell in enumerate(row)
        )
        print("  " + "  ".join([first, *rest]), flush=True)


def _shown(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
