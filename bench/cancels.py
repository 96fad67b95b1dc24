"""Runs cancelled at a random await, and what they leave behind: `python bench/cancels.py 300`.

Exit code 0 if nothing was left: no row unsettled or told twice, no permit, money, task or thread.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.engine.cancels import cancelled_run, left_behind


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("runs", type=int, nargs="?", default=300)
    options.add_argument("--first", type=int, default=0, help="the first seed")
    given = options.parse_args()
    logging.getLogger("cottonpalm").setLevel(logging.ERROR)
    totals: Counter[str] = Counter()
    dirty: dict[int, object] = {}
    for seed in range(given.first, given.first + given.runs):
        result = cancelled_run(seed)
        totals.update({"runs": 1, "cancelled": bool(result["cancelled"]), "outcomes": result["emitted"]})
        if left := left_behind(result):
            totals["left something behind"] += 1
            dirty[seed] = left
            print(f"  seed {seed} left {left}", flush=True)
    print(f"  {dict(totals)}; goal: nothing left behind")
    return 1 if dirty else 0


if __name__ == "__main__":
    sys.exit(main())
