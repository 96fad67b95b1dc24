"""A program that works on the rows of a store by batches, to be killed: `python -m tests.batches.worker STORE JSON`."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from tests.batches.kit import Disk, bring, desk_at, lane_at, packed_of, results

ROWS = 6


class Remote:
    """Where the server is, as `kit` asks for it."""

    def __init__(self, urls: dict[str, str]) -> None:
        self._urls = urls
        self.hosts = {url.partition("//")[2]: name for name, url in urls.items()}

    def url(self, provider: str) -> str:
        return self._urls[provider]


async def work(server: Any, disk: Disk, provider: str, folder: Path) -> None:
    """Bring home what is out, then submit what is wanted, until nothing is."""
    async with desk_at(disk.book, listing_wait_s=2.0) as desk:
        for batch in disk.book.batches():
            await bring(desk, batch)
        while wanted := [row for row in range(ROWS) if row not in results(disk.book, ROWS)]:
            packed = packed_of(lane_at(server, provider), [f"row {row}" for row in wanted], folder, wanted)
            await bring(desk, await desk.plan(packed))


def main() -> None:
    store, told = Path(sys.argv[1]), json.loads(sys.argv[2])
    disk = Disk(store)
    asyncio.run(work(Remote(told["urls"]), disk, told["provider"], store.parent))
    disk.close()
    print("done", flush=True)


if __name__ == "__main__":
    main()
