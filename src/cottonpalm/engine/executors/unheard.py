"""Calls the steps of a chain one after the other without LangChain's callback machinery, where nobody would hear it.

Prompt, payload, result and parser stay LangChain's own code. A chain with any step that is not listed here is called
as a whole, by its own `ainvoke`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from langchain_core.globals import get_llm_cache
from langchain_core.language_models import chat_models
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import LC_ID_PREFIX, BaseMessage
from langchain_core.output_parsers import BaseLLMOutputParser, BaseOutputParser
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.prompts import BasePromptTemplate, ChatPromptTemplate, PromptTemplate
from langchain_core.runnables import RunnableBinding, RunnableGenerator, RunnableLambda, RunnableSequence
from langchain_core.utils.uuid import uuid7

from cottonpalm import clock
from cottonpalm.chain.traits import speaks
from cottonpalm.request.transport.fast import door

if TYPE_CHECKING:
    from uuid import UUID

    from langchain_core.runnables import Runnable

Step: TypeAlias = Callable[[Any], Any]  # value -> value, or an awaitable of it
Ask: TypeAlias = Callable[[Any], Awaitable[Any]]
Told: TypeAlias = Callable[[Mapping[str, tuple[int, float]]], None]
_BINDINGS: Final = frozenset({"RunnableBinding", "_ChatModelBinding"})
_OPENAI: Final = "langchain_openai.chat_models.base"
_normalized: Any = chat_models._normalize_messages  # type: ignore[attr-defined]  # noqa: SLF001
_metadata_of: Any = getattr(chat_models, "_gen_info_and_msg_metadata", None)  # LangChain's own affair
_SAME: Final = ("ainvoke", "agenerate", "agenerate_prompt", "_agenerate_with_cache", "_convert_input")


class Heard(Exception):
    """A step is not known, or somebody listens to it."""


class Nobody:
    """In place of a run manager: no handlers, and an id for each message that asks for one."""

    __slots__ = ()
    handlers: Final = ()

    @property
    def run_id(self) -> UUID:
        """A new id."""
        return uuid7()


class Unheard(NamedTuple):
    """How to call a chain's steps: as they are, or with their times told at the end."""

    ask: Ask
    timed: Callable[[Any, Told], Awaitable[Any]]


def unheard(chain: Runnable[Any, Any]) -> Unheard | None:
    """Return what gives the chain's answer to a row; None: call the chain itself."""
    try:
        named = _steps(chain)
    except (Heard, AttributeError):
        return None
    steps = [step for _, step in named]
    if not any(isinstance(step, _Model) for step in steps):
        return None
    ways = [(step, isinstance(step, _Model) or inspect.iscoroutinefunction(step)) for step in steps]

    async def answer(value: Any) -> Any:
        for step, awaited in ways:
            value = await step(value) if awaited else step(value)
        return value

    return Unheard(answer, partial(_timed, named))


async def _timed(named: Sequence[tuple[str, Step]], value: Any, told: Told) -> Any:
    """The same, and tell at the end how often each step ran, and for how many seconds."""
    found: dict[str, tuple[int, float]] = {}
    for name, step in named:
        began_s = clock.now()
        value = step(value)
        if inspect.isawaitable(value):
            value = await value
        calls, seconds = found.get(name, (0, 0.0))
        found[name] = calls + 1, seconds + clock.now() - began_s
    told(found)
    return value


def _steps(step: Any, kwargs: dict[str, Any] | None = None) -> list[tuple[str, Step]]:
    """The steps of a chain, each with the name by which LangChain knows it.

    Raises:
        Heard: one of them is not known, or has listeners of its own.
    """
    if type(step) is RunnableSequence and not kwargs:
        return [part for one in step.steps for part in _steps(one)]
    if isinstance(step, RunnableBinding) and type(step).__name__ in _BINDINGS:
        if step.config_factories or speaks(step.config):
            raise Heard
        return _steps(step.bound, {**step.kwargs, **(kwargs or {})})
    if isinstance(step, BaseChatModel):
        return [(_name(step), _Model(step, kwargs or {}))]
    if kwargs:
        raise Heard
    if isinstance(step, BasePromptTemplate):
        return [(_name(step), _prompt(step))]
    if isinstance(step, BaseLLMOutputParser):
        return [(_name(step), _parser(step))]
    return [(_name(step), _known_function(step))]


