"""What a user's own Runnable holds and changes while it runs is no reason to refuse a resume."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from langchain_core.runnables import Runnable, RunnableConfig

from cottonpalm.chain.fingerprint import describe
from cottonpalm.stores.rules.changes import compare

pytestmark = pytest.mark.core


class Counting(Runnable[str, str]):
    """Remembers what it was asked."""

    def __init__(self, style: str) -> None:
        self.style = style
        self.seen: Counter[str] = Counter()
        self.order: list[str] = []

    def invoke(self, input: str, config: RunnableConfig | None = None, **kwargs: Any) -> str:
        self.seen[input] += 1
        self.order.append(input)
        return f"{self.style}: {input}"


def test_state_that_changed_only_warns_and_says_which() -> None:
    chain = Counting("plain")
    chain.invoke("begin")
    before = describe(chain)
    chain.invoke("x")
    changes = compare(before, describe(chain))
    assert not changes.refuse
    assert len(changes.warn) == 2
    assert "order" in " ".join(changes.warn)


def test_a_parameter_of_the_users_own_runnable_still_refuses() -> None:
    changes = compare(describe(Counting("plain")), describe(Counting("rude")))
    assert changes.refuse
    assert "plain" in changes.refuse[0]
