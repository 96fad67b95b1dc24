"""kill -9, N times, while requests are in flight, then the same command again: `python bench/kill.py --kills 20`.

Exit code 0 if no row was lost, doubled or wrong, and no row that was stored at a kill was ever asked again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.cli.killing import Killed


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--rows", type=int, default=500)
    options.add_argument("--rounds", type=int, default=1, help="repeat with other moments")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--everything", action="store_true", help="with all techniques at once, and faults")
    given = options.parse_args()
    failed = 0
    for number in range(given.rounds):
        with tempfile.TemporaryDirectory() as folder:
            rng = Random(given.seed + number)
            killed = Killed(Path(folder), given.rows, given.kills, rng, everything=given.everything)
            report = killed.run()
        print(f"round {number + 1}: {report}", flush=True)
        failed += not report.clean
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
