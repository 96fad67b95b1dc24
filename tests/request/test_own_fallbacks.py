"""What is known of a chain's own `with_fallbacks()` while one of its models is asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.runnables import Runnable, RunnableLambda

from cottonpalm.request.row_account import OTHERS
from cottonpalm.request.transport import own_fallbacks


class Asked:
    """Chains that note, when they are called, whether another model is known to stand behind them."""

    def __init__(self) -> None:
        own_fallbacks.install()
        own_fallbacks.install()  # a second time changes nothing
        self.seen: list[tuple[str, bool]] = []

    def good(self, name: str) -> Runnable[Any, Any]:
        return RunnableLambda(lambda row: (self.seen.append((name, OTHERS.get())), row)[1])

    def bad(self, name: str) -> Runnable[Any, Any]:
        def fails(_row: Any) -> None:
            self.seen.append((name, OTHERS.get()))
            raise ValueError(name)

        return RunnableLambda(fails)


def invoked(chain: Runnable[Any, Any]) -> None:
    chain.invoke("row")


def awaited(chain: Runnable[Any, Any]) -> None:
    asyncio.run(chain.ainvoke("row"))


def streamed(chain: Runnable[Any, Any]) -> None:
    list(chain.stream("row"))


def streamed_on_a_loop(chain: Runnable[Any, Any]) -> None:
    async def main() -> None:
        async for _ in chain.astream("row"):
            pass

    asyncio.run(main())


ways = pytest.mark.parametrize("call", [invoked, awaited, streamed, streamed_on_a_loop])


@ways
def test_another_model_stands_behind_all_but_the_last(call: Any) -> None:
    asked = Asked()
    call(asked.bad("a").with_fallbacks([asked.bad("b"), asked.good("c")]) | asked.good("after"))
    assert asked.seen == [("a", True), ("b", True), ("c", False), ("after", False)]


@ways
def test_nothing_stands_behind_a_model_whose_errors_the_fallbacks_do_not_take(call: Any) -> None:
    asked = Asked()
    call(asked.good("a").with_fallbacks([asked.good("b")], exceptions_to_handle=(KeyError,)))
    assert asked.seen == [("a", False)]


@ways
def test_the_last_one_inside_has_those_outside_behind_it(call: Any) -> None:
    asked = Asked()
    inner = asked.bad("a").with_fallbacks([asked.bad("b")])
    call(inner.with_fallbacks([asked.good("c")]))
    assert asked.seen == [("a", True), ("b", True), ("c", False)]
