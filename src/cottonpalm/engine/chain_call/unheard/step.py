"""A step of a chain as it is called where nobody listens, and its time where it is measured."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from langchain_core.utils.uuid import uuid7

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from cottonpalm.engine.chain_call.step_times import StepTimes


class Measured(NamedTuple):
    """The step that runs now, in a row whose steps are measured: whom it tells, and the id by which it does."""

    times: StepTimes
    id: UUID


NOW: Final[contextvars.ContextVar[Measured | None]] = contextvars.ContextVar("cottonpalm_step", default=None)


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
    """The same step, which tells when it begins and ends, as LangChain would."""

    async def run(value: Any) -> Any:
        if (outer := NOW.get()) is None:
            return await step.answer(value)
        return await told(name, step, value, outer.times)

    return Step(run, awaited=True, waits=step.waits)


async def told(name: str, step: Step, value: Any, times: StepTimes) -> Any:
    """Give the step's output, and tell of it."""
    outer, this = NOW.get(), Measured(times, uuid7())
    times.on_chain_start(None, None, run_id=this.id, parent_run_id=outer and outer.id, name=name)
    token = NOW.set(this)
    try:
        return await step.answer(value)
    finally:
        NOW.reset(token)
        times.on_chain_end(None, run_id=this.id)
