"""A program of its own that runs a chain over a store and says which outcomes it saw; tests kill it or hold it.

`python -m tests.engine.killed STORE URL ROWS` runs rows over the loopback server at URL; without ROWS it keeps the run
open until its standard input closes. Without arguments it reads such arguments line by line and runs each in a forked
child, so that the price of starting Python is paid once.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor

if TYPE_CHECKING:
    from collections.abc import Iterator


def processor(url: str, store: str) -> BatchProcessor:
    model = ChatOpenAI(base_url=url, api_key="sk-test-0123456789", model="gpt-4o-mini")
    chain: Any = ChatPromptTemplate.from_template("{x}") | model | StrOutputParser()
    return BatchProcessor(chain, store=store, run="killed", concurrency=16)


def rows(count: int) -> list[dict[str, str]]:
    return [{"x": f"row {n}"} for n in range(count)]


def main() -> None:
    if arguments := sys.argv[1:]:
        work(*arguments)
        return
    for line in sys.stdin:
        child = os.fork()
        if not child:
            work(*line.split())
            os._exit(0)
        print("began", child, flush=True)
        os.waitpid(child, 0)
        print("gone", flush=True)


def work(store: str, url: str, count: str = "") -> None:
    with processor(url, store).start(rows(int(count)) if count else held(), skip_stored=True) as run:
        for outcome in run:
            print(outcome.index, outcome.status, flush=True)
    print("done", flush=True)


def held() -> Iterator[Any]:
    print("holding", flush=True)
    sys.stdin.read()
    yield from ()


if __name__ == "__main__":
    main()
