"""What the methods and classes of the user's own code read is part of the chain, as what a function reads is."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from cottonpalm.chain.cache_key import lasting_digest
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
