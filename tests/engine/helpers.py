"""Small chains and probes for the engine's tests."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda

if TYPE_CHECKING:
    from cottonpalm.model import Event


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
