"""Steps that are made of steps, each as LangChain's own container of that name calls them."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING, Any

from cottonpalm.engine.chain_call.unheard.step import Step, waiting
from cottonpalm.request.transport.own_fallbacks import one_by_one

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_core.runnables.passthrough import RunnableAssign
    from langchain_core.runnables.retry import RunnableRetry


def in_turn(steps: Sequence[Step]) -> Step:
    """Each gets what the one before it gave."""
    if len(steps) == 1:
        return steps[0]
    ways = [(step.run, step.awaited) for step in steps]

    async def run(value: Any) -> Any:
        for step, awaited in ways:
            value = await step(value) if awaited else step(value)
        return value

    return Step(run, awaited=True, waits=any(step.waits for step in steps))


def side_by_side(branches: Mapping[str, Step]) -> Step:
    """All get the same input. Those that wait for nothing come first: if one raises, nothing was paid yet."""
    quick = [(key, step) for key, step in branches.items() if not step.waits]
    slow = {key: step.run for key, step in branches.items() if step.waits}

    async def run(value: Any) -> dict[str, Any]:
        found = {key: await step.answer(value) for key, step in quick}
        if len(slow) == 1:
            ((key, only),) = slow.items()
            found[key] = await only(value)
        elif slow:
            answers = await asyncio.gather(*[one(value) for one in slow.values()])  # noqa: TID251 - as LangChain: the others end by themselves
            found.update(zip(slow, answers, strict=True))
        return {key: found[key] for key in branches}

    return Step(run, awaited=True, waits=bool(slow))


def assigned(step: RunnableAssign, mapper: Step) -> Step:
    """The input and what the mapper makes of it."""

    async def run(value: Any) -> Any:
        if not isinstance(value, dict):
            return await step.ainvoke(value)  # which raises what LangChain has to say
        return {**value, **await mapper.run(value)}

    return mapper._replace(run=run)


def first_that_answers(ways: Sequence[Step], handled: tuple[type[BaseException], ...]) -> Step:
    """The next is called if one fails; if all do, what the first one raised is raised."""

    async def run(value: Any) -> Any:
        first: BaseException | None = None
        with closing(one_by_one(ways, handled)) as in_order:
            for way in in_order:
                try:
                    return await way.answer(value)
                except handled as error:
                    first = error if first is None else first
        assert first is not None
        raise first

    return waiting(run)


def chosen(branches: Sequence[tuple[Step, Step]], default: Step) -> Step:
    """The first whose condition holds."""

    async def run(value: Any) -> Any:
        for condition, step in branches:
            if await condition.answer(value):
                return await step.answer(value)
        return await default.answer(value)

    return waiting(run)


def retried(step: RunnableRetry[Any, Any], inner: Step) -> Step:
    """It is called again as LangChain's `with_retry` would."""

    async def run(value: Any) -> Any:
        async for attempt in step._async_retrying(reraise=True):  # noqa: SLF001
            with attempt:
                return await inner.answer(value)
        raise AssertionError

    return waiting(run)
