"""A program whose children run rows over one store at the same time, and say when they are done.

`python -m tests.engine.portions` reads a line of arguments for each child and forks it, so that the price of starting
Python is paid once: STORE URL NAME ROWS [CONCURRENCY] [REQUESTS_PER_MINUTE]. The rows are named "NAME 0" and so on, and
so is the run. Given such arguments itself, it is the child.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any, Literal, Self

from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor, RateLimit
from tests.support.loopback import ROOT


class Processes:
    """The program, from the outside. Its children end with the block."""

    def __enter__(self) -> Self:
        self._program = subprocess.Popen(
            [sys.executable, "-m", "tests.engine.portions"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._children: list[int] = []
        return self

    def __exit__(self, *_: object) -> None:
        for child in tuple(self._children):
            self.kill(child)
        self._program.communicate(timeout=20)

    def start(self, *arguments: object) -> int:
        """One more child; its number."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(" ".join(map(str, arguments)) + "\n")
        self._program.stdin.flush()
        self._children.append(int(self._program.stdout.readline()))
        return self._children[-1]

    def kill(self, child: int) -> None:
        """At once, and without a word."""
        self._children.remove(child)
        os.kill(child, signal.SIGKILL)


def main() -> None:
    if arguments := sys.argv[1:]:
        work(*arguments)
        return
    children = []
    for line in sys.stdin:
        child = os.fork()
        if not child:
            sys.stdin.close()
            work(*line.split())
            signal.pause()  # whoever started it ends it
        children.append(child)
        print(child, flush=True)
    for child in children:
        os.waitpid(child, 0)


def work(store: str, url: str, name: str, rows: str, most: str = "auto", per_minute: str = "") -> None:
    model: Any = ChatOpenAI(base_url=url, api_key="sk-test-0123456789", model="gpt-4o-mini")
    concurrency: Literal["auto"] | int = "auto" if most == "auto" else int(most)
    processor = BatchProcessor(
        model,
        store=store,
        run=name,
        concurrency=concurrency,
        rate_limit=RateLimit(requests_per_minute=float(per_minute)) if per_minute else None,
    )
    with processor.start(f"{name} {number}" for number in range(int(rows))) as run:
        for _ in run:
            pass


if __name__ == "__main__":
    main()
