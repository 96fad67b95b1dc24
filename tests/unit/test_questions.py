"""What of a row a chain reads: known for LangChain's own prompt templates, and all of it wherever there is a doubt."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import (
    ChatPromptTemplate,
    FewShotChatMessagePromptTemplate,
    MessagesPlaceholder,
    PromptTemplate,
)
from langchain_core.runnables import (
    ConfigurableField,
    RunnableConfig,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
    RunnableSerializable,
)

from cottonpalm.chain.questions import question_of

pytestmark = pytest.mark.core
MODEL = FakeListChatModel(responses=["yes"])
ROW = {"id": 7, "text": "a", "more": "b"}


class Ours(ChatPromptTemplate):
    """A prompt of somebody's own may read what it likes."""


@pytest.mark.parametrize(
    ("prompt", "read"),
    [
        (ChatPromptTemplate.from_template("{text}"), {"text"}),
        (PromptTemplate.from_template("{text} and {more}"), {"text", "more"}),
        (
            ChatPromptTemplate([SystemMessage("be brief"), ("human", "{text}"), ("ai", "{more}")]),
            {"text", "more"},
        ),
        (
            ChatPromptTemplate([MessagesPlaceholder("more", optional=True), ("human", "{text}")]),
            {"text", "more"},
        ),
        (ChatPromptTemplate.from_template("{text} {more}").partial(more="set before"), {"text", "more"}),
    ],
)
def test_a_prompt_at_the_head_of_a_chain_says_what_is_read(prompt: Any, read: set[str]) -> None:
    question = question_of([prompt | MODEL | StrOutputParser()])
    assert question is not None
    assert question(ROW) == {name: ROW[name] for name in read}
    assert question("text") == "text"
    whole = {"text": "a"}
    assert question(whole) is whole


@pytest.mark.parametrize(
    "chain",
    [
        RunnableLambda(lambda row: row) | ChatPromptTemplate.from_template("{text}") | MODEL,
        RunnablePassthrough.assign(more=lambda row: row["id"])
        | ChatPromptTemplate.from_template("{text}")
        | MODEL,
        RunnableParallel(a=ChatPromptTemplate.from_template("{text}"), b=RunnablePassthrough()) | MODEL,
        (ChatPromptTemplate.from_template("{text}") | MODEL).with_config(tags=["x"]),
        Ours.from_template("{text}") | MODEL,
        PromptTemplate.from_template("{{text}}", template_format="mustache") | MODEL,
        MODEL,
    ],
)
def test_where_anything_else_may_read_the_row_all_of_it_counts(chain: Any) -> None:
    assert question_of([chain]) is None


def test_a_choice_of_examples_may_look_at_the_whole_row() -> None:
    examples = FewShotChatMessagePromptTemplate(
        example_prompt=ChatPromptTemplate([("human", "{q}"), ("ai", "{a}")]), examples=[{"q": "1", "a": "2"}]
    )
    assert question_of([ChatPromptTemplate([examples, ("human", "{text}")]) | MODEL]) is None


def test_what_a_fallback_reads_counts_as_well() -> None:
    text, more = (
        ChatPromptTemplate.from_template("{text}") | MODEL,
        ChatPromptTemplate.from_template("{more}") | MODEL,
    )
    question = question_of([text, more])
    assert question is not None
    assert question(ROW) == {"text": "a", "more": "b"}
    assert question_of([text, RunnableLambda(str)]) is None


class ReadsText(RunnableSerializable[dict[str, Any], str]):
    """Says what it reads."""

    cottonpalm_reads: tuple[str, ...] = ("text",)

    def invoke(self, input: dict[str, Any], config: RunnableConfig | None = None, **_: Any) -> str:
        return str(input["text"])


def test_what_a_runnable_says_it_reads_is_said_for_itself_and_not_for_what_may_answer_in_its_place() -> None:
    ours, other = ReadsText(), RunnableLambda(lambda row: str(row["id"]))
    question = question_of([ours | StrOutputParser()])
    assert question is not None
    assert question(ROW) == {"text": "a"}
    assert question_of([ours.with_fallbacks([other])]) is None
    assert question_of([ours.with_fallbacks([other]) | StrOutputParser()]) is None
    choice = ours.configurable_alternatives(ConfigurableField(id="which"), other=other)
    assert question_of([choice]) is None
