"""What the methods and classes of the user's own code read is part of the chain, as what a function reads is."""

from __future__ import annotations

from functools import lru_cache, partial
from operator import itemgetter, methodcaller
from typing import Any

import pytest
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePick

from cottonpalm.chain.cache_key import Untold, digest, lasting_digest
from cottonpalm.chain.fingerprint import describe
from cottonpalm.stores.rules.changes import compare

pytestmark = pytest.mark.core
WORD = "positive"


class Settings:
    prompt = WORD  # its text stays the same when WORD is another


class Asker:
    def __init__(self, style: str) -> None:
        self._style = style

    def ask(self, row: str) -> str:
        return f"{self._style} {WORD} {row}"


@lru_cache
def cached(row: str) -> str:
    return f"{WORD} {row}"


ASKER = Asker("plain")


def by_class(row: str) -> str:
    return f"{Settings.prompt} {row}"


def by_object(row: str) -> str:
    return ASKER.ask(row)


@pytest.mark.parametrize("function", [Asker("plain").ask, cached, by_object])
def test_a_changed_global_is_seen_behind(function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = describe(RunnableLambda(function))
    assert compare(before, describe(RunnableLambda(function))) == ([], [])
    monkeypatch.setitem(globals(), "WORD", "negative")
    assert "WORD" in " ".join(compare(before, describe(RunnableLambda(function))).warn)


def test_a_value_that_a_class_got_from_elsewhere_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before, key = describe(RunnableLambda(by_class)), lasting_digest([RunnableLambda(by_class)], None)
    monkeypatch.setattr(Settings, "prompt", "negative")
    assert lasting_digest([RunnableLambda(by_class)], None) != key, (
        "the cache on disk would mix their answers"
    )
    assert "Settings.prompt" in " ".join(compare(before, describe(RunnableLambda(by_class))).warn)


def test_what_a_method_reads_of_its_object_counts() -> None:
    before = describe(RunnableLambda(Asker("plain").ask))
    assert "self._style" in " ".join(compare(before, describe(RunnableLambda(Asker("rude").ask))).warn)


class Chatty:
    """Its answer hangs on what a helper and a property of its own read of it."""

    def __init__(self, style: str) -> None:
        self.style = style

    def __call__(self, row: Any) -> str:
        return self.said(row)

    def said(self, row: Any) -> str:
        return f"{self.manner}: {row}"

    @property
    def manner(self) -> str:
        return self.style


CHATTY = Chatty("plain")


def by_anothers_method(row: Any) -> str:
    return CHATTY(row)


@pytest.mark.parametrize(
    "made",
    [Chatty, lambda style: Chatty(style).__call__, lambda style: partial(Chatty(style))],
    ids=["called", "its method", "a partial of it"],
)
def test_what_an_object_holds_counts_also_where_a_helper_reads_it(made: Any) -> None:
    before = describe(RunnableLambda(made("plain")))
    assert compare(before, describe(RunnableLambda(made("plain")))) == ([], [])
    assert "self.style" in " ".join(compare(before, describe(RunnableLambda(made("rude")))).warn)


def test_another_object_under_the_name_that_a_function_calls_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    before = describe(RunnableLambda(by_anothers_method))
    monkeypatch.setitem(globals(), "CHATTY", Chatty("rude"))
    assert "CHATTY.self.style" in " ".join(compare(before, describe(RunnableLambda(by_anothers_method))).warn)


class Held:
    prompt: Any = ChatPromptTemplate.from_template("Is this good? {text}")


PROMPTS = {"first": ChatPromptTemplate.from_template("Is this good? {text}")}


def held_by_a_class(row: Any) -> Any:
    return Held.prompt.invoke(row)


def held_in_a_table(row: Any) -> Any:
    return PROMPTS["first"].invoke(row)


@pytest.mark.parametrize("function", [held_by_a_class, held_in_a_table])
def test_a_prompt_that_a_class_or_a_table_holds_counts(
    function: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = RunnableLambda(function)
    before, key = describe(chain), lasting_digest([chain], None)
    monkeypatch.setattr(Held, "prompt", other := ChatPromptTemplate.from_template("Is this bad? {text}"))
    monkeypatch.setitem(PROMPTS, "first", other)
    assert compare(before, describe(chain)).warn
    assert lasting_digest([chain], None) != key


TAKEN = [
    lambda name: RunnableLambda(itemgetter(name)),
    lambda name: RunnableLambda(itemgetter(name, "c")),
    lambda name: RunnableLambda(methodcaller("get", name)),
    lambda name: RunnableLambda(methodcaller("replace", "x", new=name)),
    RunnablePick,
]


@pytest.mark.parametrize("made", TAKEN)
def test_what_is_taken_of_a_row_is_part_of_the_chain_and_refuses_and_equal_ones_are_one(made: Any) -> None:
    before, key, lasting = describe(made("a")), digest([made("a")]), lasting_digest([made("a")], None)
    assert compare(before, describe(made("a"))) == ([], [])
    assert (digest([made("a")]), lasting_digest([made("a")], None)) == (key, lasting)
    assert compare(before, describe(made("b"))).refuse
    assert digest([made("b")]) != key
    assert lasting_digest([made("b")], None) != lasting


def test_a_getter_of_something_that_is_not_written_down_leaves_no_lasting_key() -> None:
    with pytest.raises(Untold, match="itemgetter"):
        lasting_digest([RunnableLambda(itemgetter(slice(0, 2)))], None)


def test_two_getters_with_the_same_words_are_two() -> None:
    first, second = RunnableLambda(itemgetter("get", "a")), RunnableLambda(methodcaller("get", "a"))
    assert digest([first]) != digest([second])
    assert lasting_digest([first], None) != lasting_digest([second], None)
