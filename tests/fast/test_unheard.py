"""LangChain's callback machinery runs for those who listen."""

from __future__ import annotations

import asyncio
import threading
import time
from contextvars import ContextVar
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pytest
from langchain_core.callbacks import AsyncCallbackManager, CallbackManager
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableConfig, RunnableLambda, RunnableParallel

from cottonpalm import BatchProcessor, RetryPolicy
from tests.fast.cases import PROMPT, chat, openai, shapes
from tests.fast.equal import Ear
from tests.fast.wires import Server, wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_core.runnables import Runnable

ROWS = [{"text": f"row {number}"} for number in range(4)]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(wire=wire(chat())) as server:
        yield server


@pytest.mark.parametrize("transport", ["fast", "stock"])
@pytest.mark.parametrize("listening", [False, True], ids=["unheard", "heard"])
def test_steps_have_callbacks_only_where_somebody_listens_whoever_sends(
    server: Server,
    transport: Literal["fast", "stock"],
    listening: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = uncalled(monkeypatch)
    ear = Ear()
    processor = BatchProcessor(
        PROMPT | openai(server.url) | StrOutputParser(), concurrency=1, transport=transport
    )
    config = {"callbacks": [ear]} if listening else None
    assert asyncio.run(processor.abatch(ROWS, config)) == ["an answer"] * 4
    assert bool(ear.heard) == (len(made) >= len(ROWS)) == listening  # a run asks once or twice who listens


HEARD = {  # whole or in part
    "a generator",
    "an answer beside no row",
    "a mapped chain",
    "what was found, and a question",
}
SEEN: ContextVar[str] = ContextVar("seen", default="nothing")


def answers(chain: Runnable[Any, Any], rows: list[Any], **settings: Any) -> list[Any]:
    return asyncio.run(BatchProcessor(chain, **settings).abatch(rows))


def uncalled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What LangChain's callback machinery was asked to set up."""
    made: list[Any] = []
    for kind in (CallbackManager, AsyncCallbackManager):
        monkeypatch.setattr(kind, "configure", _noting(kind.configure, made))
    return made


def _noting(original: Callable[..., Any], made: list[Any]) -> Callable[..., Any]:
    return lambda *given, **more: made.append(given) or original(*given, **more)


@pytest.mark.parametrize("name", sorted(set(shapes()) - HEARD))
def test_chains_as_people_build_them_are_called_without_callbacks(
    server: Server, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = uncalled(monkeypatch)
    chain = shapes()[name](server.url)
    rows = [{"text": f"row {number}"} for number in range(20)]
    asyncio.run(BatchProcessor(chain, retry=RetryPolicy(retries=0)).abatch(rows, return_exceptions=True))
    gives_one = "gives a chain" in name  # which LangChain calls for the function
    assert len(made) >= len(rows) if gives_one else len(made) < 4, len(made)


def test_a_plain_function_runs_on_a_thread_and_not_on_the_loop(server: Server) -> None:
    def where(_: str) -> bool:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return threading.current_thread() is not threading.main_thread()
        return False

    assert answers(PROMPT | openai(server.url) | StrOutputParser() | where, ROWS) == [True] * 4
    both = PROMPT | openai(server.url) | StrOutputParser() | _nods | where
    assert answers(both, ROWS) == [True] * 4


async def _nods(text: str) -> str:
    return text


def test_plain_functions_of_many_rows_block_at_once(server: Server) -> None:
    rows = [{"text": f"row {number}"} for number in range(12)]
    together = threading.Barrier(len(rows))

    def meets(_: str) -> int:
        return together.wait(timeout=20) * 0

    chain = PROMPT | openai(server.url) | StrOutputParser() | meets
    assert answers(chain, rows, concurrency=len(rows)) == [0] * 12


@pytest.mark.parametrize("form", ["plain", "coroutine"])
def test_what_a_function_sets_in_its_context_stays_there(server: Server, form: str) -> None:
    def sets(text: str) -> str:
        found = SEEN.get()
        SEEN.set(text)
        return found

    async def sets_later(text: str) -> str:
        return sets(text)

    step = RunnableLambda(sets if form == "plain" else sets_later)
    chain = PROMPT | openai(server.url) | StrOutputParser() | step | step
    assert answers(chain, ROWS, concurrency=1) == ["nothing"] * 4


def test_a_function_that_calls_a_runnable_hands_its_config_down(server: Server) -> None:
    told: list[RunnableConfig] = []

    def inner(text: str, config: RunnableConfig) -> str:
        told.append(config)
        return text

    def outer(text: str) -> str:
        answer: str = RunnableLambda(inner).invoke(text)
        return answer

    async def outer_later(text: str) -> str:
        answer: str = await RunnableLambda(inner).ainvoke(text)
        return answer

    for step in (outer, outer_later):
        answers(PROMPT | openai(server.url) | StrOutputParser() | step, ROWS[:1])
    ids = [getattr(config["callbacks"], "parent_run_id", None) for config in told]
    assert len(set(ids)) == 2
    assert None not in ids


def test_functions_read_the_config_of_their_row_and_of_what_is_bound(server: Server) -> None:
    def reads(_: str, config: RunnableConfig) -> Any:
        return config["metadata"].get("of"), config["tags"]

    bound = RunnableLambda(reads).with_config(tags=["b"], metadata={"of": "bound"}, run_name="mine")
    after = RunnableParallel(free=reads, bound=bound).with_config(tags=["c"], metadata={"of": "outer"})

    async def both_ways() -> None:
        model = openai(server.url, timeout=31)  # whose client no other loop has used
        chain = PROMPT | model | StrOutputParser() | after
        configs: list[Any] = [{"metadata": {"of": "row"}, "tags": ["a"], "run_name": "row"}, None]
        for config in configs:
            alone = await chain.ainvoke(ROWS[0], config)
            assert await BatchProcessor(chain).abatch(ROWS[:1], config) == [alone]

    asyncio.run(both_ways())


@pytest.mark.parametrize("config", [{"max_concurrency": 3}, {"tags": ["a"]}, {"metadata": {"a": 1}}, {}])
def test_a_config_without_callbacks_makes_no_callbacks(
    server: Server, config: RunnableConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = uncalled(monkeypatch)
    chain = PROMPT | openai(server.url) | StrOutputParser() | str.upper
    rows = [{"text": f"row {number}"} for number in range(20)]
    assert asyncio.run(BatchProcessor(chain).abatch(rows, config)) == ["AN ANSWER"] * 20
    assert len(made) < 4


class Hidden(FakeListChatModel):
    """A model that does not send by HTTP, and counts how many callers it has at once."""

    most: ClassVar[int] = 0
    now: ClassVar[int] = 0

    def _call(self, *given: Any, **more: Any) -> str:
        Hidden.now += 1
        Hidden.most = max(Hidden.most, Hidden.now)
        time.sleep(0.002)  # so that all who may call it do so at once
        Hidden.now -= 1
        return super()._call(*given, **more)


def test_a_model_that_a_function_hides_takes_permits(server: Server) -> None:
    hidden = Hidden(responses=["hidden"])
    Hidden.most = Hidden.now = 0

    def asks(text: str) -> Any:
        return hidden.invoke(text).content

    chain = PROMPT | openai(server.url) | StrOutputParser() | asks
    rows = [{"text": f"row {number}"} for number in range(30)]

    async def run() -> Any:
        async with BatchProcessor(chain, concurrency=3).astart(rows) as run:
            return [outcome async for outcome in run]

    outcomes = asyncio.run(run())
    assert {outcome.output for outcome in outcomes} == {"hidden"}
    assert {outcome.attempts for outcome in outcomes} == {2}
    assert Hidden.most <= 3


def test_branches_of_a_row_wait_at_once_and_keep_their_order(server: Server) -> None:
    both = threading.Barrier(2)

    def meets(text: str) -> str:
        both.wait(timeout=20)
        return text

    one = PROMPT | openai(server.url) | StrOutputParser() | meets
    chain = RunnableParallel(b=one, c=itemgetter("text"), a=one)
    (answer,) = answers(chain, ROWS[:1])
    assert list(answer.items()) == [("b", "an answer"), ("c", "row 0"), ("a", "an answer")]


def test_a_branch_that_fails_at_once_costs_nothing(server: Server) -> None:
    server.sent = []
    chain = RunnableParallel(a=PROMPT | openai(server.url), b=itemgetter("no such column"))
    (error,) = asyncio.run(
        BatchProcessor(chain, retry=RetryPolicy(retries=0)).abatch(ROWS[:1], return_exceptions=True)
    )
    assert isinstance(error, KeyError)
    assert server.sent == []


def test_the_steps_of_a_chain_have_their_times_in_the_report(server: Server) -> None:
    chain = (
        {"text": itemgetter("text")}
        | PROMPT
        | openai(server.url)
        | StrOutputParser()
        | RunnableLambda(_nods)
        | RunnableLambda(str.upper).with_config(run_name="loud")
    )

    async def run() -> Any:
        async with BatchProcessor(chain).astart(ROWS) as run:
            async for _ in run:
                pass
            return run.report

    names = {step.name: step.calls for step in asyncio.run(run()).steps}
    expected = (
        "RunnableLambda",
        "ChatPromptTemplate",
        "ChatOpenAI (gpt-4o-mini)",
        "StrOutputParser",
        "_nods",
    )
    assert {name: names.get(name) for name in expected} == dict.fromkeys(expected, 4)
