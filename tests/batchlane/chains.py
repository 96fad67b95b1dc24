"""The chains that must give the same through batches as live, each with what its rows come to beside text."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableBranch, RunnableLambda, RunnableParallel, RunnablePassthrough
from pydantic import BaseModel

from tests.batchlane.kit import anthropic, openai

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.batch_provider import BatchProvider

PROMPT = ChatPromptTemplate.from_template("About: {text}")
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
SCHEMA = {
    "title": "Place",
    "description": "A place.",
    "type": "object",
    "properties": {"name": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["name", "people"],
    "additionalProperties": False,
}


class City(BaseModel):
    """A city."""

    name: str
    people: int


def picture(row: dict[str, str]) -> list[Any]:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    return [("human", [{"type": "text", "text": row["text"]}, image])]


def two_steps(model: Any) -> Any:
    ask = PROMPT | model | StrOutputParser()
    then = ChatPromptTemplate.from_template("Shorter: {first}") | model
    return RunnablePassthrough.assign(first=ask) | then


def three(model: Any, other: Any) -> Any:
    return PROMPT | RunnableParallel(
        one=model(), two=model(model=OTHERS[model.func], temperature=0.5), three=other()
    )


def branch(model: Any, other: Any) -> Any:
    return RunnableBranch(
        (lambda row: int(row["text"].split()[-1]) % 2 == 0, PROMPT | model() | StrOutputParser()),
        PROMPT | other() | StrOutputParser(),
    )


def falling_back(model: Any, other: Any) -> Any:
    """The first model refuses every row."""
    bogus = {"extra_body": {"bogus": 1}}
    return PROMPT | model(**(bogus if model.func is openai else {"model_kwargs": bogus})).with_fallbacks(
        [other()]
    )


def equal_questions(model: Any, _other: Any) -> Any:
    """The same question in two branches, and a follow-up of each."""
    ask = PROMPT | model() | StrOutputParser()
    then = ChatPromptTemplate.from_template("{about} of {said}") | model() | StrOutputParser()
    return RunnableParallel(
        left=ask | (lambda said: {"about": "left", "said": said}) | then,
        right=ask | (lambda said: {"about": "right", "said": said}) | then,
    )


OTHERS: dict[Any, str] = {openai: "gpt-other", anthropic: "claude-other"}
KINDS: dict[str, Callable[[Any, Any], Any]] = {  # of a model of one provider, and one of another
    "parser": lambda model, _: PROMPT | model() | StrOutputParser(),
    "message": lambda model, _: PROMPT | model(),
    "pydantic": lambda model, _: PROMPT | model().with_structured_output(City),
    "schema": lambda model, _: PROMPT | model().with_structured_output(SCHEMA),
    "raw": lambda model, _: PROMPT | model().with_structured_output(City, include_raw=True),
    "tools": lambda model, _: PROMPT | model().bind_tools([City], tool_choice="any"),
    "picture": lambda model, _: RunnableLambda(picture) | model(),
    "two-steps": lambda model, _: two_steps(model()),
    "three-models": three,
    "branch": branch,
    "fallbacks": falling_back,
    "equal-questions": equal_questions,
}
MODELS: dict[str, Any] = {"openai": openai, "anthropic": anthropic}


def chain_of(server: BatchProvider, provider: str, kind: str) -> Any:
    """A kind of chain whose (first) model is one of this provider's."""
    model, other = (
        partial(MODELS[name], server, max_tokens=99) for name in (provider, *sorted({*MODELS} - {provider}))
    )
    return KINDS[kind](model, other)


CHAINS: dict[str, Callable[[BatchProvider], Any]] = {
    **{
        f"{provider}-{kind}": partial(chain_of, provider=provider, kind=kind)
        for kind in KINDS
        for provider in MODELS
    },
    "openai-logprobs": lambda server: PROMPT | openai(server, logprobs=True, max_tokens=99),
    "openai-responses": lambda server: PROMPT | openai(server, use_responses_api=True, max_tokens=99),
}
