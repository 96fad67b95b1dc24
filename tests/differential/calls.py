"""The ways to call a chain: every method with every shape of config, as data."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from tests.differential.seen import Seen, Told, ToldLater, Trees, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.differential.forms import Chain, Form

ROWS = range(4)


def _row(number: int) -> dict[str, Any]:
    return {
        "tags": [f"row {number}"],
        "metadata": {"row": number},
        "run_name": f"row {number}",
        "run_id": UUID(int=number + 1),
        "configurable": {"thread_id": f"thread {number}", "mood": "glad"},
    }


class Shape(NamedTuple):
    """A shape of config: one for all rows, or a list with one for each, or none."""

    config: dict[str, Any] | list[dict[str, Any]]
    handlers: Callable[[], Any] = list
    threaded: bool = False  # each row has a thread_id of its own


SHAPES: dict[str, Shape] = {
    "one config": Shape({}),
    "tags, metadata and a name": Shape({"tags": ["t"], "metadata": {"row": "any"}, "run_name": "named"}),
    "one for each row": Shape([_row(number) for number in ROWS], threaded=True),
    "one for each row, one at a time": Shape(
        [_row(number) | {"max_concurrency": 1} for number in ROWS], threaded=True
    ),
    "two at a time": Shape({"max_concurrency": 2, "recursion_limit": 9}),
    "configurable": Shape({"configurable": {"mood": "glad"}}),
    "a sync handler": Shape({}, lambda: [Told()]),
    "an async handler": Shape({}, lambda: [ToldLater()]),
}


class Watched:
    """A config of a shape, and what its handlers were shown."""

    def __init__(self, shape: Shape) -> None:
        self.trees, self.handlers = Trees(), shape.handlers()
        callbacks = [self.trees, *self.handlers]
        self._shape = shape
        self._with = {"callbacks": callbacks}

    def of_row(self, number: int) -> Any:
        config = self._shape.config
        return (config[number] if isinstance(config, list) else config) | self._with

    def of_rows(self, rows: list[Any]) -> Any:
        config = self._shape.config
        if isinstance(config, list):
            return [self.of_row(number) for number in range(len(rows))]
        return config | self._with

    def told(self) -> list[str]:
        told = [call for handler in self.handlers for call in handler.calls]
        return sorted(self.trees.roots) + sorted(told)


async def _listed(chunks: Any) -> list[Any]:
    return [chunk async for chunk in chunks]


async def _pieces(row: Any) -> Any:
    yield row


def _event(event: Any) -> Any:
    return {name: event[name] for name in ("event", "name", "tags", "metadata", "data")}


async def _sorted(pairs: Any) -> list[Any]:
    return sorted(await _listed(pairs), key=lambda pair: pair[0])


async def _events(chain: Chain, row: Any, config: Any) -> list[Any]:
    return [_event(event) async for event in chain.astream_events(row, config, version="v2")]


MANY: dict[str, Callable[..., Any]] = {
    "batch": lambda chain, rows, config, **more: chain.batch(rows, config, **more),
    "abatch": lambda chain, rows, config, **more: chain.abatch(rows, config, **more),
    "batch_as_completed": lambda chain, rows, config, **more: sorted(
        chain.batch_as_completed(rows, config, **more), key=lambda pair: pair[0]
    ),
    "abatch_as_completed": lambda chain, rows, config, **more: _sorted(
        chain.abatch_as_completed(rows, config, **more)
    ),
}
SINGLE: dict[str, Callable[..., Any]] = {
    "invoke": lambda chain, row, config: chain.invoke(row, config),
    "ainvoke": lambda chain, row, config: chain.ainvoke(row, config),
    "stream": lambda chain, row, config: list(chain.stream(row, config)),
    "astream": lambda chain, row, config: _listed(chain.astream(row, config)),
    "transform": lambda chain, row, config: list(chain.transform(iter([row]), config)),
    "atransform": lambda chain, row, config: _listed(chain.atransform(_pieces(row), config)),
    "astream_events": _events,
}


def is_async(method: str) -> bool:
    return method.startswith("a")


def see(method: str, form: Form, chain: Chain, rows: list[Any], shape: Shape, **more: Any) -> Seen:
    """Call the chain and say what can be seen. A method for one row is called for one after the other."""
    watched = Watched(shape)
    if method in MANY:
        gave, raised = _try(lambda: MANY[method](chain, rows, watched.of_rows(rows), **more))
        return Seen([plain(gave)], raised, watched.told())
    gave, raised = [], None
    for number, row in enumerate(rows):
        given, error = _try(lambda: SINGLE[method](chain, row, watched.of_row(number)))  # noqa: B023 - called at once
        # Side by side, the order of pieces and of the keys in what they add up to is chance.
        streamed = form.parallel and isinstance(given, list) and "invoke" not in method
        gave.append(str(sorted(re.split(r"[][{}, ]+", plain(given)))) if streamed else plain(given))
        raised = raised or error
    return Seen(gave, raised, watched.told())


def _try(call: Callable[[], Any]) -> tuple[Any, tuple[str, str] | None]:
    try:
        gave = call()
        return (asyncio.run(gave) if asyncio.iscoroutine(gave) else gave), None
    except Exception as exc:
        return None, (type(exc).__name__, str(exc))
