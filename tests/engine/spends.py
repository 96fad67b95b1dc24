"""A program of its own that spends a budget over a store: `python -m tests.engine.spends STORE URL DOLLARS ROWS`."""

from __future__ import annotations

import sys
from contextlib import suppress

from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor, Budget, RunStopped


def spend(store: str, url: str, dollars: float, rows: int) -> None:
    model = ChatOpenAI(base_url=url, api_key="sk-test-0123456789", model="gpt-4o-mini", max_tokens=50)
    processor = BatchProcessor(
        model, budget=Budget(total=dollars), prices={"*": (1, 2)}, store=store, run="spends", concurrency=16
    )
    with suppress(RunStopped):
        # all of one size: money that is not enough for one of them is enough for none
        processor.batch([f"row {n:05} " + "word " * 20 for n in range(rows)])


if __name__ == "__main__":
    store, url, dollars, rows = sys.argv[1:]
    spend(store, url, float(dollars), int(rows))
