"""A provider of the simulator behind real HTTP, in a process of its own: OpenAI's chat completions on 127.0.0.1.

The same limits and servers decide, here in real time. A row's text begins with its number, which says how long its
answer takes: the n-th row is the same as in the simulator, whoever sends it.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

import orjson
from bench.admission.calls import NET_S, Reply
from bench.admission.provider import FAILS_AFTER_S
from bench.admission.scaled import BY_NAME

if TYPE_CHECKING:
    from bench.admission.calls import Call
    from bench.admission.scenarios import Scenario

_REASONS = {200: "OK", 429: "Too Many Requests", 500: "Internal Server Error"}


class Served:
    """One run of one scenario. Time begins with the first request."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self._provider, self._workload = scenario.provider(seed), scenario.workload(seed)
        self._calls: list[Call] = []
        self._ends: dict[Call, asyncio.Future[None]] = {}
        self._loop = asyncio.get_running_loop()
        self._began: float | None = None
        self.begun = asyncio.Event()
        self.good: list[float] = []
        self.rejected: list[float] = []
        self.failed = self.in_flight = self.peak = self.accepted_peak = 0

    def seen(self) -> dict[str, Any]:
        """What the client has seen, by the seconds after its first request."""
        return {
            "good": self.good, "rejected": self.rejected, "failed": self.failed, "peak": self.peak,
            "accepted_peak": self.accepted_peak,
        }  # fmt: skip

    async def answer(self, body: bytes) -> tuple[Call, Reply]:
        """Take one request all the way."""
        number = int(orjson.loads(body)["messages"][-1]["content"].split(maxsplit=1)[0])
        while len(self._calls) <= number:
            self._calls.append(self._workload.next())
        call = self._calls[number]
        if self._began is None:
            self._began = self._loop.time()
            self.begun.set()
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            return call, await self._taken(call)
        finally:
            self.in_flight -= 1

    async def reply(self, body: bytes) -> bytes:
        """See `Serves`."""
        call, reply = await self.answer(body)
        return written(reply.status, reply.headers, said(call, reply.status))

    async def _taken(self, call: Call) -> Reply:
        await asyncio.sleep(NET_S)
        now = self._now()
        if (refused := self._provider.refusal(now, call)) is not None:
            await asyncio.sleep(NET_S if refused.status == 429 else NET_S + FAILS_AFTER_S)
            if refused.status == 429:
                self.rejected.append(self._now())
            else:
                self.failed += 1
            return refused
        headers = self._provider.said(now)
        ended = self._ends[call] = self._loop.create_future()
        self.accepted_peak = max(self.accepted_peak, len(self._ends))
        self._begin(self._provider.server.enter(call))
        await ended
        await asyncio.sleep(NET_S)
        self.good.append(self._now())
        return Reply(200, headers)

    def _now(self) -> float:
        assert self._began is not None
        return self._loop.time() - self._began

    def _begin(self, started: list[tuple[Call, float]]) -> None:
        for call, takes_s in started:
            self._loop.call_later(takes_s, self._leaves, call)

    def _leaves(self, call: Call) -> None:
        self._provider.leave(self._now(), call)
        self._begin(self._provider.server.leave(call))
        if not (ended := self._ends.pop(call)).done():
            ended.set_result(None)


class Serves(Protocol):
    """What answers at a connection."""

    def seen(self) -> dict[str, Any]:
        """What the client has seen, for whoever asks with GET."""

    async def reply(self, body: bytes) -> bytes | None:
        """A whole response to a request; None: the connection breaks."""


async def connection(served: Serves, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """HTTP/1.1, one request after the other; a client that goes away takes what waits with it."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):  # the client has gone
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            body = await reader.readexactly(int(length or 0))
            if head.startswith(b"get "):
                writer.write(written(200, {}, served.seen()))
            elif (reply := await served.reply(body)) is not None:
                writer.write(reply)
            else:
                break
            await writer.drain()
    writer.close()


def said(call: Call, status: int) -> dict[str, Any]:
    """A body as OpenAI writes it."""
    if status != 200:
        code = "rate_limit_exceeded" if status == 429 else None
        return {"error": {"message": _REASONS.get(status, "?"), "type": "requests", "code": code}}
    usage = {
        "prompt_tokens": call.tokens_in, "completion_tokens": call.tokens_out, "total_tokens": call.tokens,
    }  # fmt: skip
    choice = {
        "index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": f"row {call.number}"},
    }  # fmt: skip
    return {
        "id": f"chatcmpl-{call.number}", "object": "chat.completion", "created": 1_700_000_000,
        "model": "gpt-4o-mini", "choices": [choice], "usage": usage,
    }  # fmt: skip


def written(status: int, headers: dict[str, str], body: dict[str, Any]) -> bytes:
    """A whole response."""
    content = orjson.dumps(body)
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}", "content-type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"content-length: {len(content)}", "", ""]
    return "\r\n".join(lines).encode() + content


async def serve(scenario: Scenario, seed: int) -> None:
    """Until SIGTERM: prints its port, then `begun` at the first request."""
    served, over = Served(scenario, seed), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    server = await asyncio.start_server(
        lambda reader, writer: connection(served, reader, writer), "127.0.0.1", 0, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await served.begun.wait()
    print("begun", flush=True)
    await over.wait()


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.admission.served", description=__doc__)
    options.add_argument("scenario", choices=list(BY_NAME))
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    asyncio.run(serve(BY_NAME[given.scenario], given.seed))


if __name__ == "__main__":
    main()
