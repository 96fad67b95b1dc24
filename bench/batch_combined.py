"""The batch lane with everything drawn at random: `python -m bench.batch_combined FIRST LAST`.

See tests/batchlane/combined.py. Each case is checked row by row, bill by bill and to the cent. It prints a line for
each, with what was on and why it failed, and how many held; a case that hangs prints all stacks and ends the program.
"""

from __future__ import annotations

import faulthandler
import logging
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.batchlane.combined import LONG_S, check
from tests.batchlane.drawn import drawn


def main() -> int:
    first, last = int(sys.argv[1]), int(sys.argv[2])
    logging.getLogger("cottonpalm").propagate = False
    began, wrong = time.monotonic(), []
    for seed in range(first, last + 1):
        since = time.monotonic()
        faulthandler.dump_traceback_later(2 * LONG_S, exit=True)
        print(f"{seed}: {drawn(seed)}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            try:
                said = check(drawn(seed), Path(folder))
            except Exception:
                wrong.append(seed)
                print(f"{seed}: WRONG\n{traceback.format_exc(limit=-4)}", flush=True)
                continue
        print(f"    {said}, {time.monotonic() - since:.1f} s", flush=True)
    print(
        f"{last - first + 1 - len(wrong)} of {last - first + 1} held, {time.monotonic() - began:.0f} s; {wrong}"
    )
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
