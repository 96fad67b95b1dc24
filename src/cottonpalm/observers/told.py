"""Events of a run that observers see at once, sorted by kind once for all of them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from cottonpalm.events import Event, RequestFinished, RowFinished, RowStarted

if TYPE_CHECKING:
    from collections.abc import Iterable


class Kinds(NamedTuple):
    """Events with their times: the three that each row has, those of failed rows once more, and the rest."""

    started: list[tuple[float, RowStarted]]
    requests: list[tuple[float, RequestFinished]]
    finished: list[tuple[float, RowFinished]]
    failed: list[tuple[float, RowFinished]]
    rest: list[tuple[float, Event]]


class Told(list[tuple[float, Event]]):
    """Events in the order in which they happened, each with its time in Unix seconds."""

    @classmethod
    def of(cls, events: Iterable[tuple[float, Event]]) -> Told:
        """These events; the same object if they are sorted, or can be, already."""
        return events if isinstance(events, cls) else cls(events)

    @cached_property
    def kinds(self) -> Kinds:
        """The same by kind, each in order."""
        found: dict[type[Event], list[Any]] = {RowStarted: [], RequestFinished: [], RowFinished: []}
        rest: list[tuple[float, Event]] = []
        for told in self:
            found.get(type(told[1]), rest).append(told)
        started, requests, finished = found.values()
        failed = [told for told in finished if told[1].outcome.error is not None]
        return Kinds(started, requests, finished, failed, rest)
