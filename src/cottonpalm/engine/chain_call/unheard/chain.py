"""Calls the steps of a chain without LangChain's callback machinery, where nobody would hear it.

Prompt, payload, result, parser and the user's functions stay as they are: what falls away is what LangChain does to
tell of them. A step that is not listed here is called as a whole, by its own `ainvoke` or `invoke`; so is a chain with
a model that does not come to the fast transport's door.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from langchain_core.language_models import BaseChatModel, BaseLanguageModel
from langchain_core.output_parsers import BaseLLMOutputParser
from langchain_core.prompts import BasePromptTemplate
from langchain_core.runnables import (
    RunnableBinding,
    RunnableBranch,
    RunnableGenerator,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
    RunnableSequence,
    RunnableWithFallbacks,
)
from langchain_core.runnables.config import var_child_runnable_config
from langchain_core.runnables.passthrough import RunnableAssign, RunnablePick

from cottonpalm.engine.chain_call.step_times import StepTimes, of_model
from cottonpalm.engine.chain_call.unheard.composed import (
    assigned,
    chosen,
    first_that_answers,
    in_turn,
    retried,
    side_by_side,
)
from cottonpalm.engine.chain_call.unheard.functions import function, whole
from cottonpalm.engine.chain_call.unheard.models import model
from cottonpalm.engine.chain_call.unheard.step import Heard, Step, timed, told
from cottonpalm.engine.chain_call.unheard.texts import parser, prompt
from cottonpalm.once import once

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from langchain_core.runnables import Runnable, RunnableConfig

    from cottonpalm.engine.chain_call.unheard.functions import Place

    Ask: TypeAlias = Callable[[Any], Awaitable[Any]]
    Told: TypeAlias = Callable[[Mapping[str, tuple[int, float]]], None]
_BINDINGS: Final = frozenset({"RunnableBinding", "_ChatModelBinding"})
_OPENAI: Final = "langchain_openai.chat_models.base"


class Unheard:
    """How to call a chain's steps.

    Attributes:
        ask: row -> the chain's answer.
        has_code: functions of the user's run.
    """

    def __init__(
        self, chain: Runnable[Any, Any], ask: Ask, *, has_code: bool, measured: Callable[[], Step]
    ) -> None:
        self.ask, self.has_code = ask, has_code
        self._chain, self._read_measured = chain, measured

    async def under(self, value: Any, config: RunnableConfig | None, tell: Told | None) -> Any:
        """Give the answer to a row with a config, or tell how often each step ran, and for how many seconds.

        The config is there for what functions and unknown steps read: nobody listens.
        """
        token = None if config is None else var_child_runnable_config.set(config)
        try:
            if tell is None:
                return await self.ask(value)
            return await told(self._chain.get_name(), self._measured, value, StepTimes(tell))
        finally:
            if token is not None:
                var_child_runnable_config.reset(token)

    @once
    def _measured(self) -> Step:
        """The same steps, which tell when they begin and end: for the few rows that are measured."""
        return self._read_measured()


def unheard(chain: Runnable[Any, Any], place: Place, *, threads: bool) -> Unheard | None:
    """Return what gives the chain's answer to a row; None: call the chain itself.

    Args:
        chain: any Runnable, to whose steps nobody listens.
        place: where functions of the user's run.
        threads: the chain as a whole would be called by its sync forms.
    """
    reader = _Reader(place, threads=threads)
    try:
        steps = in_turn(reader.steps(chain))
    except (Heard, AttributeError):
        return None
    if not (reader.gains and steps.awaited):
        return None
    measured = _Reader(place, threads=threads, times=True)
    return Unheard(
        chain, steps.run, has_code=reader.has_code, measured=lambda: in_turn(measured.steps(chain))
    )


class _Reader:
    """Reads a chain.

    Attributes:
        has_code: a step runs code of the user's.
        gains: a step is called more cheaply than by LangChain.
    """

    def __init__(self, place: Place, *, threads: bool, times: bool = False) -> None:
        self._place, self._threads, self._times = place, threads, times
        self.has_code = self.gains = False

    def steps(self, step: Any, kwargs: dict[str, Any] | None = None, name: str | None = None) -> list[Step]:
        """The steps of a chain, one after the other; keywords may be bound to it, and a name given to it.

        Raises:
            Heard: one of them has listeners, or is a model that is not known.
        """
        if _kind(step) is RunnableSequence and not kwargs:
            return [part for one in step.steps for part in self.steps(one)]
        if isinstance(step, RunnableBinding) and type(step).__name__ in _BINDINGS:
            return self._bound(step, kwargs or {})
        if type(step).__name__ == "RunnableRetry":  # whose module takes long to import
            return [retried(step, in_turn(self._bound(step, kwargs or {})))]
        if kwargs and not isinstance(step, BaseChatModel):
            raise Heard
        if (parts := self._composed(step)) is not None:
            return [parts]
        known = self._plain(step, kwargs or {}) or self._function(step)
        self.gains = self.gains or known is not None
        called = known or self._code(whole(step, self._place))
        return [timed(name or _name(step, kwargs or {}), called) if self._times else called]

    def _bound(self, step: Any, kwargs: dict[str, Any]) -> list[Step]:
        if step.config_factories or (step.config or {}).get("callbacks"):
            raise Heard
        outer, self._place = self._place, self._place.bound_to(step.config)
        try:
            return self.steps(step.bound, {**step.kwargs, **kwargs}, (step.config or {}).get("run_name"))
        finally:
            self._place = outer

    def _plain(self, step: Any, kwargs: dict[str, Any]) -> Step | None:
        """A model, or what LangChain itself only formats, or hands on; None: it is another one."""
        if isinstance(step, BaseLanguageModel):
            return model(step, kwargs, threads=self._threads)
        if isinstance(step, BasePromptTemplate):
            return prompt(step, threads=self._threads)
        if _kind(step) is RunnablePick:
            return Step(step._pick)  # noqa: SLF001
        if _kind(step) is RunnablePassthrough and step.func is None and step.afunc is None:
            return Step(_same)
        return _known_function(step)

    def _function(self, step: Any) -> Step | None:
        """A parser or a function; None: it is neither."""
        if isinstance(step, BaseLLMOutputParser):
            found: Step | None = parser(step, self._place)
        else:
            found = function(step, self._place) if type(step) is RunnableLambda else None
        return None if found is None else self._code(found)

    def _composed(self, step: Any) -> Step | None:
        """A container's steps; None: it is no container."""
        kind = _kind(step)
        if kind is RunnableParallel:
            return side_by_side({key: self._one(branch) for key, branch in step.steps__.items()})
        if kind is RunnableAssign:
            return assigned(step, self._one(step.mapper))
        if kind is RunnableWithFallbacks and step.exception_key is None:
            return first_that_answers([self._one(way) for way in step.runnables], step.exceptions_to_handle)
        if kind is RunnableBranch:
            branches = [(self._one(condition), self._one(branch)) for condition, branch in step.branches]
            return chosen(branches, self._one(step.default))
        return None

    def _one(self, step: Any) -> Step:
        return in_turn(self.steps(step))

    def _code(self, step: Step) -> Step:
        """Note that this step runs code of the user's, if it does."""
        self.has_code = self.has_code or step.waits
        return step


def _kind(step: Any) -> type:
    """Its class, without the types that a generic class was given."""
    given = getattr(type(step), "__pydantic_generic_metadata__", {})
    return given.get("origin") or type(step)


def _name(step: Any, kwargs: dict[str, Any]) -> str:
    """Its name in the report, as `StepTimes` would find it."""
    if not isinstance(step, BaseChatModel) or step.name:
        return str(step.get_name())
    return of_model(step.get_name(), step._get_ls_params(**kwargs).get("ls_model_name"))  # noqa: SLF001


def _same(value: Any) -> Any:
    return value


def _known_function(step: Any) -> Step | None:
    """The two functions that ChatOpenAI's structured output ends with; None: it is neither."""
    base: Any = sys.modules.get(_OPENAI)
    if base is None:
        return None
    if type(step) is RunnableLambda:
        func = getattr(step, "func", None)
        if isinstance(func, partial) and func.func is base._oai_structured_outputs_parser:  # noqa: SLF001
            return Step(func)
    if type(step) is RunnableGenerator and step._atransform is base._acheck_refusal:  # noqa: SLF001

        def check(message: Any) -> Any:
            base._raise_on_refusal(message)  # noqa: SLF001
            return message

        return Step(check)
    return None
