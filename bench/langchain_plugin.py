"""A pytest plugin: the outermost call of a Runnable's methods named in $THROUGH goes through a `BatchProcessor`."""

from __future__ import annotations

import functools
import os
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable

from cottonpalm import BatchProcessor
from cottonpalm.chain_face import ChainFace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_INSIDE: ContextVar[bool] = ContextVar(
    "inside", default=False
)  # a processor's own calls go to the chain itself
METHODS = [name for name in os.environ.get("THROUGH", "").split(",") if name]


def _through(name: str, bare: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(bare)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _INSIDE.get():
            return bare(self, *args, **kwargs)
        token = _INSIDE.set(True)
        try:
            answer = getattr(BatchProcessor(self), name)(*args, **kwargs)
            if name in ("stream", "batch_as_completed"):
                return iter(list(answer))
        finally:
            _INSIDE.reset(token)
        return _inside_async(answer) if hasattr(answer, "__aiter__") else _awaited(answer, name)

    return call


def _awaited(answer: Any, name: str) -> Any:
    return _in(answer) if name.startswith("a") else answer


async def _in(answer: Any) -> Any:
    token = _INSIDE.set(True)
    try:
        return await answer
    finally:
        _INSIDE.reset(token)


async def _inside_async(chunks: Any) -> Any:
    token = _INSIDE.set(True)
    try:
        found = [chunk async for chunk in chunks]
    finally:
        _INSIDE.reset(token)
    for chunk in found:
        yield chunk


def _classes(cls: type) -> Iterator[type]:
    yield cls
    for sub in cls.__subclasses__():
        yield from _classes(sub)


def pytest_collection_finish() -> None:
    """Patch LangChain's classes once all of the tests' modules are there."""
    for cls in set(_classes(Runnable)):
        if issubclass(cls, ChainFace) or not cls.__module__.startswith("langchain_core"):
            continue
        for name in METHODS:
            if name in vars(cls) and not getattr(vars(cls)[name], "__isabstractmethod__", False):
                setattr(cls, name, _through(name, vars(cls)[name]))
