"""What can be read off the end of a chain: whether its answer is a message, and whether None means no answer."""

from __future__ import annotations

from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.output_parsers.openai_tools import JsonOutputToolsParser
from langchain_core.runnables import RunnableSequence
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.fallbacks import RunnableWithFallbacks

DEPTH = 64  # a chain that is nested deeper, or in a circle, is read no further


def last_step(chain: Any) -> Any:
    """The step whose output is the chain's output, looked for through sequences, bindings and fallbacks."""
    for _ in range(DEPTH):
        if isinstance(chain, RunnableSequence):
            chain = chain.last
        elif isinstance(chain, RunnableBindingBase):
            chain = chain.bound
        elif isinstance(chain, RunnableWithFallbacks):
            chain = chain.runnable
        else:
            return chain
    return chain


def answer_is_a_message(chain: Any) -> bool:
    """Whether the chain is a chat model after steps that make its prompt: a cut answer then shows its reason itself."""
    if not isinstance(last_step(chain), BaseChatModel):
        return False
    return not any(isinstance(last_step(step), BaseChatModel) for step in _before_last(chain))


def none_is_no_answer(chain: Any) -> bool:
    """Whether it ends in a parser that gives one tool call's content, and None where the model made no such call."""
    parser = last_step(chain)
    return isinstance(parser, JsonOutputToolsParser) and parser.first_tool_only


def _before_last(chain: Any) -> list[Any]:
    for _ in range(DEPTH):
        if isinstance(chain, RunnableSequence):
            return [*chain.steps[:-1], *_before_last(chain.last)]
        if isinstance(chain, RunnableBindingBase):
            chain = chain.bound
        elif isinstance(chain, RunnableWithFallbacks):
            chain = chain.runnable
        else:
            return []
    return []
