"""The chunks of a run: counts their rows, reports finished chunks, and pauses between chunks if the user wants that."""

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
    """Counts and paces rows by chunk. Chunks overlap, unless the user asks for a pause between them.

    Args:
        size: rows in a chunk.
        pause_s: seconds between the last row of a chunk and the first row of the next; 0 lets chunks overlap.
        emit: called with the event when a chunk is finished, after the events of its rows.
        wake: called when rows that had to wait may begin.
        loop: the run's loop.
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
        # Noted by the reader: an index, and how many rows from there on are done.
        self.notes: deque[tuple[int, int]] = deque()
        self._counting, self._pause_s = Chunking(size), pause_s
        self._emit, self._wake, self._loop = emit, wake, loop
        self._turn = -1  # with a pause: the only chunk whose rows may begin
        self._timer: asyncio.TimerHandle | None = None

    @property
    def finished(self) -> int:
        """How many chunks are finished."""
        return self._counting.finished

    def begin(self, item: Item) -> bool:
        """Whether this row may begin now. If so, its chunk is under way from now on."""
        chunk = item.index // self._counting.size
        if self._pause_s and chunk != self._turn:
            if self._timer is not None or self._counting.under_way(self._turn):
                return False
            self._turn = chunk
        self._counting.began(item.index, clock.now())
        return True

    def arrived(self, *, done: bool) -> None:
        """The source gave rows, or is `done`: count the rows that the reader has noted."""
        counting = self._counting
        finished: list[ChunkFinished] = []
        while self.notes:
            index, stored = self.notes.popleft()
            finished += counting.read(index, stored or 1, stored=stored > 0)
        if done:
            finished += counting.closed()
        self._tell(finished)

    def ended(self, outcomes: Iterable[Outcome]) -> None:
        """Take note that these rows have ended and are durable."""
        now_s = clock.now()
        finished: list[ChunkFinished] = []
        for outcome in outcomes:
            finished += self._counting.ended(outcome.index, outcome.status, now_s, stored=outcome.stored)
        self._tell(finished)

    def close(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _tell(self, finished: list[ChunkFinished]) -> None:
        for chunk in finished:
            self._emit(chunk)
            if self._pause_s and chunk.index == self._turn:
                # If the store held all rows of the chunk, it made no request, so no pause is needed after it.
                wait_s = self._pause_s if chunk.ok or chunk.failed else 0.0
                self._timer = self._loop.call_later(wait_s, self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        self._wake()
