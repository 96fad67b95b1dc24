"""A streaming run as events: a row's answer begins, comes piece by piece, may begin again, and is finished."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from cottonpalm.engine.output.outbox import RESTARTED, Piece
from cottonpalm.events import RowFinished, RowRestarted, RowStarted

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class RowChunk:
    """A piece of a row's answer."""

    index: int
    chunk: Any


StreamEvent: TypeAlias = RowStarted | RowChunk | RowRestarted | RowFinished


class StreamEvents:
    """Turns what the outbox holds into events, in the order in which they happened.

    Of each row: `RowStarted` when its answer begins, its chunks, `RowRestarted` where all chunks so far are void, and
    last `RowFinished`. A row that the cache or the store knows has no chunks.
    """

    def __init__(self) -> None:
        self._begun: set[int] = set()
        self.waiting: deque[StreamEvent] = deque()

    def take(self, got: Any) -> StreamEvent:
        """The next event, after this was taken from the outbox; the others wait."""
        self.waiting.extend(self._events(got))
        return self.waiting.popleft()

    def _events(self, got: Any) -> Iterator[StreamEvent]:
        index = got.row if isinstance(got, Piece) else got.index
        if index not in self._begun and getattr(got, "status", "") != "skipped":
            self._begun.add(index)
            yield RowStarted(index)
        if not isinstance(got, Piece):
            self._begun.discard(index)
            yield RowFinished(got)
        elif got.chunk is RESTARTED:
            yield RowRestarted(index)
        else:
            yield RowChunk(index, got.chunk)
