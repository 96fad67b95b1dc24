"""What a cache on disk asks twice, which must be nothing: `python bench/cache.py`.

10,000 rows, 30 % of them duplicates, 200 in flight, 5 % of the answers failures, over loopback HTTP: in one process, in
two at once on one file, and in two of which one is killed half-way. The server counts.

What a kill may cost is what the dead process had under way: its claims in the file at that moment. These are rows
whose requests wait for their turn, are in flight, or are answered while the row, or its answer's way into the file, is
not at its end. A busy process has up to four times as many rows under way as requests may be in flight.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.loopback import ROOT, LoopbackProcess

if TYPE_CHECKING:
    from tests.support.provider import Stats


class Killed(NamedTuple):
    """What stood when a process died.

    Attributes:
        under_way: questions that it had claimed, as the file has it.
        unanswered: its requests that the server had not answered.
    """

    under_way: int = 0
    unanswered: int = 0


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=10_000)
    options.add_argument("--in-flight", type=int, default=200)
    given = options.parse_args()
    columns = ("hits", "asked", "failed", "wrong", "twice", "under way", "unanswered", "other")
    print(f"{'':12}" + "".join(f"{column:>16}" for column in columns))
    wrong = 0
    for name, seeds, kill in (("one", [1], False), ("two", [1, 2], False), ("one killed", [1, 2], True)):
        wrong += case(name, seeds, given.rows, given.in_flight, kill=kill)
    sys.exit(wrong > 0)


def case(name: str, seeds: list[int], rows: int, in_flight: int, *, kill: bool) -> int:
    """One line; how much of it should not be."""
    rng = Random(7)
    failing = [rng.random() < 0.05 for _ in range(3 * rows)]
    with tempfile.TemporaryDirectory() as folder, LoopbackProcess(latency=0.02) as server:
        server.script([{"status": 400} if fails else None for fails in failing])
        path = Path(folder) / "answers.db"
        started = [start(server.openai_url, path, seed, rows, in_flight) for seed in seeds]
        killed = Killed()
        if kill:
            server.wait(requests=rows // 4)
            killed = kill_first(started, path, server)
        said = [json.loads(out) for process in started if (out := process.communicate()[0])]
        stats = server.stats()
    twice = answered_twice(stats, failing)
    other = max(0, twice - killed.under_way)  # whatever was under way may be asked again
    failed, wrong, hits = (sum(one[what] for one in said) for what in ("failed", "wrong", "hits"))
    print(
        f"{name:12}"
        + "".join(f"{n:>16,}" for n in (hits, stats.requests, failed, wrong, twice, *killed, other))
    )
    return wrong + other


def kill_first(started: list[subprocess.Popen[Any]], path: Path, server: LoopbackProcess) -> Killed:
    """Kill the first process, and look at what it leaves before the second one can."""
    dead, living = started
    os.kill(living.pid, signal.SIGSTOP)
    os.kill(dead.pid, signal.SIGKILL)
    dead.wait()
    asking = "SELECT count(*) FROM claim JOIN lease ON lease.run = claim.holder WHERE lease.pid = ?"
    with closing(sqlite3.connect(path)) as db:
        ((claims,),) = db.execute(asking, (dead.pid,))
    os.kill(living.pid, signal.SIGCONT)
    return Killed(claims, server.stats(log=False).abandoned)


def answered_twice(stats: Stats, failing: list[bool]) -> int:
    """Good answers beyond the first one, over all questions."""
    good = Counter(text for number, _, _, text, _ in stats.arrivals if not failing[number])
    return sum(times - 1 for times in good.values())


def start(url: str, path: Path, seed: int, rows: int, in_flight: int) -> subprocess.Popen[Any]:
    words = [sys.executable, "-m", "tests.engine.sharing", url, path, seed, rows, in_flight]
    return subprocess.Popen([*map(str, words)], cwd=ROOT, stdout=subprocess.PIPE, text=True)


if __name__ == "__main__":
    main()
