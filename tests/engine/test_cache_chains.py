"""Chains that differ in anything never answer for one another, however alike they are written down; nor do rows."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser
from langchain_core.prompts import ChatPromptTemplate, FewShotPromptTemplate, PromptTemplate
from langchain_core.runnables import (
    Runnable,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
    RunnablePick,
)
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor, Budget, Cache
from cottonpalm.chain.cache_key import Untold, lasting_digest
from cottonpalm.chain.fingerprint import describe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.core
SHOWN: Runnable[Any, str] = RunnableLambda(lambda value, **more: f"{value!r} {more}")
OTHER: Runnable[Any, str] = RunnableLambda(lambda _: "other")
CALLS: Runnable[Any, AIMessage] = RunnableLambda(
    lambda _: AIMessage("", tool_calls=[{"name": name, "args": {"of": name}, "id": name} for name in "ab"])
)


def few(key: str) -> Runnable[Any, Any]:
    example = PromptTemplate.from_template("{key}")
    return FewShotPromptTemplate(
        examples=[{"key": key}], example_prompt=example, suffix="{a}", input_variables=["a"]
    )


def said(message: Any) -> Runnable[Any, Any]:
    return ChatPromptTemplate([("human", "{a}"), message]) | SHOWN


def called(of: int) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": "look", "args": {"of": of}, "id": "1"}])


PAIRS: dict[str, tuple[Any, Any]] = {
    "a variable with a secret's name": (
        PromptTemplate.from_template("{a} {key}").partial(key="C major"),
        PromptTemplate.from_template("{a} {key}").partial(key="A minor"),
    ),
    "an argument with a secret's name": (
        SHOWN.bind(stop_token="x"),
        SHOWN.bind(stop_token="y"),
    ),
    "an example with a secret's name": (few("1"), few("2")),
    "a prompt that begins like a header": (
        PromptTemplate.from_template("Basic questions of law: {a}"),
        PromptTemplate.from_template("Basic questions of art: {a}"),
    ),
    "keys that are picked": (RunnablePick("a") | SHOWN, RunnablePick("b") | SHOWN),
    "the tool that is looked for": (
        CALLS | JsonOutputKeyToolsParser(key_name="a"),
        CALLS | JsonOutputKeyToolsParser(key_name="b"),
    ),
    "tool calls in a prompt": (said(called(1)), said(called(2))),
    "a speaker's name": (said(HumanMessage("x", name="Ann")), said(HumanMessage("x", name="Bob"))),
    "where answers are put": (
        RunnablePassthrough.assign(x=SHOWN),
        RunnablePassthrough.assign(y=SHOWN),
    ),
    "which of two steps stands at a place": (
        RunnableParallel(x=SHOWN, y=OTHER, z=SHOWN),
        RunnableParallel(x=SHOWN, y=OTHER, z=OTHER),
    ),
    "one or each": (SHOWN.map(), SHOWN),
}


@pytest.mark.parametrize("what", PAIRS)
def test_no_chain_answers_for_one_that_differs_from_it(what: str) -> None:
    cache, row = Cache(), {"a": 1, "b": 2}
    for chain in PAIRS[what]:
        given = [row] if what == "one or each" else row
        wanted = chain.invoke(given)
        assert BatchProcessor(chain, cache=cache).batch([given]) == [wanted]
        assert BatchProcessor(chain, cache=cache).batch([given]) == [wanted]


@pytest.mark.parametrize("what", [what for what in PAIRS if "place" not in what and "each" not in what])
def test_nor_does_it_in_another_process(what: str) -> None:
    left, right = PAIRS[what]
    assert lasting_digest([left], "1") != lasting_digest([right], "1")


def test_a_prompt_that_begins_like_a_header_is_in_the_fingerprint() -> None:
    left, right = PAIRS["a prompt that begins like a header"]
    assert describe(left) != describe(right)


def test_a_text_that_is_no_unicode_has_a_lasting_key() -> None:
    def keyed(text: str) -> bytes:
        return lasting_digest([RunnableLambda(lambda row: row + text)], None)

    assert keyed("\ud800") == keyed("\ud800") != keyed("\ud801")


def test_a_credential_in_a_chain_is_not_hashed_for_the_disk() -> None:
    chain = PromptTemplate.from_template("{a} {word}").partial(word="sk-0123456789abcdef")
    with pytest.raises(Untold, match="credential"):
        lasting_digest([chain], None)


def test_a_server_that_the_environment_names_is_told_from_another(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = set()
    for host in ("one.invalid", "two.invalid"):
        monkeypatch.setenv("OPENAI_BASE_URL", f"https://{host}/v1")
        digests.add(lasting_digest([ChatOpenAI(api_key="sk-test-0123456789", model="gpt-4o-mini")], None))  # type: ignore[arg-type]
    assert len(digests) == 2


class Bare:
    """Says nothing of what it holds."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce_ex__(self, _: object) -> Any:
        raise TypeError

    def get(self) -> int:
        return self.number


