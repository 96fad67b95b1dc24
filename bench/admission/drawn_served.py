"""A drawn world behind real HTTP, in a process of its own: OpenAI's chat completions on 127.0.0.1.

What the simulator decides in virtual time (`virtual.py`), the same code decides here in real time. A row's text begins
with its number: the n-th row takes as long as in the simulator, whoever sends it.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from typing import TYPE_CHECKING, Any, Final

import orjson
from bench.admission.served import connection, written
from bench.admission.small_worlds import small
from bench.admission.virtual import INSIDE, REPLY, RESET, Run

if TYPE_CHECKING:
    from bench.admission.family import World
    from bench.admission.virtual import Call, Told

WORDS: Final = {429: "rate_limit_exceeded", INSIDE: "server_error"}


class Served(Run):
    """One run of one world. Time begins with the first request."""

    def __init__(self, world: World) -> None:
        super().__init__(world, None)
        self._loop = asyncio.get_running_loop()
        self._began: float | None = None
        self._calls = {call.number: call for call in iter(self._fresh, None)}
        self._waits: dict[tuple[int, int], asyncio.Future[tuple[int, Told]]] = {}
        self.good = self.rejected = 0
        self.ended_s = 0.0

    def seen(self) -> dict[str, Any]:
        """What the client has seen."""
        return {"good": self.good, "rejected": self.rejected, "ended_s": self.ended_s}

    async def reply(self, body: bytes) -> bytes | None:
        """See `Serves`."""
        call, status, told = await self.answer(body)
        if status == RESET:
            return None
        return written(200 if status == INSIDE else status, headers_of(self.world, told), said(call, status))

    async def answer(self, body: bytes) -> tuple[Call, int, Told]:
        """Take one request all the way."""
        number = int(orjson.loads(body)["messages"][-1]["content"].split(maxsplit=1)[0])
        call = self._calls[number]
        if self._began is None:
            self._began = self._loop.time()
        now = self._now()
        call.tries += 1
        call.sent_s = now
        key = number, call.tries
        wait = self._waits[key] = self._loop.create_future()
        self._arrive(now + self.world.net_s, call)
        try:
            status, told = await wait
        finally:
            del self._waits[key]
        self.good += status == 200
        self.rejected += status == 429
        self.ended_s = self._now() if status == 200 else self.ended_s
        return call, status, told

    def _now(self) -> float:
        assert self._began is not None
        return self._loop.time() - self._began

    def _push(self, t: float, kind: int, what: Any) -> None:
        self._loop.call_later(max(0.0, t - self._now()), self._happens, kind, what)

    def _happens(self, kind: int, what: Any) -> None:
        if kind != REPLY:
            if what == self.sharing.version:
                self._served(self._now())
            return
        call, status, told, number = what
        wait = self._waits.get((call.number, number))
        if wait is None or wait.done():
            return
        if status:
            wait.set_result((status, told))
        elif self.world.knee:  # its client gives it up
            self.sharing.leave(self._now(), call)
            self._next_done(self._now())


def headers_of(world: World, told: Told) -> dict[str, str]:
    """A wait and quotas as OpenAI writes them."""
    found = {}
    if told.wait_s is not None:
        exact = world.says == "retry-after-ms"
        found["retry-after-ms" if exact else "retry-after"] = f"{told.wait_s * (1000 if exact else 1):.0f}"
    for quota in told.quotas:
        found[f"x-ratelimit-limit-{quota.unit}"] = f"{quota.limit:.0f}"
        found[f"x-ratelimit-remaining-{quota.unit}"] = f"{quota.remaining:.0f}"
        found[f"x-ratelimit-reset-{quota.unit}"] = f"{quota.reset_s or 0.0:.3f}s"
    return found


def said(call: Call, status: int) -> dict[str, Any]:
    """A body as OpenAI writes it."""
    if status != 200:
        return {"error": {"message": "simulated", "type": "simulated", "code": WORDS.get(status)}}
    usage = {
        "prompt_tokens": call.tokens_in, "completion_tokens": call.tokens_out,
        "total_tokens": call.tokens_in + call.tokens_out,
    }  # fmt: skip
    message = {"role": "assistant", "content": f"row {call.number}"}
    return {
        "id": f"chatcmpl-{call.number}", "object": "chat.completion", "created": 1_700_000_000, "model": "small",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}], "usage": usage,
    }  # fmt: skip


async def serve(seed: int, luck: int) -> None:
    """Until SIGTERM: prints its port."""
    served, over = Served(small(seed, luck)), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    server = await asyncio.start_server(
        lambda reader, writer: connection(served, reader, writer), "127.0.0.1", 0, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await over.wait()


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.admission.drawn_served", description=__doc__)
    options.add_argument("seed", type=int)
    options.add_argument("luck", type=int)
    given = options.parse_args()
    asyncio.run(serve(given.seed, given.luck))


if __name__ == "__main__":
    main()
