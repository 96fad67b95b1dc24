"""How often rows are lost, doubled or paid twice in the batch lane, over random faults and kill -9.

python -m bench.batch_faults [RUNS] [ROWS]: a program for each life of a run, killed at random moments; the loopback
provider expires, refuses, shuffles, loses and hides. Prints a line for each run, and stops at the first that is wrong.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.batchlane import trouble
from tests.support.batch_provider import BatchProvider


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    rows = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    kills = failed = 0
    for seed in range(100, 100 + runs):
        with BatchProvider() as server, tempfile.TemporaryDirectory() as folder:
            answers, killed = trouble.until_answered(server, Path(folder), seed, rows)
            trouble.check(server, answers, rows)
        kills += killed
        failed += sum(answer.startswith("failed:") for answer in answers)
        print(f"run {seed}: {rows} rows, {killed} kills", flush=True)
    print(
        f"{runs} runs, {kills} kills: 0 lost, 0 doubled, 0 paid twice; {failed} rows failed as the provider said"
    )


if __name__ == "__main__":
    main()
