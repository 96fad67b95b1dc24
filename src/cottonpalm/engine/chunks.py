"""The chunks of a run: counted, told of, and held apart by a pause where one is asked for."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from cottonpalm import clock
from cottonpalm.engine.chunking import Chunking

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from cottonpalm.events import ChunkFinished, Event
    from cottonpalm.types import Item, Outcome


class Chunks:
    """Chunks are for counting and pacing, never a barrier, unless a pause is asked for.

    Args:
        size: rows in a chunk.
        pause_s: seconds between the last row of a chunk and the first of the next; 0 lets chunks overlap.
        emit: told when a chunk is finished, after its rows.
        wake: called when rows may begin that might not before.
        loop: the run's.
    """

    def __init__(
        self,
        size: int,
        pause_s: float,
        *,
        emit: Callable[[Event], None],
        wake: Callable[[], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.notes: deque[tuple[int, int]] = (
            deque()
        )  # of the reader: an index, and how many from there on are done
        self._counting, self._pause_s = Chunking(size), pause_s
        self._emit, self._wake, self._loop = emit, wake, loop
        self._turn = -1  # with a pause: the chunk whose rows may begin
        self._timer: asyncio.TimerHandle | None = None

    @property
    def finished(self) -> int:
        """Chunks whose rows have all ended."""
        return self._counting.finished

    def begin(self, item: Item) -> bool:
        """Whether this row may begin now; if so, its chunk is under way."""
        chunk = item.index // self._counting.size
        if self._pause_s and chunk != self._turn:
            if self._timer is not None or self._counting.under_way(self._turn):
                return False
            self._turn = chunk
        self._counting.began(item.index, clock.now())
        return True

    def arrived(self, *, done: bool) -> None:
        """The source gave rows, or was `done`: count what the reader has noted."""
        counting = self._counting
        finished: list[ChunkFinished] = []
        while self.notes:
            index, stored = self.notes.popleft()
            finished += counting.read(index, stored or 1, stored=stored > 0)
        if done:
            finished += counting.closed()
        self._tell(finished)

    def ended(self, outcomes: Iterable[Outcome]) -> None:
        """These rows are over and durable."""
        now_s = clock.now()
        finished: list[ChunkFinished] = []
        for outcome in outcomes:
            finished += self._counting.ended(outcome.index, outcome.status, now_s, stored=outcome.stored)
        self._tell(finished)

    def close(self) -> None:
        """No timer stays behind."""
        if self._timer is not None:
            self._timer.cancel()

    def _tell(self, finished: list[ChunkFinished]) -> None:
        for chunk in finished:
            self._emit(chunk)
            if self._pause_s and chunk.index == self._turn:
                # What the store knew altogether asked nobody for anything: nobody needs a rest.
                wait_s = self._pause_s if chunk.ok or chunk.failed else 0.0
                self._timer = self._loop.call_later(wait_s, self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        self._wake()
