"""Events of a run that observers see at once, sorted and added up once for all of them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from cottonpalm.events import Event, RequestFinished, RowFinished, RowStarted
from cottonpalm.once import once

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cottonpalm.types import Kind, Outcome, Status


class Kinds(NamedTuple):
    """Events with their times: the three that each row has, those of failed rows once more, and the rest."""

    started: list[tuple[float, RowStarted]]
    requests: list[tuple[float, RequestFinished]]
    finished: list[tuple[float, RowFinished]]
    failed: list[tuple[float, RowFinished]]
    rest: list[tuple[float, Event]]


class Tries(NamedTuple):
    """Tries of requests to one host and model that ended in one way: a value for each, tokens where they are known."""

    key: str
    status: int | None
    kind: Kind | None
    seconds: list[float]
    input_tokens: list[int]
    output_tokens: list[int]


class Ended(NamedTuple):
    """Rows that ended in one way, a value of seconds for each; not those that the store held."""

    status: Status
    cached: int
    seconds: list[float]
    cost_pico: int


class Told(list[tuple[float, Event]]):
    """Events in the order in which they happened, each with its time in Unix seconds."""

    @classmethod
    def of(cls, events: Iterable[tuple[float, Event]]) -> Told:
        """These events; the same object if they are sorted, or can be, already."""
        return events if isinstance(events, cls) else cls(events)

    @once
    def kinds(self) -> Kinds:
        """The same by kind, each in order."""
        found: dict[type[Event], list[Any]] = {RowStarted: [], RequestFinished: [], RowFinished: []}
        rest: list[tuple[float, Event]] = []
        for told in self:
            found.get(type(told[1]), rest).append(told)
        started, requests, finished = found.values()
        failed = [told for told in finished if told[1].outcome.error is not None]
        return Kinds(started, requests, finished, failed, rest)

    @once
    def tries(self) -> list[Tries]:
        """What its requests came to."""
        alike: defaultdict[tuple[str, int | None, Kind | None], list[RequestFinished]] = defaultdict(list)
        for _, event in self.kinds.requests:
            alike[event.key, event.status, event.kind].append(event)
        return [_tries(*way, events) for way, events in alike.items()]

    @once
    def ended(self) -> list[Ended]:
        """What its rows came to."""
        alike: defaultdict[Status, list[Outcome]] = defaultdict(list)
        for _, event in self.kinds.finished:
            if not event.outcome.stored:
                alike[event.outcome.status].append(event.outcome)
        return [_ended(status, outcomes) for status, outcomes in alike.items()]


def _tries(key: str, status: int | None, kind: Kind | None, events: list[RequestFinished]) -> Tries:
    used = [event.usage for event in events if event.usage is not None]
    return Tries(
        key,
        status,
        kind,
        [event.latency_s for event in events],
        [usage.input_tokens for usage in used],
        [usage.output_tokens for usage in used],
    )


def _ended(status: Status, outcomes: list[Outcome]) -> Ended:
    return Ended(
        status,
        sum([outcome.cached for outcome in outcomes]),
        [outcome.latency_s for outcome in outcomes],
        sum([outcome.cost_pico or 0 for outcome in outcomes]),
    )