def local(number: int) -> Callable[[], int]:
    return lambda: number


@pytest.mark.parametrize(
    "made",
    [
        local,
        lambda number: Bare(number).get,
        lambda number: (other for other in [number]).__next__,
    ],
)
def test_rows_of_which_only_a_name_is_known_are_each_a_question_of_its_own(made: Any) -> None:
    chain: Runnable[Any, int] = RunnableLambda(lambda row: row["get"]())
    processor = BatchProcessor(chain, cache=Cache())
    assert processor.batch([{"get": made(number)} for number in range(3)]) == [0, 1, 2]


def test_an_object_that_cannot_be_copied_is_a_question_of_its_own() -> None:
    processor = BatchProcessor(RunnableLambda(lambda bare: bare.number), cache=Cache())
    assert processor.batch([Bare(1), Bare(2)]) == [1, 2]


def test_an_answer_that_may_be_cut_does_not_stand_for_one_under_a_larger_maximum(tmp_path: Path) -> None:
    calls: list[str] = []
    chain: Runnable[str, str] = RunnableLambda(lambda row: calls.append(row) or row)
    for most, accepting in ((5, True), (500, True), (5, False), (500, False)):
        BatchProcessor(
            chain,
            cache=Cache(path=tmp_path / "answers.db"),
            fingerprint="1",
            budget=Budget(total=1, max_output_tokens=most),
            accept_truncated=accepting,
        ).batch(["x"])
    assert len(calls) == 3, "what may not be cut is the same under any maximum"


class Asker:
    """A user's own object, whose answer is its style."""

    style = ""

    def __init__(self, style: str) -> None:
        self.style = style

    def __call__(self, row: Any) -> str:
        return f"{self.style} {row}"


class Holder:
    asker = Asker("plain")


ASKER = Asker("plain")


def by_global(row: Any) -> str:
    return ASKER(row)


def by_class(row: Any) -> str:
    return Holder.asker(row)


@pytest.mark.parametrize("function", [by_global, by_class])
def test_another_object_under_the_name_that_a_function_reads_is_another_chain(
    function: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, chain = Cache(), RunnableLambda(function)
    assert BatchProcessor(chain, cache=cache).batch(["x"]) == ["plain x"]
    monkeypatch.setitem(globals(), "ASKER", Asker("rude"))
    monkeypatch.setattr(Holder, "asker", Asker("rude"))
    assert BatchProcessor(chain, cache=cache).batch(["x"]) == ["rude x"]


def calling(function: Any) -> Any:
    def call(row: Any) -> Any:
        return function(row)

    return call


@pytest.mark.parametrize(
    "made", [partial, lambda asker: partial(asker.__call__), lambda asker: calling(partial(partial(asker)))]
)
def test_a_partial_of_an_objects_method_leaves_no_lasting_key(made: Any) -> None:
    with pytest.raises(Untold, match="Asker"):
        lasting_digest([RunnableLambda(made(Asker("plain")))], None)


def test_an_object_that_a_class_holds_leaves_no_lasting_key() -> None:
    with pytest.raises(Untold, match="Asker"):
        lasting_digest([RunnableLambda(by_class)], None)
