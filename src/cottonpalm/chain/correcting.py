"""Makes a chain for a re-ask, which tells its model what was wrong with the last answer."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, convert_to_messages
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableLambda, RunnableSequence
from langchain_core.runnables.base import RunnableBindingBase, RunnableEachBase

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

TOLD: Final = "That answer was not accepted: {why}\nAnswer again, so that it is."
_MOST_CHARS: Final = 2_000
_LINKS: Final = re.compile(r"\s*(?:For troubleshooting, visit|For further information visit)\S* \S+")

# LangChain's ids of messages, which a parser may quote: new ones in each round, where the question has to stay the same
_MESSAGE_IDS: Final = re.compile(r"\s*\bid='(?:lc_)?run-[^']*'")


def corrected(chain: Runnable[Any, Any], refused: BaseException) -> Runnable[Any, Any]:
    """Return the chain with a step before its last chat model that adds what was wrong; without a model, the chain.

    Only in LangChain's own sequences can that step be put in its place; what wraps one is looked through.
    """
    if isinstance(chain, BaseChatModel):
        return RunnableSequence(_adding(refused), chain)
    if type(chain) is RunnableSequence:
        steps = list(chain.steps)
        places = [place for place, step in enumerate(steps) if _is_model(step)]
        if not places:
            return chain
        return RunnableSequence(*steps[: places[-1]], _adding(refused), *steps[places[-1] :], name=chain.name)
    if not isinstance(chain, RunnableBindingBase) or isinstance(chain, RunnableEachBase):
        return chain
    if _is_model(chain):
        return RunnableSequence(_adding(refused), chain)
    inner = corrected(chain.bound, refused)
    return chain if inner is chain.bound else chain.model_copy(update={"bound": inner})


def _is_model(step: Any) -> bool:
    while isinstance(step, RunnableBindingBase) and not isinstance(step, RunnableEachBase):
        step = step.bound
    return isinstance(step, BaseChatModel)


def _adding(refused: BaseException) -> RunnableLambda[Any, Any]:
    return RunnableLambda(partial(_added, refused=refused), name="what was wrong")


def _added(asked: Any, refused: BaseException) -> list[BaseMessage]:
    """The question, the answer if the parser names it, and what was wrong. Roles alternate, as some models demand."""
    if isinstance(asked, PromptValue):
        messages = asked.to_messages()
    else:
        messages = [HumanMessage(asked)] if isinstance(asked, str) else convert_to_messages(asked)
    text, answer = TOLD.format(why=why(refused)), getattr(refused, "llm_output", None)
    if isinstance(answer, str) and answer.strip():
        return [*messages, AIMessage(answer), HumanMessage(text)]
    last = messages[-1] if messages else None
    if isinstance(last, HumanMessage) and isinstance(last.content, str):
        return [*messages[:-1], last.model_copy(update={"content": f"{last.content}\n\n{text}"})]
    return [*messages, HumanMessage(text)]


def why(refused: BaseException) -> str:
    """Say what was wrong, in the words of the parser or of the user's own check."""
    said: object = refused
    if isinstance(refused, OutputParserException):
        said = refused.observation or refused
    elif isinstance(refused.__cause__, ValueError):
        said = refused.__cause__
    text = _MESSAGE_IDS.sub("", _LINKS.sub("", str(said))).strip() or type(refused).__name__
    return text if len(text) <= _MOST_CHARS else f"{text[:_MOST_CHARS]}…"
