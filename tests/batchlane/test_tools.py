"""Tools of rows that go through batches: each runs once, however many rounds its row takes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool

from tests.batchlane.chains import two_steps
from tests.batchlane.kit import PICO_PRICES, batched, live, openai, rows, simple
from tests.support.batch_provider import Faults

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.batch_provider import BatchProvider


def counting(calls: Counter[str], answers: Any = None) -> Any:
    @tool
    async def look_up(text: str) -> str:
        """Look something up."""
        calls[text] += 1
        return f"{text}, found" if answers is None else (await answers.ainvoke({"text": f"inside {text}"}))

    return look_up


def with_tool(look_up: Any, chain: Any) -> Any:
    """The tool, then two calls of a model that depend on each other: three rounds."""
    return RunnableLambda(lambda row: {"text": row["text"]}) | look_up | (lambda said: {"text": said}) | chain


def test_a_tool_runs_once_for_each_row_of_a_chain_that_takes_three_rounds(
    server: BatchProvider, tmp_path: Path
) -> None:
    calls = Counter[str]()
    chain = with_tool(counting(calls), two_steps(openai(server)))
    answers = [answer.content for answer in batched(chain, server, tmp_path).batch(rows(5))]
    assert answers == [f"answer to: Shorter: answer to: About: row {n}, found" for n in range(5)]
    assert calls == {f"row {n}": 1 for n in range(5)}
    assert {bill.lane for bill in server.bills} == {"batch"}


def test_nor_does_it_run_again_in_the_process_that_collects(server: BatchProvider, tmp_path: Path) -> None:
    calls = Counter[str]()
    chain = with_tool(counting(calls), simple(server))
    server.faults = Faults(looks=10**6)
    with pytest.raises(Exception, match="are out"):
        batched(chain, server, tmp_path, detach=True).batch(rows(3))
    for job in server.jobs.values():
        job.faults = Faults()
    assert len(batched(chain, server, tmp_path).batch(rows(3))) == 3
    assert calls == {f"row {n}": 1 for n in range(3)}


def test_a_question_that_a_tool_asks_a_model_is_paid_once_and_fits_when_the_tool_does_not_run_again(
    server: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The branch beside it asks a model the very same question."""
    calls = Counter[str]()
    look_up = counting(calls, simple(server))
    chain = with_tool(look_up, two_steps(openai(server)))
    beside = RunnableLambda(lambda row: {"text": f"inside {row['text']}"}) | simple(server)
    both = RunnableParallel(tool=chain, beside=beside)
    wanted = live(both).batch(rows(3))
    server.bills.clear()
    calls.clear()
    processor = batched(both, server, tmp_path)
    found = processor.batch(rows(3))
    assert [(one["tool"].content, one["beside"]) for one in found] == [
        (one["tool"].content, one["beside"]) for one in wanted
    ]
    assert "asks something else" not in caplog.text
    assert Counter(bill.lane for bill in server.bills) == {"batch": 3 * 4}
    assert processor.last_run is not None
    outcomes = processor.last_run.outcomes()
    assert {outcome.attempts for outcome in outcomes} == {4}
    assert sum(outcome.cost_pico for outcome in outcomes) == server.charged(PICO_PRICES)
    assert max(calls.values()) <= 3  # it runs until its own question is answered


def test_an_agents_tools_run_once_each(server: BatchProvider, tmp_path: Path) -> None:
    pytest.importorskip("langgraph")
    from langchain_core.messages import AIMessage
    from langgraph.graph import END, START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode

    calls = Counter[str]()
    look_up = counting(calls)
    model = openai(server)

    async def think(state: Any) -> dict[str, Any]:
        said = await model.ainvoke(
            [("human", f"step {len(state['messages'])}: {state['messages'][0].content}")]
        )
        call = {"name": "look_up", "args": {"text": said.content}, "id": f"call-{len(state['messages'])}"}
        asks = [] if len(state["messages"]) > 4 else [call]
        return {"messages": [AIMessage(said.content, tool_calls=asks)]}

    def on(state: Any) -> str:
        return "tools" if state["messages"][-1].tool_calls else END

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_node("tools", ToolNode([look_up]))
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", on)
    graph.add_edge("tools", "think")
    chain = RunnableLambda(lambda row: {"messages": [("human", row["text"])]}) | graph.compile()
    found = batched(chain, server, tmp_path).batch(rows(2))
    assert [len(one["messages"]) for one in found] == [6, 6]
    assert [one["messages"][2].tool_call_id for one in found] == ["call-1", "call-1"]
    assert len(calls) == 4
    assert set(calls.values()) == {1}


def test_a_tool_whose_answer_cannot_be_kept_runs_in_each_round(server: BatchProvider, tmp_path: Path) -> None:
    calls = Counter[str]()

    @tool
    def strange(text: str) -> Any:
        """Answers with an object."""
        calls[text] += 1
        return object()

    step = RunnableLambda(lambda row: {"text": row["text"]}) | strange
    chain = RunnableParallel(x=step, text=lambda row: row["text"]) | simple(server)
    assert len(batched(chain, server, tmp_path).batch(rows(1))) == 1
    assert calls["row 0"] > 1
