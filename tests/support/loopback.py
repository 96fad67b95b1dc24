"""A model provider on 127.0.0.1: real sockets, real HTTP/1.1, scripted faults, little CPU.

It speaks OpenAI chat completions (plain and streamed), Responses (plain), Anthropic messages and Gemini's
generateContent (plain and streamed), embeddings, and the Azure deployment path. The answer is
`answer to: <last user text>`, so a test can check that each answer belongs to its row.

In a thread of the test's process:

    with Loopback(script=[too_many(1), None, resets()], latency=0.01) as server:
        ChatOpenAI(base_url=server.openai_url, ...); ChatAnthropic(base_url=server.url, ...)
        server.peak, server.counts["text of a row"], server.billed, server.arrivals

As a process of its own, `with LoopbackProcess(latency=0.05) as server:` has `url`, `openai_url`, `stats()`,
`script({...})` and `wait(requests=..., in_flight=...)`; by hand: `python -m tests.support.loopback --port 0`,
which prints its URL on the first line and answers GET /_stats, GET /_wait?requests=N&in_flight=M and POST
/_script (see `replies.from_json`).
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import orjson

from tests.support.provider import Provider, Stats
from tests.support.replies import lognormal

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from tests.support.provider import Arrival, Billed, Connection
    from tests.support.replies import Latency, Script

ROOT = Path(__file__).resolve().parents[2]


class Loopback:
    """The provider in a thread. What it counted can be read at any time, also after the block."""

    def __init__(self, script: Script = None, latency: Latency = 0.0) -> None:
        self._provider = Provider(script, latency)
        self._thread = threading.Thread(target=self._serve, name="loopback", daemon=True)
        self._ready = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(20), "the loopback server did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(20)

    def _serve(self) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        await self._provider.open(0)
        self._ready.set()
        await self._over.wait()
        await self._provider.close()

    @property
    def url(self) -> str:
        return self._provider.url

    @property
    def openai_url(self) -> str:
        """What an OpenAI client takes as its base URL."""
        return f"{self.url}/v1"

    @property
    def requests(self) -> int:
        return len(self._provider.arrivals)

    @property
    def in_flight(self) -> int:
        return self._provider.in_flight

    @property
    def peak(self) -> int:
        """The most requests that were ever in flight at once."""
        return self._provider.peak

    @property
    def connections(self) -> list[Connection]:
        """Those that are open now."""
        return list(self._provider.connections)

    @property
    def counts(self) -> dict[str, int]:
        """How often each last user text arrived."""
        return dict(self._provider.counts)

    @property
    def arrivals(self) -> list[Arrival]:
        return list(self._provider.arrivals)

    @property
    def billed(self) -> Billed:
        """What the client was charged for and could read the usage of."""
        return self._provider.billed

    @property
    def billed_unseen(self) -> Billed:
        """What was charged besides: answers that were cut, malformed, or did not say what they cost."""
        return self._provider.billed_unseen

    def script(self, script: Script) -> None:
        """Use another script from the next request on; `seq` counts on."""
        self._call(lambda: self._provider.use(script))

    def release(self, count: int | None = None) -> None:
        """Answer the oldest `count` requests that `held()` keeps, or all of them."""
        self._call(lambda: self._provider.release(count))

    def wait(self, *, requests: int = 0, in_flight: int = 0, timeout_s: float = 30.0) -> None:
        """Block until so many requests have come and are in flight."""
        reached = threading.Event()
        self._call(lambda: self._provider.watch(requests, in_flight, reached.set))
        assert reached.wait(timeout_s), (
            f"not {requests=} {in_flight=} after {timeout_s} s: {self._provider.stats()}"
        )

    def rest(self, timeout_s: float = 30.0) -> None:
        """Block until no request is in flight."""
        reached = threading.Event()
        self._call(lambda: self._provider.at_rest(reached.set))
        assert reached.wait(timeout_s), f"not at rest after {timeout_s} s: {self._provider.stats()}"

    def _call(self, function: Callable[[], object]) -> None:
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (function(), done.set()))
        assert done.wait(20)


class Waited(NamedTuple):
    """Where a server in another process stands."""

    requests: int
    in_flight: int


class LoopbackProcess:
    """The provider in its own process, which ends with the block or with this process."""

    def __init__(self, **options: object) -> None:
        flags = [
            text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))
        ]
        self._command = [sys.executable, "-m", "tests.support.loopback", "--until-stdin-closes", *flags]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        assert self.url, "the loopback server did not start"
        self.openai_url = f"{self.url}/v1"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=20)  # closes its stdin

    def stats(self, *, log: bool = True) -> Stats:
        return Stats(**self._ask(f"/_stats?log={int(log)}"))

    def script(self, script: dict[str, Any] | list[Any]) -> None:
        """See `replies.from_json`."""
        self._ask("/_script", orjson.dumps(script))

    def wait(self, *, requests: int = 0, in_flight: int = 0) -> Waited:
        """Block until so many requests have come and are in flight."""
        return Waited(**self._ask(f"/_wait?requests={requests}&in_flight={in_flight}"))

    def _ask(self, path: str, body: bytes | None = None) -> dict[str, Any]:
        with urllib.request.urlopen(self.url + path, data=body, timeout=60) as response:
            return orjson.loads(response.read())


def main() -> None:
    options = argparse.ArgumentParser("loopback")
    options.add_argument("--port", type=int, default=0)
    options.add_argument(
        "--latency", type=float, default=0.0, help="seconds; the median where a sigma is given"
    )
    options.add_argument("--latency-sigma", type=float, default=0.0, help="spread of a lognormal latency")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--script", help="module:attribute, a script")
    options.add_argument("--until-stdin-closes", action="store_true")
    asyncio.run(_serve(options.parse_args()))


async def _serve(options: argparse.Namespace) -> None:
    latency = options.latency
    if options.latency_sigma:
        latency = lognormal(options.latency, options.latency_sigma, options.seed)
    provider = Provider(_imported(options.script), latency)
    await provider.open(options.port)
    print(provider.url, flush=True)
    over, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    if options.until_stdin_closes:
        loop.add_reader(0, over.set)
    await over.wait()
    await provider.close()


def _imported(name: str | None) -> Script:
    if name is None:
        return None
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


if __name__ == "__main__":
    main()
