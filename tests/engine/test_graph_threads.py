"""A row whose graph stopped half-way, with a checkpointer: no step that is done is asked again, or found twice."""

from __future__ import annotations

import asyncio
import operator
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor
from tests.support import replies
from tests.support.loopback import Loopback

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.replies import Reply, Request

pytest.importorskip("langchain.agents")
from langchain.agents import create_agent
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

ROWS = [{"row": f"row {n}"} for n in range(4)]
THREADS: list[Any] = [{"configurable": {"thread_id": f"thread {n}"}} for n in range(4)]
WHOLE = [{**row, "said": [f"answer to: {row['row']} {step}" for step in ("first", "second")]} for row in ROWS]


class State(TypedDict, total=False):
    row: str
    said: Annotated[list[str], operator.add]


class Breaks:
    """A server that refuses the second step of row 2 until it is mended."""

    def __init__(self) -> None:
        self.broken = True

    def __call__(self, request: Request) -> Reply | None:
        return replies.fails(400) if self.broken and request.text == "row 2 second" else None


def model_at(server: Loopback) -> ChatOpenAI:
    return ChatOpenAI(model="gpt-4o-mini", base_url=server.openai_url, api_key="none")  # type: ignore[arg-type]


class Breaking(InMemorySaver):
    """Cannot be reached, once, for the checkpoint of a thread's first step: what that step said is kept already."""

    def __init__(self) -> None:
        super().__init__()
        self.met = set[str]()

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        thread = config["configurable"]["thread_id"]
        if metadata["step"] == 1 and thread not in self.met:
            self.met.add(thread)
            raise ConnectionError("the server has gone away")
        return super().put(config, checkpoint, metadata, new_versions)


class PlainOnly(InMemorySaver):
    """Has the plain calls alone, as SqliteSaver and PostgresSaver."""

    async def aget_tuple(self, config: Any) -> Any:
        raise NotImplementedError

    aput = aput_writes = alist = aget_tuple  # type: ignore[assignment]


def two_steps(server: Loopback, *, threads: bool = False, keeps: Any = None) -> Any:
    model = model_at(server)

    def node(name: str) -> Callable[..., Any]:
        async def step(state: State) -> State:
            return {"said": [(await model.ainvoke(f"{state['row']} {name}")).text]}

        def step_on_thread(state: State) -> State:
            return {"said": [model.invoke(f"{state['row']} {name}").text]}

        return step_on_thread if threads else step

    graph = StateGraph(State)
    graph.add_node("first", node("first"))
    graph.add_node("second", node("second"))
    graph.add_edge(START, "first")
    graph.add_edge("first", "second")
    graph.add_edge("second", END)
    return graph.compile(checkpointer=keeps or InMemorySaver())


@pytest.mark.parametrize("threads", [False, True])
def test_a_row_that_failed_half_way_goes_on_in_its_thread(threads: bool) -> None:
    breaks = Breaks()
    with Loopback(breaks) as server:
        graph = two_steps(server, threads=threads)
        processor = BatchProcessor(graph)
        first = processor.batch(ROWS, THREADS, return_exceptions=True)
        assert isinstance(first[2], Exception)
        breaks.broken = False
        assert processor.batch(ROWS[2:3], THREADS[2:3]) == WHOLE[2:3]
        assert server.counts["row 2 first"] == 1
        assert server.counts["row 2 second"] == 2


@pytest.mark.parametrize("threads", [False, True])
def test_a_step_whose_checkpoint_was_not_written_any_more_is_not_asked_again(threads: bool) -> None:
    with Loopback() as server:
        processor = BatchProcessor(two_steps(server, threads=threads, keeps=Breaking()))
        assert processor.batch(ROWS, THREADS) == WHOLE
        assert {server.counts[f"{row['row']} first"] for row in ROWS} == {1}


