"""The outcomes of a run whose answers stream; what comes of them before is shown meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cottonpalm.engine.output.stream_events import RowChunk
from cottonpalm.engine.output.texts import text_of
from cottonpalm.events import RowFinished, RowRestarted
from cottonpalm.types import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cottonpalm.observers.terminal.coming import ComingRows


def outcomes_of(run: Iterable[Any], coming: ComingRows) -> Iterator[Outcome]:
    """Yield the outcomes of a run, be it one of outcomes or one of stream events."""
    for got in run:
        if isinstance(got, Outcome):
            yield got
        elif isinstance(got, RowChunk):
            _show(coming, got)
        elif isinstance(got, RowRestarted):
            coming.put(got.index, "")
        elif isinstance(got, RowFinished):
            coming.over(got.outcome.index)
            yield got.outcome


def _show(coming: ComingRows, got: RowChunk) -> None:
    """Parsers of objects give the whole object again with each piece of it; texts and messages come in pieces."""
    adds_up = isinstance(got.chunk, str) or hasattr(got.chunk, "content")
    (coming.add if adds_up else coming.put)(got.index, text_of(got.chunk))
