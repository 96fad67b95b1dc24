"""What the live page costs its server on a store of many rows: CPU seconds. `python -m bench.live_page [--rows N]`."""

from __future__ import annotations

import argparse
import resource
import tempfile
import threading
import time
from pathlib import Path

import httpx

from cottonpalm.live.server import Dashboard
from cottonpalm.protocols import StoredRow
from cottonpalm.stores import open_store

GROUP = 4096
TEXT = "a review of some length, as people write them, with a word or two about the box it came in. " * 2


def fill(path: Path, rows: int) -> None:
    store = open_store(path)
    run = store.open_run("million", None)
    for first in range(0, rows, GROUP):
        done = threading.Event()
        group = [
            StoredRow(
                slot,
                slot.to_bytes(16, "big"),
                slot.to_bytes(16, "big"),
                2 if slot % 25_000 == 7 else 1,
                b'{"o":"positive","a":1,"l":1.5,"i":"%d %s"%s}'
                % (slot, TEXT.encode(), b',"e":["transient","E","m",true]' if slot % 25_000 == 7 else b""),
            )
            for slot in range(first, min(rows, first + GROUP))
        ]
        run.write(group, lambda _, done=done: done.set())
        done.wait()
    run.close()
    store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "store.db")
        fill(path, rows)
        before = time.process_time()
        with (
            Dashboard(path, 0) as page,
            httpx.Client(trust_env=False, follow_redirects=True, timeout=60) as client,
        ):
            print(f"{'opening it':<40}{time.process_time() - before:8.3f} s CPU")
            base = f"http://127.0.0.1:{page.port}"
            views = {
                "all runs": page.url,
                "one run": f"{base}/now?run=million",
                "its first rows": f"{base}/rows?run=million",
                "rows in the middle": f"{base}/rows?run=million&after={rows // 2}",
                "its last rows": f"{base}/rows?run=million&before={rows}",
                "its first failed rows": f"{base}/rows?run=million&status=failed",
                "its last failed rows": f"{base}/rows?run=million&status=failed&before={rows}",
                "a search, until it stops": f"{base}/rows?run=million&text=nowhere",
                "one row": f"{base}/row?run=million&at={rows // 2}",
                "the report": f"{base}/report?run=million",
            }
            for name, url in views.items():
                before = time.process_time()
                assert client.get(url).status_code == 200, name
                print(f"{name:<40}{time.process_time() - before:8.3f} s CPU")
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(f"{'memory at most':<40}{most:8d} MB")


if __name__ == "__main__":
    main()
