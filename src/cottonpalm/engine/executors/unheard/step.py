"""A step of a chain as it is called where nobody listens, and its time where it is measured."""

from __future__ import annotations

import contextvars
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from cottonpalm import clock
from cottonpalm.engine.executors.steps import LONGEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Times: TypeAlias = dict[str, tuple[int, float]]  # how often each step ran, and for how many seconds
_times: Final[contextvars.ContextVar[Times]] = contextvars.ContextVar("cottonpalm_step_times")


class Heard(Exception):
    """A step is not known, or somebody listens to it."""


class Step(NamedTuple):
    """How to call a step.

    Attributes:
        run: the step's input -> its output, or an awaitable of it...
        awaited: ...if this is True.
        waits: the loop has other things to do meanwhile.
    """

    run: Callable[[Any], Any]
    awaited: bool = False
    waits: bool = False

    async def answer(self, value: Any) -> Any:
        """Return the step's output."""
        return await self.run(value) if self.awaited else self.run(value)


def waiting(run: Callable[[Any], Any]) -> Step:
    """A step that waits for an answer, a thread or the user's own code."""
    return Step(run, awaited=True, waits=True)


def timed(name: str, step: Step) -> Step:
    """The same step, which notes how often it ran, and for how many seconds."""
    name = name[:LONGEST]

    async def run(value: Any) -> Any:
        began_s = clock.now()
        output = await step.answer(value)
        times = _times.get()
        calls, seconds = times.get(name, (0, 0.0))
        times[name] = calls + 1, seconds + clock.now() - began_s
        return output

    return Step(run, awaited=True, waits=step.waits)


@contextmanager
def measuring() -> Iterator[Times]:
    """Give the times of the steps that are called meanwhile."""
    times: Times = {}
    token = _times.set(times)
    try:
        yield times
    finally:
        _times.reset(token)
