"""The user's own code in a chain: called in the context and with the config that LangChain would give it.

A plain function runs on one of our threads, a coroutine in a task of its own.
"""

from __future__ import annotations

import asyncio
import inspect
from contextvars import copy_context
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from langchain_core.callbacks import AsyncCallbackManager, CallbackManager
from langchain_core.runnables import Runnable
from langchain_core.runnables.config import ensure_config, merge_configs, var_child_runnable_config
from langchain_core.runnables.utils import accepts_config, accepts_run_manager, is_async_generator
from langchain_core.utils.uuid import uuid7

from cottonpalm.chain.traits import how_to_call
from cottonpalm.engine.chain_call.unheard.step import NOW, Step, waiting
from cottonpalm.request.row_account import ROW

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.runnables import RunnableConfig, RunnableLambda

    from cottonpalm.runtime.threads import Crew

_MANAGERS: Final = {True: CallbackManager, False: AsyncCallbackManager}


class GivesHandler(Protocol):
    """Gives the handler for what runs on a thread, or on the loop."""

    def __call__(self, *, threads: bool) -> BaseCallbackHandler | None:
        """Return it; None: rows have permits."""
        ...


class Place(NamedTuple):
    """Where the user's functions run.

    Attributes:
        crew: the threads for plain functions.
        gate: threads -> what gives permits to the models that a plain function, or a coroutine, may hide; or None.
        bound: the configs of the Runnables around them, innermost first.
        depth: functions whose output is called in their place.
    """

    crew: Crew
    gate: GivesHandler
    bound: tuple[RunnableConfig, ...] = ()
    depth: int = 0

    def bound_to(self, config: RunnableConfig | None) -> Place:
        """The place of what is inside a Runnable with a config of its own."""
        return self._replace(bound=(config, *self.bound)) if config else self

    def config(self, *, threads: bool) -> RunnableConfig:
        """The config that LangChain gives to what a step calls, where nobody but our gates and measures listens.

        It begins with the row's own, which stands in the context.
        """
        measured, gate = NOW.get(), self.gate(threads=threads)
        listening = [one for one in (measured and measured.times, gate) if one is not None]
        config = ensure_config()
        if self.bound:
            config = ensure_config(merge_configs(*self.bound, config))
        for name in ("run_name", "run_id"):
            config.pop(name, None)  # type: ignore[misc]  # which are the step's own
        config["recursion_limit"] -= self.depth
        config["callbacks"] = _MANAGERS[threads](
            listening, [*listening], parent_run_id=uuid7() if measured is None else measured.id
        )
        return config


def function(step: RunnableLambda[Any, Any], place: Place) -> Step | None:
    """A step that is a function; None: it yields, or wants the run's manager."""
    awaited: Any = getattr(step, "afunc", None)
    written: Any = awaited or step.func
    if inspect.isgeneratorfunction(written) or is_async_generator(written) or accepts_run_manager(written):
        return None
    if type(written) is itemgetter:
        return _and_what_it_gives(Step(written), place)
    takes_config = accepts_config(written)

    def call(value: Any, config: RunnableConfig) -> Any:
        return written(value, config=config) if takes_config else written(value)

    return _and_what_it_gives((on_thread if awaited is None else in_task)(call, place), place)


def _and_what_it_gives(step: Step, place: Place) -> Step:
    """A function's step; if it gives back a Runnable, that one is called in its place."""
    deeper = place._replace(depth=1)

    async def run(value: Any) -> Any:
        output = await step.answer(value)
        return await whole(output, deeper).run(value) if isinstance(output, Runnable) else output

    return Step(run, awaited=True, waits=step.waits)


def whole(step: Runnable[Any, Any], place: Place) -> Step:
    """Any other Runnable, called as LangChain would call it."""
    if how_to_call(step) == "threads":
        return on_thread(step.invoke, place)
    return in_task(step.ainvoke, place)


def on_thread(call: Callable[[Any, RunnableConfig], Any], place: Place) -> Step:
    """A step that may block."""

    def run(value: Any) -> asyncio.Future[Any]:
        return place.crew.run(partial(_called, call, value, place.config(threads=True)))

    return waiting(run)


def _called(call: Callable[[Any, RunnableConfig], Any], value: Any, config: RunnableConfig) -> Any:
    """Call it on a thread, whose context is the call's own."""
    _begins()
    var_child_runnable_config.set(config)
    return call(value, config)


def in_task(call: Callable[[Any, RunnableConfig], Awaitable[Any]], place: Place) -> Step:
    """A step that waits by itself, in a context of its own."""

    async def called(value: Any, config: RunnableConfig) -> Any:
        _begins()
        return await call(value, config)

    async def run(value: Any) -> Any:
        config, context = place.config(threads=False), copy_context()
        context.run(var_child_runnable_config.set, config)
        return await asyncio.create_task(called(value, config), context=context)

    return waiting(run)


def _begins() -> None:
    """Nothing finer than the row is seen of what a function does.

    Raises:
        RowClosed: the row is over.
    """
    if (row := ROW.get()) is not None:
        row.called()
