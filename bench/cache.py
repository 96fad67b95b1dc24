"""What a cache on disk asks twice, which must be nothing: `python bench/cache.py`.

10,000 rows, 30 % of them duplicates, 200 in flight, 5 % of the answers failures, over loopback HTTP: in one process, in
two at once on one file, and in two of which one is killed half-way. The server counts.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.loopback import ROOT, LoopbackProcess


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=10_000)
    options.add_argument("--in-flight", type=int, default=200)
    given = options.parse_args()
    print(f"{'':12} {'hits':>8} {'asked':>8} {'failed':>8} {'wrong':>6} {'answered twice':>15}")
    wrong = 0
    for name, seeds, kill in (("one", [1], False), ("two", [1, 2], False), ("one killed", [1, 2], True)):
        wrong += case(name, seeds, given.rows, given.in_flight, kill=kill)
    sys.exit(wrong > 0)


def case(name: str, seeds: list[int], rows: int, in_flight: int, *, kill: bool) -> int:
    """One line; how much of it should not be."""
    rng = Random(7)
    with tempfile.TemporaryDirectory() as folder, LoopbackProcess(latency=0.02) as server:
        server.script([{"status": 400} if rng.random() < 0.05 else None for _ in range(2 * rows)])
        path = Path(folder) / "answers.db"
        started = [start(server.openai_url, path, seed, rows, in_flight) for seed in seeds]
        if kill:
            server.wait(requests=rows // 4)
            os.kill(started[0].pid, signal.SIGKILL)
        said = [json.loads(out) for process in started if (out := process.communicate()[0])]
        stats = server.stats(log=False)
    failed = sum(one["failed"] for one in said)
    answered = {text for one in said for text in one["answered"]}
    asked = sum(stats.counts.values())
    # Each question: one success, and whatever failed before it. What a killed process had in flight may be asked again.
    twice = asked - failed - len(answered)
    allowed = in_flight + rows // 4 if kill else 0
    wrong = sum(one["wrong"] for one in said)
    hits = sum(one["hits"] for one in said)
    print(f"{name:12} {hits:8,} {asked:8,} {failed:8,} {wrong:6} {twice:15}")
    return wrong + max(0, twice - allowed)


def start(url: str, path: Path, seed: int, rows: int, in_flight: int) -> subprocess.Popen[Any]:
    words = [sys.executable, "-m", "tests.engine.sharing", url, path, seed, rows, in_flight]
    return subprocess.Popen([*map(str, words)], cwd=ROOT, stdout=subprocess.PIPE, text=True)


if __name__ == "__main__":
    main()
