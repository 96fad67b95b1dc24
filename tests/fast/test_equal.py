"""A chain in a run gives what LangChain's `ainvoke` gives by the SDKs: a choice of the cases of bench/equal.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fast.cases import Case, all_cases
from tests.fast.equal import WAYS, differences, see
from tests.fast.wires import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning"), pytest.mark.core]
SHORT = (
    "text, full",
    "message, two tool calls",
    "message, log probabilities",
    "message, two answers",
    "message, usage in words",
    "message, an error with 200",
    "structured",
    "structured, wrong",
    "structured, a refusal, accepted",
    "by tool",
    "with the raw message",
    "system messages at last, Claude",
    "system messages at first, Claude",
    "an image",
    "bound headers",
    "Azure",
    "Claude, a tool",
    "Claude, cache written",
    "text, 400",
    "text, 429",
    "text, 500",
    "Claude, 529",
    "text, cut in the body",
    "message, packed in chunks",
    "text, line feeds alone",
    "message, a folded header",
    "message, deflated",
    "text, packed in a way that nobody knows",
    "text, a broken pack",
    "text, a broken deflation",
    "text, no JSON",
    "Responses",
    "a subclass with results of its own",
    "a function with a config",
    "a coroutine that raises",
    "a pick, 400",
    "a branch",
    "a model tried again, 400",
    "a fallback for other errors, 400",
)
CASES = {case.name: case for case in all_cases() if case.name in SHORT}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.mark.parametrize("name", SHORT)
def test_each_way_gives_the_same(server: Server, name: str) -> None:
    case: Case = CASES[name]
    langchain = see(case, server, "stock", listening=True)
    assert langchain.heard
    for transport, listening in WAYS:
        seen = see(case, server, transport, listening=listening)
        assert not differences(langchain, seen, listening=listening)
        assert (seen.fast > 0) == (case.fast and transport == "fast"), seen.why
