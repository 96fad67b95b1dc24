"""Small chains and probes for the engine's tests."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda

if TYPE_CHECKING:
    from cottonpalm.events import Event
    from cottonpalm.types import Outcome

if TYPE_CHECKING:
    from cottonpalm.run import AsyncRun, Run


class Probe(Runnable[Any, Any]):
    """Answers `("answer", row)` after `delay_s`, counts calls per row, and raises what `faults` says, in turn."""

    def __init__(self, delay_s: float = 0.01, faults: dict[Any, list[BaseException]] | None = None) -> None:
        self.delay_s = delay_s
        self.faults = {row: list(steps) for row, steps in (faults or {}).items()}
        self.calls: Counter[Any] = Counter()
        self.order: list[Any] = []
        self.in_flight = self.peak = 0

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        raise AssertionError("the async form is there to be used")

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        self.calls[input] += 1
        self.order.append(input)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            await asyncio.sleep(self.delay_s(input) if callable(self.delay_s) else self.delay_s)
            if steps := self.faults.get(input):
                raise steps.pop(0)
            return ("answer", input)
        finally:
            self.in_flight -= 1


class Watch:
    """An observer that keeps all it sees."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def see(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def double() -> Runnable[int, int]:
    async def twice(x: int) -> int:
        return 2 * x

    return RunnableLambda(twice)


def read(run: Run) -> tuple[list[Outcome], BaseException | None]:
    """All outcomes of a run, and what it raised in the end."""
    outcomes: list[Outcome] = []
    try:
        for outcome in run:
            outcomes.append(outcome)  # noqa: PERF402 - it may raise half-way
    except BaseException as error:
        return outcomes, error
    return outcomes, None


async def aread(run: AsyncRun) -> tuple[list[Outcome], BaseException | None]:
    """The same on the running loop."""
    outcomes: list[Outcome] = []
    try:
        async for outcome in run:
            outcomes.append(outcome)  # noqa: PERF401 - it may raise half-way
    except BaseException as error:
        return outcomes, error
    return outcomes, None
