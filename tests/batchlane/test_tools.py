"""Tools of rows that go through batches: each runs once, however many rounds its row takes."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.runnables.history import RunnableWithMessageHistory
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

from tests.batchlane.agent import CALLS, agent, main
from tests.batchlane.chains import two_steps
from tests.batchlane.kit import PICO_PRICES, batched, live, openai, rows, simple
from tests.batchlane.seen import seen
from tests.support.batch_provider import Faults
from tests.support.programs import programs

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


def test_so_does_one_that_is_called_with_a_number_of_25_digits(server: BatchProvider, tmp_path: Path) -> None:
    calls = Counter[int]()

    @tool
    async def track(number: int) -> str:
        """Say where a parcel is."""
        calls[number] += 1
        return f"{number} is on its way"

    numbers = [9_400_111_899_223_100_001_234_567 + row for row in range(3)]
    called = RunnableLambda(lambda row: {"number": row["number"]}) | track
    chain = called | (lambda said: {"text": said}) | two_steps(openai(server))
    answers = batched(chain, server, tmp_path).batch([{"number": number} for number in numbers])
    assert [str(number) in answer.content for number, answer in zip(numbers, answers, strict=True)] == [
        True
    ] * 3
    assert calls == dict.fromkeys(numbers, 1)


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


def test_a_compiled_graphs_tools_run_once_each_in_all_its_rounds(
    server: BatchProvider, tmp_path: Path
) -> None:
    calls = Counter[str]()
    found = batched(agent(server, lambda text: calls.update([text])), server, tmp_path).batch(rows(2))
    wanted = live(agent(server, bool)).batch(rows(2))
    assert [seen(one["messages"]) for one in found] == [seen(one["messages"]) for one in wanted]
    assert [one["messages"][2].tool_call_id for one in found] == ["call-1", "call-1"]
    assert len(calls) == 2 * (CALLS - 1)
    assert set(calls.values()) == {1}
    assert Counter(bill.lane for bill in server.bills) == {"batch": 2 * CALLS, "live": 2 * CALLS}


def test_nor_do_they_run_again_where_each_round_is_another_process(
    server: BatchProvider, tmp_path: Path
) -> None:
    """Each program submits a round and leaves; the next one collects it."""
    fork, count = programs(), 2
    server.faults = Faults(looks=10**6)
    for number in range(1, CALLS + 2):
        process = fork.Process(target=main, args=(tmp_path, server.openai_url, server.hosts, count))
        process.start()
        process.join(60)
        assert process.exitcode == 0
        assert len(server.jobs) == min(number, CALLS)
        for job in server.jobs.values():
            job.faults = Faults(looks=1)
    said = orjson.loads((tmp_path / "answers.json").read_bytes())
    wanted = live(agent(server, bool)).batch(rows(count))
    assert said == [[message.content for message in one["messages"]] for one in wanted]
    calls = Counter((tmp_path / "tool.txt").read_text().splitlines())
    assert len(calls) == count * (CALLS - 1)
    assert set(calls.values()) == {1}
    assert server.paid_twice() == {
        (bill.model, bill.text): 2 for bill in server.bills
    }  # in batches, and live here


def test_a_graph_with_a_checkpointer_of_its_own_runs_live_and_each_row_once(
    server: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It keeps what a row did by its thread: a second round would begin where the first one was taken down."""

    def chain() -> Any:
        return agent(server, bool, checkpointer=InMemorySaver())

    threads: Any = [{"configurable": {"thread_id": str(number)}} for number in range(2)]
    wanted = live(chain()).batch(rows(2), config=threads)
    server.bills.clear()
    found = batched(chain(), server, tmp_path).batch(rows(2), config=threads)
    assert [one["messages"][-1].content for one in found] == [one["messages"][-1].content for one in wanted]
    assert "rows run live: the chain keeps what a row did (a checkpointer" in caplog.text
    assert Counter(bill.lane for bill in server.bills) == {"live": 2 * CALLS}


@pytest.mark.filterwarnings("ignore:RunnableWithMessageHistory is deprecated")
@pytest.mark.filterwarnings("ignore:The class `InMemoryChatMessageHistory` was deprecated")
def test_a_history_of_messages_is_written_once_for_each_row(server: BatchProvider, tmp_path: Path) -> None:
    histories: dict[str, InMemoryChatMessageHistory] = defaultdict(InMemoryChatMessageHistory)
    asked = ChatPromptTemplate.from_messages([("placeholder", "{before}"), ("user", "{text}")])
    remembers = RunnableWithMessageHistory(
        asked | openai(server),
        lambda session_id: histories[session_id],
        input_messages_key="text",
        history_messages_key="before",
    )
    chain = remembers | (lambda said: {"text": said.content}) | simple(server)
    sessions: Any = [{"configurable": {"session_id": str(number)}} for number in range(2)]
    found = batched(chain, server, tmp_path).batch(rows(2), config=sessions)
    assert found == [f"answer to: About: answer to: row {number}" for number in range(2)]
    assert [[message.content for message in histories[str(number)].messages] for number in range(2)] == [
        [f"row {number}", f"answer to: row {number}"] for number in range(2)
    ]


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