def test_a_checkpointer_with_plain_calls_alone_is_called_by_them() -> None:
    breaks = Breaks()
    with Loopback(breaks) as server:
        processor = BatchProcessor(two_steps(server, threads=True, keeps=PlainOnly()))
        assert isinstance(processor.batch(ROWS, THREADS, return_exceptions=True)[2], Exception)
        breaks.broken = False
        assert processor.batch(ROWS[2:3], THREADS[2:3]) == WHOLE[2:3]
        assert server.counts["row 2 first"] == 1
        agent = create_agent(model_at(server), [], checkpointer=PlainOnly())
        rows = [{"messages": [HumanMessage(f"hi {n}")]} for n in range(4)]
        said = [answer["messages"][-1].text for answer in BatchProcessor(agent).batch(rows, THREADS)]
        assert said == [f"answer to: hi {n}" for n in range(4)]


def test_nodes_and_a_checkpointer_that_do_not_fit_are_named_as_langgraph_names_them() -> None:
    with Loopback() as server:
        processor = BatchProcessor(two_steps(server, keeps=PlainOnly()))
        with pytest.raises(NotImplementedError):
            processor.batch(ROWS, THREADS)
        assert not server.requests


def test_pieces_of_a_row_are_those_of_all_its_steps() -> None:
    breaks = Breaks()

    async def pieces(graph: Any) -> list[Any]:
        return [piece async for _, piece in BatchProcessor(graph).stream_batch(ROWS[2:3], THREADS[2])]

    with Loopback(breaks) as server:
        graph = two_steps(server)
        BatchProcessor(graph).batch(ROWS[2:3], THREADS[2:3], return_exceptions=True)
        breaks.broken = False
        assert [next(iter(piece)) for piece in asyncio.run(pieces(graph))] == ["first", "second"]


def test_an_agent_goes_on_with_the_tool_that_broke_and_asks_nothing_twice() -> None:
    broken = [True]

    @tool
    def look_up(name: str) -> str:
        """Look something up."""
        if broken[0]:
            raise RuntimeError("the shelf is locked")
        return f"{name} is red"

    def script(request: Request) -> Reply:
        told = any(message["role"] == "tool" for message in request.body["messages"])
        return replies.ok("done") if told else replies.ok(tool=("look_up", {"name": "it"}))

    thread: Any = {"configurable": {"thread_id": "one"}}
    with Loopback(script) as server:
        processor = BatchProcessor(create_agent(model_at(server), [look_up], checkpointer=InMemorySaver()))
        assert isinstance(
            processor.batch([{"messages": [HumanMessage("hi")]}], thread, return_exceptions=True)[0],
            RuntimeError,
        )
        broken[0] = False
        [answer] = processor.batch([{"messages": [HumanMessage("hi")]}], thread)
        assert [message.type for message in answer["messages"]] == ["human", "ai", "tool", "ai"]
        assert server.requests == 2


def test_another_row_in_the_same_thread_and_a_row_that_is_done_begin_as_langgraph_has_it() -> None:
    breaks = Breaks()
    with Loopback(breaks) as server:
        processor = BatchProcessor(two_steps(server))
        processor.batch(ROWS[2:3], THREADS[2:3], return_exceptions=True)
        said = processor.batch(ROWS[3:], THREADS[2:3])[0]["said"]
        assert said == ["answer to: row 2 first", *WHOLE[3]["said"]]
        assert processor.batch(ROWS[3:], THREADS[2:3])[0]["said"] == [*said, *WHOLE[3]["said"]]


def test_one_input_of_its_own_begins_as_langgraph_has_it() -> None:
    breaks = Breaks()
    with Loopback(breaks) as server:
        processor = BatchProcessor(two_steps(server))
        processor.batch(ROWS[2:3], THREADS[2:3], return_exceptions=True)
        breaks.broken = False
        assert processor.invoke(ROWS[2], THREADS[2])["said"] == ["answer to: row 2 first", *WHOLE[2]["said"]]
