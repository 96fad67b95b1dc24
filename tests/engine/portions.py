"""A program of its own that runs rows over a store which others use at the same time; tests and a bench kill it.

`python -m tests.engine.portions STORE URL NAME ROWS [CONCURRENCY] [REQUESTS_PER_MINUTE]`: rows are named "NAME 0" and
so on, and so is the run. It prints one line when it begins and one when it is done.
"""

from __future__ import annotations

import sys
from typing import Any, Literal

from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor, RateLimit


def model(url: str) -> Any:
    return ChatOpenAI(base_url=url, api_key="sk-test-0123456789", model="gpt-4o-mini")


def concurrency(word: str) -> Literal["auto"] | int:
    return "auto" if word == "auto" else int(word)


def main(store: str, url: str, name: str, rows: str, most: str = "auto", per_minute: str = "") -> None:
    processor = BatchProcessor(
        model(url),
        store=store,
        run=name,
        concurrency=concurrency(most),
        rate_limit=RateLimit(requests_per_minute=float(per_minute)) if per_minute else None,
    )
    print("began", flush=True)
    failed = 0
    with processor.start(f"{name} {number}" for number in range(int(rows))) as run:
        for outcome in run:
            failed += outcome.status != "ok"
    print("done", failed, f"{run.stats.limit:.0f}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
