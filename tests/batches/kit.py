"""What the tests of the batch lane share: requests of each provider, a book on disk, and a desk in front of it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx

from cottonpalm.providers.batches.choice import adapter_of, lane_for
from cottonpalm.providers.batches.lanes import Lane, credentials_of
from cottonpalm.providers.batches.packing import room_in
from cottonpalm.providers.batches.scratch import Scratch
from cottonpalm.providers.batches.spool import Packed, Spool
from cottonpalm.providers.batches.stages import Batch, KeepsBatches, Member, Stage
from cottonpalm.providers.batches.submission import Desk
from cottonpalm.stores import open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from cottonpalm.providers.batches.lines import Result
    from cottonpalm.providers.batches.stages import Book
    from tests.support.batch_provider import BatchProvider

PROVIDERS = ("openai", "mistral", "together", "anthropic", "gemini")
HEADERS = {
    "openai": {"authorization": "Bearer sk-test", "content-type": "application/json"},
    "mistral": {"authorization": "Bearer key-of-mistral", "content-type": "application/json"},
    "together": {"authorization": "Bearer key-of-together", "content-type": "application/json"},
    "anthropic": {"x-api-key": "sk-ant-test", "anthropic-version": "2023-06-01"},
    "gemini": {"x-goog-api-key": "AIza-test"},
}


def body_of(provider: str, text: str) -> dict[str, Any]:
    """A live request's body."""
    if provider == "gemini":
        return {
            "contents": [{"role": "user", "parts": [{"text": text}]}],
            "generationConfig": {"temperature": 0},
        }
    body = {"model": f"model-{provider}", "messages": [{"role": "user", "content": text}]}
    return body | ({"max_tokens": 64} if provider == "anthropic" else {"temperature": 0, "stream": False})


def url_of(server: BatchProvider, provider: str) -> str:
    """Where it would be sent to, live."""
    path = {
        "openai": "/v1/chat/completions",
        "mistral": "/v1/chat/completions",
        "together": "/v1/chat/completions",
        "anthropic": "/v1/messages",
        "gemini": "/v1beta/models/gemini-test:generateContent",
    }
    return server.url(provider) + path[provider]


def lane_at(server: BatchProvider, provider: str) -> Lane:
    found = lane_for(url_of(server, provider), HEADERS[provider], body_of(provider, ""), hosts=server.hosts)
    assert isinstance(found, Lane)
    return found


def packed_of(lane: Lane, texts: Sequence[str], folder: Path, rows: Sequence[int] | None = None) -> Packed:
    """One batch with a row for each text."""
    adapter = adapter_of(lane)
    spool = Spool(lane, adapter, room_in(adapter.limits), Scratch(folder))
    for number, text in enumerate(texts):
        row = number if rows is None else rows[number]
        assert spool.add(body_of(lane.provider, text), Member(row, text.encode()), 10) is None
    packed = spool.close()
    assert packed is not None
    return packed


class Disk:
    """A run of a store in a file, and its book."""

    def __init__(self, path: Path) -> None:
        self.store = open_store(path)
        self.run = self.store.open_run("r", None)
        assert isinstance(self.run, KeepsBatches)
        self.book = self.run.book()

    def close(self) -> None:
        self.store.close()


@asynccontextmanager
async def desk_at(
    book: Book,
    *,
    listing_wait_s: float = 0.05,
    transport: httpx.AsyncBaseTransport | None = None,
    credentials: Callable[[Lane], dict[str, str]] | None = None,
) -> AsyncIterator[Desk]:
    """A desk that polls every millisecond."""
    async with httpx.AsyncClient(transport=transport) as http:
        whose = credentials or (lambda lane: credentials_of(lane.base, HEADERS[lane.provider]))
        yield Desk(book, http, whose, listing_wait_s=listing_wait_s, poll_s=0.001)


async def advanced(desk: Desk, batch: Batch, stage: Stage) -> Batch:
    """To this stage."""
    while batch.stage is not stage:
        batch = await desk.advance(batch)
    return batch


async def bring(desk: Desk, batch: Batch) -> Batch:
    """To its final stage."""
    while not batch.over:
        batch = await desk.advance(batch)
        await asyncio.sleep(min(desk.wait_s(batch), 0.05))
    return batch


def results(book: Book, rows: int) -> dict[int, Result | None]:
    """The result of each row that has one request; rows without one are not there."""
    found = {row: list(book.asked(row).values()) for row in range(rows)}
    return {row: asked[0] for row, asked in found.items() if asked}


def text_in(provider: str, result: Result | None) -> str:
    """What the model said."""
    assert result is not None
    assert result.body is not None
    if provider == "anthropic":
        return str(result.body["content"][0]["text"])
    if provider == "gemini":
        return str(result.body["candidates"][0]["content"]["parts"][0]["text"])
    return str(result.body["choices"][0]["message"]["content"])
