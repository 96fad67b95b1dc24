"""An answer that does not hold is asked for again, and the model is told what was wrong with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser, StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from cottonpalm import BatchProcessor, RetryPolicy
from cottonpalm.chain.correcting import corrected
from tests.support.loopback import Loopback
from tests.support.replies import Reply, Request, ok

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import Runnable

pytestmark = pytest.mark.core
PROMPT = ChatPromptTemplate.from_messages([("system", "Answer in JSON."), ("human", "Say {x}")])
ROW = {"x": "a"}
BAD, GOOD = "Sure! Here you go.", '{"a": 1}'


class Verdict(BaseModel):
    a: int


def wrong(answer: Any) -> None:
    if "Sure" in str(answer):
        raise ValueError("it must not be polite")


def model(server: Loopback, name: str = "gpt-4o-mini") -> ChatOpenAI:
    return ChatOpenAI(model=name, api_key="sk-not-a-key", base_url=server.openai_url)  # type: ignore[arg-type]


def asked(
    made: Callable[[ChatOpenAI], Runnable[Any, Any]], *answers: str, row: Any = ROW, **more: Any
) -> list[list[tuple[str, Any]]]:
    """What the model was asked each time, as (role, text), when it answered so; the row must end well."""
    seen: list[list[tuple[str, Any]]] = []
    replies = iter(answers or (BAD, GOOD))

    def script(request: Request) -> Reply:
        seen.append([(one["role"], one["content"]) for one in request.body["messages"]])
        return ok(next(replies))

    with Loopback(script) as server:
        BatchProcessor(made(model(server)), **more).batch([row])
    return seen


def test_a_parsers_own_message_comes_as_a_further_message_after_the_answer() -> None:
    first, second = asked(lambda model: PROMPT | model | JsonOutputParser())
    assert first == [("system", "Answer in JSON."), ("user", "Say a")]
    assert second[:3] == [*first, ("assistant", BAD)]
    role, text = second[3]
    assert role == "user"
    assert "Invalid json output: Sure! Here you go." in text
    assert "http" not in text


@pytest.mark.parametrize(
    "made",
    [
        lambda model: PROMPT | model | StrOutputParser(),
        lambda model: (PROMPT | model | StrOutputParser()).with_config(tags=["t"]),
        lambda model: PROMPT | model.bind(stop=["x"]) | StrOutputParser(),
        lambda model: PROMPT | model.with_retry() | StrOutputParser() | RunnableLambda(str),
        lambda model: PROMPT | model,
    ],
)
def test_so_does_what_the_users_own_check_says(made: Any) -> None:
    first, second = asked(made, validate=wrong)
    assert second[:-1] == first[:-1]
    role, text = second[-1]
    assert role == "user"
    assert text.startswith("Say a\n\nThat answer was not accepted: it must not be polite")


def test_a_model_alone_is_told_as_well() -> None:
    first, second = asked(lambda model: model, row="Say a", validate=wrong)
    assert first == [("user", "Say a")]
    assert "must not be polite" in second[0][1]


def test_it_is_told_of_its_latest_answer_only() -> None:
    *_, third = asked(
        lambda model: PROMPT | model | PydanticOutputParser(pydantic_object=Verdict),
        BAD,
        '{"a": "no number"}',
        GOOD,
        retry=RetryPolicy(reasks=2),
    )
    assert [role for role, _ in third] == ["system", "user", "assistant", "user"]
    assert "no number" in third[2][1]
    assert BAD not in json.dumps(third)


def test_structured_output_that_does_not_fit_is_told() -> None:
    first, second = asked(lambda model: PROMPT | model.with_structured_output(Verdict), '{"a": "x"}', GOOD)
    assert first[-1] == ("user", "Say a")
    assert "valid integer" in second[-1][1]


def test_a_chain_whose_model_is_out_of_sight_is_asked_as_before() -> None:
    first, second = asked(
        lambda model: (
            PROMPT | RunnableLambda(lambda value: model.invoke(value, stop=["x"])) | JsonOutputParser()
        )
    )
    assert first == second


def test_a_fallback_is_told_nothing_of_another_models_answer() -> None:
    seen: dict[str, list[Any]] = {}

    def script(request: Request) -> Reply:
        name = request.body["model"]
        seen.setdefault(name, []).append(request.body["messages"][-1]["content"])
        return ok(GOOD if name == "other" else BAD)

    with Loopback(script) as server:
        chain, other = (PROMPT | model(server, name) | JsonOutputParser() for name in ("first", "other"))
        assert BatchProcessor(chain, fallbacks=[other]).batch([ROW]) == [{"a": 1}]
    assert len(seen["first"]) == 2
    assert seen["other"] == ["Say a"]


def test_the_next_row_and_the_chain_itself_are_left_as_they_are() -> None:
    rows: list[Any] = []
    replies = iter([BAD, GOOD, GOOD])

    def script(request: Request) -> Reply:
        rows.append(len(request.body["messages"]))
        return ok(next(replies))

    with Loopback(script) as server:
        chain = PROMPT | model(server) | JsonOutputParser()
        steps = list(chain.steps)  # type: ignore[attr-defined]
        assert BatchProcessor(chain, concurrency=1).batch([ROW, {"x": "b"}]) == [{"a": 1}] * 2
        assert chain.steps == steps  # type: ignore[attr-defined]
    assert rows == [2, 4, 2]


def test_a_long_message_is_shortened_and_one_without_words_is_named() -> None:
    def last(refused: Exception) -> str:
        chain: Any = corrected(RunnableLambda(str) | ChatOpenAI(api_key="x", model="m"), refused)  # type: ignore[arg-type]
        return str(chain.steps[1].invoke("ask")[-1].content)

    assert len(last(ValueError("x" * 10_000))) < 2_200
    assert "ValueError" in last(ValueError())
