"""Prompts and output parsers, where nobody listens to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage
from langchain_core.output_parsers import BaseLLMOutputParser, BaseOutputParser
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.prompts import BasePromptTemplate, ChatPromptTemplate, PromptTemplate

from cottonpalm.engine.chain_call.unheard.functions import on_thread
from cottonpalm.engine.chain_call.unheard.step import Heard, Step, waiting

if TYPE_CHECKING:
    from cottonpalm.engine.chain_call.unheard.functions import Place

_LANGCHAINS = ("langchain_core.", "langchain_openai.", "langchain_anthropic.")


def is_langchains(thing: Any) -> bool:
    """Whether an object's class is not the user's."""
    return type(thing).__module__.startswith(_LANGCHAINS)


def prompt(template: BasePromptTemplate[Any], *, threads: bool) -> Step:
    """A step that fills in a prompt.

    Raises:
        Heard: it is of the user's own kind, and is called in another way or by another form.
    """
    plain = type(template) is PromptTemplate or (
        type(template) is ChatPromptTemplate and all(map(is_langchains, template.messages))
    )
    if plain:  # whose async form does the same
        return Step(template._format_prompt_with_error_handling)  # noqa: SLF001
    if threads or type(template).ainvoke is not BasePromptTemplate.ainvoke:
        raise Heard
    return waiting(template._aformat_prompt_with_error_handling)  # noqa: SLF001


def parser(step: Any, place: Place) -> Step:
    """A step that reads an answer: on the loop if it is LangChain's, else on a thread, as LangChain does.

    Raises:
        Heard: it is called in a way of its own.
    """
    kind = type(step)
    if not isinstance(step, BaseOutputParser):
        raise Heard
    plain = (BaseOutputParser.aparse_result, BaseLLMOutputParser.aparse_result)
    same = kind.ainvoke is BaseOutputParser.ainvoke and kind.invoke is BaseOutputParser.invoke
    if not same or kind.aparse_result not in plain:
        raise Heard

    def parse(value: Any) -> Any:
        if isinstance(value, BaseMessage):
            return step.parse_result([ChatGeneration(message=value)])
        return step.parse_result([Generation(text=value)])

    return Step(parse) if is_langchains(step) else on_thread(lambda value, _: parse(value), place)
