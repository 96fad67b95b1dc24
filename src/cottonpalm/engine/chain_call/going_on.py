"""Calls a graph that keeps its steps: a row that stopped half-way goes on where its thread stands.

Given an input, LangGraph begins anew, on top of what the thread holds already: the steps that were done are paid again,
and stand in the answer twice. Given None, it goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage

from cottonpalm.chain.traits import is_graph_with_steps

if TYPE_CHECKING:
    from collections.abc import Mapping

_INPUT = {"source": "input"}  # how the checkpoint of an input is marked


def going_on(chain: Any) -> GoingOn | None:
    """Return how to call this chain if it is a graph with a checkpointer of its own; None: as it is."""
    return GoingOn(chain) if is_graph_with_steps(chain) else None


class GoingOn:
    """A graph's two calls for a whole answer. A row that its thread holds half done is given as None.

    Not its streams: their pieces make the answer, and those of the steps that were done would be missing.

    A thread has tasks until its graph has ended. Its `next` is empty also where a step is done, and its checkpoint not
    yet written.
    """

    def __init__(self, graph: Any) -> None:
        self._graph = graph

    async def ainvoke(self, row: Any, config: Any, **kwargs: Any) -> Any:
        """As the graph's own."""
        return await self._graph.ainvoke(await self._aleft(row, config), config, **kwargs)

    def invoke(self, row: Any, config: Any, **kwargs: Any) -> Any:
        """As the graph's own."""
        return self._graph.invoke(self._left(row, config), config, **kwargs)

    async def _aleft(self, row: Any, config: Any) -> Any:
        if (thread := _thread(config)) is None or not (await self._graph.aget_state(thread)).tasks:
            return row
        async for begun in self._graph.aget_state_history(thread, filter=_INPUT, limit=1):
            return None if _began_with(row, begun) else row
        return row

    def _left(self, row: Any, config: Any) -> Any:
        if (thread := _thread(config)) is None or not self._graph.get_state(thread).tasks:
            return row
        for begun in self._graph.get_state_history(thread, filter=_INPUT, limit=1):
            return None if _began_with(row, begun) else row
        return row


def _thread(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What names the row's thread; None without one, or where the caller says himself from where to go on."""
    named = {} if config is None else config.get("configurable", {})
    return None if "thread_id" not in named or "checkpoint_id" in named else {"configurable": named}


def _began_with(row: Any, begun: Any) -> bool:
    """Whether this checkpoint is of an input that says what the row says."""
    kept = [task.result for task in begun.tasks if task.name == "__start__"]
    return len(kept) == 1 and _plain(kept[0]) == _plain(row)


def _plain(value: Any) -> Any:
    """Without what a round trip through a checkpointer changes: ids that messages were given, tuples."""
    if isinstance(value, BaseMessage):
        return value.model_dump(exclude={"id"})
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
