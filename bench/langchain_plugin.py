"""A pytest plugin: the outermost call of a Runnable's methods named in $THROUGH goes through a `BatchProcessor`."""

from __future__ import annotations

import functools
import os
from contextlib import aclosing, closing, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable

from cottonpalm import BatchProcessor
from cottonpalm.chain.face import ChainFace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

_INSIDE: ContextVar[bool] = ContextVar(
    "inside", default=False
)  # a processor's own calls go to the chain itself
_END = object()
METHODS = [name for name in os.environ.get("THROUGH", "").split(",") if name]


def _through(name: str, bare: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(bare)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _INSIDE.get():
            return bare(self, *args, **kwargs)
        with _inside():
            answer = getattr(BatchProcessor(self), name)(*args, **kwargs)
        if hasattr(answer, "__anext__"):
            return _pieces_later(answer)
        if hasattr(answer, "__await__"):
            return _later(answer)
        return _pieces(answer) if hasattr(answer, "__next__") else answer

    return call


@contextmanager
def _inside() -> Iterator[None]:
    token = _INSIDE.set(True)
    try:
        yield
    finally:
        _INSIDE.reset(token)


async def _later(answer: Any) -> Any:
    with _inside():
        return await answer


def _pieces(pieces: Any) -> Iterator[Any]:
    with closing(pieces):
        while True:
            with _inside():
                piece = next(pieces, _END)
            if piece is _END:
                return
            yield piece


async def _pieces_later(pieces: Any) -> AsyncIterator[Any]:
    async with aclosing(pieces):
        while True:
            with _inside():
                piece = await anext(pieces, _END)
            if piece is _END:
                return
            yield piece


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
