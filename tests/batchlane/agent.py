"""An agent of LangGraph whose tool writes down each of its calls, and a program that runs it through batches."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import orjson
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from cottonpalm import BatchLane, BatchProcessor, RunStopped
from tests.batchlane.kit import PRICES, openai, rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CALLS = 3  # of the model for each row, a tool between two of them


def agent(server: Any, called: Callable[[str], Any], **compiled: Any) -> Any:
    """A compiled graph: model, tool, model, tool, model."""
    model = openai(server)

    @tool
    async def look_up(text: str) -> str:
        """Look something up."""
        called(text)
        return f"{text}, found"

    async def think(state: Any) -> dict[str, Any]:
        step, first = len(state["messages"]), state["messages"][0].content
        said = await model.ainvoke([("human", f"step {step}: {first}: {state['messages'][-1].content}")])
        call = {"name": "look_up", "args": {"text": said.content}, "id": f"call-{step}"}
        return {"messages": [AIMessage(said.content, tool_calls=[call] if step < 2 * CALLS - 2 else [])]}

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_node("tools", ToolNode([look_up]))
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", lambda state: "tools" if state["messages"][-1].tool_calls else END)
    graph.add_edge("tools", "think")
    return RunnableLambda(_asked) | graph.compile(**compiled)


def _asked(row: dict[str, str]) -> dict[str, Any]:
    return {"messages": [("human", row["text"])]}


def main(folder: Path, url: str, hosts: dict[str, str], count: int) -> None:
    """Take what has come, submit what is asked then, and leave; at the end write down what the rows came to."""

    def called(text: str) -> None:
        with (folder / "tool.txt").open("a") as file:
            file.write(text + "\n")

    server = SimpleNamespace(openai_url=url)
    lane = BatchLane(hosts=hosts, poll_s=0.01)
    chain = agent(server, called)
    processor = BatchProcessor(
        chain, mode="batch", detach=True, store=folder / "s.db", run="r", prices=PRICES, lane=lane
    )
    found = processor.batch(rows(count), return_exceptions=True)
    if not any(isinstance(one, RunStopped) for one in found):
        said = [[message.content for message in one["messages"]] for one in found]
        (folder / "answers.json").write_bytes(orjson.dumps(said))
