"""Counts rows by chunk. Chunk k holds the rows k * size to (k + 1) * size - 1 of the input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cottonpalm.events import ChunkFinished

if TYPE_CHECKING:
    from cottonpalm.types import Status


@dataclass(slots=True)
class _Open:
    """A chunk with rows that have not been read, or have not ended."""

    began_s: float | None = None
    ended_s: float = 0.0
    read: int = 0
    ok: int = 0
    failed: int = 0
    stored: int = 0
    skipped: int = 0
    closed: bool = False  # True: no more rows of this chunk will be read


class Chunking:
    """Counts how the rows of each chunk end. Chunks overlap: a slow row keeps only its own chunk open.

    Every row is `read` in input order, and ends once. A chunk is finished when all its rows have ended and no more of
    them will be read. Only unfinished chunks take memory.

    Args:
        size: rows in a chunk, from 1 on.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.finished = 0
        self._open: dict[int, _Open] = {}
        self._newest = -1  # the chunk of the last row that was read

    def under_way(self, chunk: int) -> bool:
        """Whether some rows of this chunk were read, and not all of its rows have ended."""
        return chunk in self._open

    def read(self, first: int, count: int = 1, *, stored: bool = False) -> list[ChunkFinished]:
        """Rows `first` to `first + count - 1` were read. If `stored`, they are done, and `ended` is not called."""
        finished: list[ChunkFinished] = []
        while count > 0:
            number = first // self.size
            here = min(count, (number + 1) * self.size - first)
            if number != self._newest:
                finished += self.closed()
                self._newest = number
            chunk = self._open.setdefault(number, _Open())
            chunk.read += here
            chunk.stored += here if stored else 0
            chunk.closed = chunk.read == self.size
            finished += self._if_finished(number)
            first, count = first + here, count - here
        return finished

    def closed(self) -> list[ChunkFinished]:
        """No more rows of the newest chunk will come, since the input has ended or has reached the next chunk."""
        if (chunk := self._open.get(self._newest)) is not None:
            chunk.closed = True
        return self._if_finished(self._newest)

    def began(self, index: int, now_s: float) -> None:
        """A row started; the first row of a chunk starts the chunk's clock."""
        chunk = self._open.get(index // self.size)
        if chunk is not None and chunk.began_s is None:
            chunk.began_s = now_s

    def ended(self, index: int, status: Status, now_s: float, *, stored: bool = False) -> list[ChunkFinished]:
        """A row that was read has ended. A skipped row is still to be done, so its chunk is over and not finished."""
        number = index // self.size
        chunk = self._open.get(number)
        if chunk is None:
            return []
        chunk.ended_s = now_s
        if stored:
            chunk.stored += 1
        elif status == "skipped":
            chunk.skipped += 1
        elif status == "ok":
            chunk.ok += 1
        else:
            chunk.failed += 1
        return self._if_finished(number)

    def _if_finished(self, number: int) -> list[ChunkFinished]:
        chunk = self._open.get(number)
        if chunk is None or not chunk.closed:
            return []
        if chunk.ok + chunk.failed + chunk.stored + chunk.skipped < chunk.read:
            return []
        del self._open[number]
        if chunk.skipped:
            return []
        self.finished += 1
        seconds = 0.0 if chunk.began_s is None else max(0.0, chunk.ended_s - chunk.began_s)
        return [ChunkFinished(number, chunk.read, chunk.ok, chunk.failed, chunk.stored, seconds)]