def _name(step: Any) -> str:
    name: str = step.get_name()
    return name


def _prompt(prompt: BasePromptTemplate[Any]) -> Step:
    if type(prompt).ainvoke is not BasePromptTemplate.ainvoke:
        raise Heard
    plain = type(prompt) is PromptTemplate or (
        type(prompt) is ChatPromptTemplate and all(map(_is_langchains, prompt.messages))
    )
    if plain:  # whose async form does the same
        return prompt._format_prompt_with_error_handling  # noqa: SLF001
    return prompt._aformat_prompt_with_error_handling  # noqa: SLF001


def _parser(parser: Any) -> Step:
    kind = type(parser)
    if not _is_langchains(parser) or not isinstance(parser, BaseOutputParser):
        raise Heard
    plain = (BaseOutputParser.aparse_result, BaseLLMOutputParser.aparse_result)
    if kind.ainvoke is not BaseOutputParser.ainvoke or kind.aparse_result not in plain:
        raise Heard

    def parse(value: Any) -> Any:
        if isinstance(value, BaseMessage):
            return parser.parse_result([ChatGeneration(message=value)])
        return parser.parse_result([Generation(text=value)])

    return parse


def _known_function(step: Any) -> Step:
    """The two functions that ChatOpenAI's structured output ends with."""
    base: Any = sys.modules.get(_OPENAI)
    if base is None:
        raise Heard
    if type(step) is RunnableLambda:
        func = step.func
        if isinstance(func, partial) and func.func is base._oai_structured_outputs_parser:  # noqa: SLF001
            return func
    if type(step) is RunnableGenerator and step._atransform is base._acheck_refusal:  # noqa: SLF001

        def check(message: Any) -> Any:
            base._raise_on_refusal(message)  # noqa: SLF001
            return message

        return check
    raise Heard


def _is_langchains(thing: Any) -> bool:
    return type(thing).__module__.startswith(("langchain_core.", "langchain_openai.", "langchain_anthropic."))


class _Model:
    """A chat model with the keywords that are bound to it."""

    __slots__ = ("_kwargs", "_model", "_stop", "_whole")

    def __init__(self, model: BaseChatModel, kwargs: dict[str, Any]) -> None:
        kind = type(model)
        if not door.is_ours(model) or any(
            getattr(kind, name) is not getattr(BaseChatModel, name) for name in _SAME
        ):
            raise Heard
        if model.callbacks or model.verbose or model.cache or model.rate_limiter:
            raise Heard
        if getattr(model, "streaming", False) or kwargs.get("stream"):
            raise Heard
        self._whole = model.output_version == "v1" or _metadata_of is None
        told = ("ls_structured_output_format", "structured_output_format")
        self._model, self._stop = model, kwargs.get("stop")
        self._kwargs = {name: value for name, value in kwargs.items() if name not in (*told, "stop")}

    async def __call__(self, value: Any) -> Any:
        """Return the model's message."""
        model: Any = self._model
        messages = _normalized(model._convert_input(value).to_messages())  # noqa: SLF001
        if self._whole or get_llm_cache() is not None:
            asked = model._agenerate_with_cache  # noqa: SLF001
            result = await asked(messages, stop=self._stop, run_manager=NOBODY, **self._kwargs)
            return result.generations[0].message
        result = await model._agenerate(  # noqa: SLF001
            messages, stop=self._stop, run_manager=NOBODY, **self._kwargs
        )
        generation = result.generations[0]  # what follows is the end of `_agenerate_with_cache`
        message, metadata = generation.message, _metadata_of(generation)
        if message.id is None:
            message.id = f"{LC_ID_PREFIX}-{NOBODY.run_id}-0"
        if len(result.generations) == 1 and result.llm_output is not None:
            metadata = {**result.llm_output, **metadata}
        message.response_metadata = metadata
        return message


NOBODY: Final = Nobody()
