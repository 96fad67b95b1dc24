"""One chain's answers in the cache on disk, for the runs of that chain on one event loop."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from cottonpalm.engine.gates.entries import KnownAnswer
from cottonpalm.errors import CannotStore
from cottonpalm.stores.codec.records import pack, unpack
from cottonpalm.types import Outcome, Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cottonpalm.stores.sql.answers import Answers
    from cottonpalm.stores.sql.claims import AnswerOnDisk

log = logging.getLogger("cottonpalm")


class DiskTier:
    """Answers of one chain, kept in a file that several processes use at once.

    Args:
        answers: the file.
        chain: a digest of everything besides the row that shapes an answer; equal in every process.
        types: the Pydantic classes from which outputs are rebuilt.
        claims: whether processes wait for each other's answers.
    """

    def __init__(
        self, answers: Answers, chain: bytes, types: Mapping[str, type], *, claims: bool = True
    ) -> None:
        self._answers, self._chain, self._types, self._claims = answers, chain, types, claims
        self._loop = asyncio.get_running_loop()

    async def ask(self, content: bytes) -> KnownAnswer | Turn:
        """Return the answer, or whose turn it is to ask. After MINE, the caller must call `put` or `release`."""
        key = self._chain + content
        future: asyncio.Future[KnownAnswer | Turn] = self._loop.create_future()
        self._answers.ask(key, self._read, partial(self._from_thread, key, future), claim=self._claims)
        try:
            return await future
        except (asyncio.CancelledError, GeneratorExit):
            if self._loop.is_closed():  # the thread's answer cannot arrive any more
                self._not_wanted(key, Turn.MINE)
            elif future.done() and not future.cancelled():
                self._not_wanted(key, future.result())
            raise

    def watch(self, content: bytes, heard: Callable[[KnownAnswer | None], None]) -> None:
        """Call `heard` with the answer that another process gets, or with None when nobody asks any more.

        The call is made on the thread of the disk tier.
        """
        self._answers.watch(self._chain + content, self._read, heard)

    def put(self, content: bytes, answer: KnownAnswer) -> None:
        """Write an answer to disk, unless it would come back changed; then it stays only in memory."""
        kept = Outcome(
            -1,
            "ok",
            answer.output,
            usage=answer.usage,
            cost_pico=answer.cost_pico,
            cost_source="reported",
            model=answer.model,
            truncated=answer.truncated,
        )
        try:
            body = pack(kept, keep_input=False, types=self._types)
        except CannotStore as exc:
            log.info("an answer is not kept in the cache on disk: %s", exc)
            self.release(content)
        else:
            self._answers.put(self._chain + content, body, answer.born)

    def release(self, content: bytes) -> None:
        """There is no answer: let other processes ask."""
        if self._claims:
            self._answers.release(self._chain + content)

    def _read(self, kept: AnswerOnDisk) -> KnownAnswer:
        """Decode what is on disk to an answer; raise if that fails."""
        found = unpack(kept.body, -1, self._types)
        return KnownAnswer(
            found.output, kept.born, found.usage, found.cost_pico, found.model, found.truncated
        )

    # -- from the thread of the disk tier to the loop

    def _from_thread(
        self, key: bytes, future: asyncio.Future[KnownAnswer | Turn], found: KnownAnswer | Turn
    ) -> None:
        try:
            self._loop.call_soon_threadsafe(self._arrived, key, future, found)
        except RuntimeError:  # the loop is closed, so the run is over
            self._not_wanted(key, found)

    def _arrived(
        self, key: bytes, future: asyncio.Future[KnownAnswer | Turn], found: KnownAnswer | Turn
    ) -> None:
        if future.done():
            self._not_wanted(key, found)
        else:
            future.set_result(found)

    def _not_wanted(self, key: bytes, found: KnownAnswer | Turn) -> None:
        if found is Turn.MINE and self._claims:
            self._answers.release(key)
