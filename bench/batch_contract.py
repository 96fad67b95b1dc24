"""The same rows live and through batches, for every kind of chain: equal outputs, usage, metadata, and half the price.

python -m bench.batch_contract [ROWS] [CHAIN ...]: the long form of `tests/batchlane/test_equal_to_live.py`, 1,000 rows.
Prints a line for each chain; the exit code is 1 where one differs.
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


def main() -> int:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    names, wrong = sys.argv[2:] or list(CHAINS), 0
    for name in names:
        began = time.monotonic()
        with BatchProvider() as server, tempfile.TemporaryDirectory() as folder:
            try:
                check_equal(server, Path(folder), name, rows)
            except AssertionError:
                traceback.print_exc()
                wrong += 1
                print(f"{name}: DIFFERENT", flush=True)
                continue
        print(f"{name}: {rows:,} rows equal, {time.monotonic() - began:.0f} s", flush=True)
    print(
        f"{len(names) - wrong} of {len(names)} chains: equal live and in batches, at half the price to the token"
    )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
