"""The same rows live and through batches, for every kind of chain: equal outputs, usage, metadata, and half the price.

python -m bench.batch_contract [ROWS] [CHAIN ...]: the long form of `tests/batchlane/test_equal_to_live.py`, 1,000 rows.
Each chain with ChatOpenAI and with ChatAnthropic. Compared are, row by row: output (with all metadata but ids, times,
service tier and headers), status, usage, attempts, model, error; and what it cost, by row, in report and budget, with
what the loopback provider charged. Prints a line for each chain; the exit code is 1 where one differs.
"""

from __future__ import annotations

import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.batchlane.chains import CHAINS
from tests.batchlane.test_equal_to_live import check_equal
from tests.support.batch_provider import BatchProvider

HEAD = ("chain", "rows equal", "answers paid", "tokens", "batches", "price / live", "s")
LINE = "{:<26}{:>12}{:>14}{:>10}{:>9}{:>14}{:>7}"


def main() -> int:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    names, wrong = sys.argv[2:] or list(CHAINS), 0
    print(LINE.format(*HEAD))
    for name in names:
        began = time.monotonic()
        with BatchProvider() as server, tempfile.TemporaryDirectory() as folder:
            try:
                found = check_equal(server, Path(folder), name, rows)
            except AssertionError:
                traceback.print_exc()
                wrong += 1
                print(f"{name:<26}   DIFFERENT", flush=True)
                continue
        took = f"{time.monotonic() - began:.0f}"
        shown = (
            f"{rows:,}",
            f"{found.answers:,}",
            f"{found.tokens:,}",
            found.batches,
            f"{found.price:.6f}",
            took,
        )
        print(LINE.format(name, *shown), flush=True)
    print(
        f"{len(names) - wrong} of {len(names)} chains: equal live and in batches, at half the price to the token"
    )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
