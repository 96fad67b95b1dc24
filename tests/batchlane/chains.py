"""The chains that must give the same through batches as live, each with what its rows come to beside text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableBranch, RunnableLambda, RunnableParallel, RunnablePassthrough
from pydantic import BaseModel

from tests.batchlane.kit import anthropic, openai, simple

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


def three(server: BatchProvider) -> Any:
    models = {"one": openai(server), "two": openai(server, "gpt-other"), "three": anthropic(server)}
    return PROMPT | RunnableParallel(models)


def branch(server: BatchProvider) -> Any:
    return RunnableBranch(
        (lambda row: int(row["text"].split()[-1]) % 2 == 0, simple(server)),
        PROMPT | anthropic(server) | StrOutputParser(),
    )


def falling_back(server: BatchProvider) -> Any:
    """The first model refuses every row."""
    return PROMPT | openai(server, extra_body={"bogus": 1}).with_fallbacks([anthropic(server)])


def equal_questions(server: BatchProvider) -> Any:
    """The same question in two branches, and a follow-up of each."""
    ask = PROMPT | openai(server) | StrOutputParser()
    then = ChatPromptTemplate.from_template("{about} of {said}") | openai(server) | StrOutputParser()
    return RunnableParallel(
        left=ask | (lambda said: {"about": "left", "said": said}) | then,
        right=ask | (lambda said: {"about": "right", "said": said}) | then,
    )


CHAINS: dict[str, Callable[[BatchProvider], Any]] = {
    "simple": simple,
    "openai-message": lambda server: PROMPT | openai(server),
    "openai-logprobs": lambda server: PROMPT | openai(server, logprobs=True),
    "openai-responses": lambda server: PROMPT | openai(server, use_responses_api=True),
    "openai-pydantic": lambda server: PROMPT | openai(server).with_structured_output(City),
    "openai-schema": lambda server: PROMPT | openai(server).with_structured_output(SCHEMA),
    "openai-raw": lambda server: PROMPT | openai(server).with_structured_output(City, include_raw=True),
    "openai-tools": lambda server: PROMPT | openai(server).bind_tools([City], tool_choice="any"),
    "openai-picture": lambda server: RunnableLambda(picture) | openai(server),
    "openai-two-steps": lambda server: two_steps(openai(server)),
    "anthropic": lambda server: PROMPT | anthropic(server),
    "anthropic-pydantic": lambda server: PROMPT | anthropic(server).with_structured_output(City),
    "anthropic-schema": lambda server: PROMPT | anthropic(server).with_structured_output(SCHEMA),
    "anthropic-tools": lambda server: PROMPT | anthropic(server).bind_tools([City], tool_choice="any"),
    "anthropic-picture": lambda server: RunnableLambda(picture) | anthropic(server),
    "anthropic-two-steps": lambda server: two_steps(anthropic(server)),
    "three-models": three,
    "branch": branch,
    "fallbacks": falling_back,
    "equal-questions": equal_questions,
}
