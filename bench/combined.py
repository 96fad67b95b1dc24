"""Techniques drawn at random and used together: `python bench/combined.py FIRST LAST`; see tests/engine/combined.py.

Each case runs some rows over HTTP with faults, is left and taken up again, and is checked row by row and to the cent.
It prints what failed, with the techniques that were on, and how many held.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.engine.combined import check, drawn


def held(seed: int) -> bool:
    """Run one case; print why it failed."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            check(drawn(seed), Path(folder))
        except Exception:
            print(f"{drawn(seed)}\n{traceback.format_exc(limit=-4)}", flush=True)
            return False
    return True


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("first", type=int)
    options.add_argument("last", type=int)
    asked = options.parse_args()
    cpu_s = time.process_time()
    results = [held(seed) for seed in range(asked.first, asked.last + 1)]
    print(f"{sum(results)} of {len(results)} cases held, {time.process_time() - cpu_s:.0f} s of CPU")
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
