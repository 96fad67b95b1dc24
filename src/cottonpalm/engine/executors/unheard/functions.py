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
from langchain_core.runnables.config import ensure_config, var_child_runnable_config
from langchain_core.runnables.utils import accepts_config, accepts_run_manager, is_async_generator
from langchain_core.utils.uuid import uuid7

from cottonpalm.engine.executors.unheard.step import Heard, Step, waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.runnables import RunnableConfig, RunnableLambda

    from cottonpalm.runtime.threads import Crew

_MANAGERS: Final = {True: CallbackManager, False: AsyncCallbackManager}


class Gate(Protocol):
    """Gives the handler for what runs on a thread, or on the loop."""

    def __call__(self, *, threads: bool) -> BaseCallbackHandler | None:
        """Return it; None: rows have permits."""
        ...


class Place(NamedTuple):
    """Where the user's functions run.

    Attributes:
        crew: the threads for plain functions.
        gate: threads -> what gives permits to the models that a plain function, or a coroutine, may hide; or None.
    """

    crew: Crew
    gate: Gate

    def config(self, *, threads: bool) -> RunnableConfig:
        """The config that LangChain gives to what a step calls, where nobody but our gates listens."""
        gate = self.gate(threads=threads)
        listening = [] if gate is None else [gate]
        config = ensure_config()
        config["callbacks"] = _MANAGERS[threads](listening, [*listening], parent_run_id=uuid7())
        return config


def function(step: RunnableLambda[Any, Any], place: Place) -> Step:
    """A step that is a function.

    Raises:
        Heard: it yields, or wants the run's manager.
    """
    awaited: Any = getattr(step, "afunc", None)
    plain: Any = getattr(step, "func", None)
    written = awaited or plain
    if inspect.isgeneratorfunction(written) or is_async_generator(written) or accepts_run_manager(written):
        raise Heard
    if type(written) is itemgetter:
        return Step(partial(_got, written, place), awaited=True)
    if awaited is None:
        return on_thread(plain, place)
    return waiting(partial(_in_task, awaited, place, accepts_config(awaited)))


def on_thread(plain: Callable[..., Any], place: Place) -> Step:
    """A step that calls a plain function of the user's: it may block."""
    takes_config = accepts_config(plain)

    def run(value: Any) -> asyncio.Future[Any]:
        return place.crew.run(partial(_called, plain, value, place.config(threads=True), takes_config))

    return waiting(run)


def _called(plain: Callable[..., Any], value: Any, config: RunnableConfig, takes_config: bool) -> Any:
    """Call it on a thread, whose context is the call's own."""
    var_child_runnable_config.set(config)
    output = plain(value, config=config) if takes_config else plain(value)
    return output.invoke(value, _deeper(config)) if isinstance(output, Runnable) else output


async def _in_task(awaited: Callable[..., Any], place: Place, takes_config: bool, value: Any) -> Any:
    config, context = place.config(threads=False), copy_context()
    context.run(var_child_runnable_config.set, config)

    async def call() -> Any:
        output = await (awaited(value, config=config) if takes_config else awaited(value))
        return await output.ainvoke(value, _deeper(config)) if isinstance(output, Runnable) else output

    return await asyncio.create_task(call(), context=context)


async def _got(getter: itemgetter[Any], place: Place, value: Any) -> Any:
    output = getter(value)
    if isinstance(output, Runnable):
        return await output.ainvoke(value, _deeper(place.config(threads=False)))
    return output


def _deeper(config: RunnableConfig) -> RunnableConfig:
    """The config for a Runnable that a function gave back to be called."""
    return {**config, "recursion_limit": config["recursion_limit"] - 1}
