"""Runs in a process of their own: the rows of each wait until a file says how many may end."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableLambda

from cottonpalm import BatchProcessor, RunStopped


class Sees:
    """Somebody listens, so events are made."""

    def see(self, event: Any) -> None:
        """Nothing."""


def work(store: str, run: str, rows: int) -> None:
    gate = Path(f"{store}.{run}")

    async def answer(row: dict[str, Any]) -> str:
        while int(gate.read_text() or 0) <= row["n"]:
            await asyncio.sleep(0.05)
        if row["n"] % 10 == 3:
            raise ValueError(f"<script>harm()</script> row {row['n']} is \x1b[31mbad\x1b[0m \u202e!")
        return f"the answer of {row['n']}"

    processor = BatchProcessor(
        RunnableLambda(answer), store=store, run=run, concurrency=5, retry=0, observers=[Sees()]
    )
    with contextlib.suppress(RunStopped):
        processor.batch([{"n": n, "text": f"question {n}"} for n in range(rows)], return_exceptions=True)


if __name__ == "__main__":
    with ThreadPoolExecutor() as threads:
        for name in sys.argv[3:]:
            threads.submit(work, sys.argv[1], name, int(sys.argv[2]))
