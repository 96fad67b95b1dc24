"""The last things that happened in a run, in words, for those who look on: pauses, failures, money, what binds."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from cottonpalm import clock
from cottonpalm.events import (
    Binding,
    BudgetShare,
    ChunkFinished,
    CostSpike,
    EndpointRests,
    Event,
    Paused,
    RowFinished,
    RowRestarted,
    Unreachable,
)
from cottonpalm.observers.told import Told
from cottonpalm.observers.words.formatting import binds, clean, duration, money, told
from cottonpalm.observers.words.numbers import share_of_budget
from cottonpalm.types import numbered, pico

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

KEPT: Final = 30


class Notes:
    """An observer that keeps the last `KEPT` things that a person would want to know of."""

    def __init__(self) -> None:
        self._lines: deque[tuple[float, str]] = deque(maxlen=KEPT)

    def see(self, event: Event) -> None:
        """Note one event, unless it is one of the many."""
        self.see_all([(clock.wall(), event)])

    def see_all(self, events: Sequence[tuple[float, Event]]) -> None:
        """The same of several."""
        kinds = Told.of(events).kinds
        for at, event in (*kinds.failed, *kinds.rest):
            if (words := _WORDS.get(type(event))) is not None and (said := words(event)):
                self._lines.append((round(at, 1), said))

    def lines(self) -> list[tuple[float, str]]:
        """When (Unix seconds) and what, the newest first; from any thread."""
        return list(self._lines)[::-1]


def _finished(event: RowFinished) -> str:
    outcome = event.outcome
    if outcome.error is None or outcome.stored:
        return ""
    return f"failed {numbered(outcome.index)}: {clean(told(outcome.error))}"


def _bound(event: Binding) -> str:
    said = binds(event.what, 0.0)
    why = f" ({clean(event.why)})" if event.why else ""
    return f"bound by: {said}{why}" if said and event.what != "tail" else ""


def _spike(event: CostSpike) -> str:
    cost, usual = money(pico(event.cost_usd)), money(pico(event.median_usd))
    return f"{numbered(event.index)} cost {cost}, where others cost {usual}"


_WORDS: Final[dict[type[Event], Callable[..., str]]] = {
    RowFinished: _finished,
    RowRestarted: lambda event: f"{numbered(event.index)} broke off while it streamed and began again",
    Paused: lambda event: f"pause: {clean(event.key)} asks to wait {duration(event.seconds)}",
    Unreachable: lambda event: f"no server: {clean(event.reason)}",
    EndpointRests: lambda event: (
        f"{clean(event.endpoint)} rests for {duration(event.seconds)}: {clean(event.message)}"
    ),
    BudgetShare: share_of_budget,
    CostSpike: _spike,
    Binding: _bound,
    ChunkFinished: lambda event: f"chunk {event.index + 1} done: {event.ok} ok, {event.failed} failed",
}
