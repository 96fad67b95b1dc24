"""Tells whether the functions of a chain send by an HTTP client: a model that they read holds it, or asks by it."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from langchain_core.runnables import Runnable

from cottonpalm.chain.uses import uses
from cottonpalm.chain.walk import functions, parts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

_NESTED: Final = 4  # a model holds a part of its SDK, that holds the SDK's client, that holds the HTTP client


def models_read(chains: Iterable[Any]) -> dict[int, Runnable[Any, Any]]:
    """The models, and what else can be called, that functions of the chains read, by `id`.

    Models that are steps themselves do not count: what they send always knows its row.
    """
    read = [runnable for chain in chains for runnable in _read_by_functions(chain)]
    return {id(part.runnable): part.runnable for runnable in read for part in parts(runnable)}


def send_by(models: Mapping[int, Any], client: Any) -> bool:
    """Whether one of these holds an HTTP client, or is sending by it: code of it has called us."""
    return any(_leads_to(model, client, _NESTED) for model in models.values()) or _is_asking(models)


def _is_asking(models: Collection[int]) -> bool:
    """Whether code of one of these, by `id`, has called us.

    Threads that ask a model for the first time at once may each make a client, of which it keeps one.
    """
    frame = inspect.currentframe()
    while frame is not None:
        if id(frame.f_locals.get("self")) in models:
            return True
        frame = frame.f_back
    return False


def _read_by_functions(chain: Any) -> Iterator[Runnable[Any, Any]]:
    for part in parts(chain):
        for _, function in functions(part.runnable):
            for read in uses(function):
                owner = getattr(read.value, "__self__", None)  # of `model.invoke`
                yield from (value for value in (read.value, owner) if isinstance(value, Runnable))


def _leads_to(value: Any, client: Any, depth: int) -> bool:
    """Whether a client is held here, under names that all say so: SDKs call theirs `_client`, `root_client`, ..."""
    held = [
        part
        for attributes in (getattr(value, "__dict__", None), getattr(value, "__pydantic_private__", None))
        for name, part in dict(attributes or {}).items()
        if name.endswith("client")
    ]
    return any(part is client or (depth > 0 and _leads_to(part, client, depth - 1)) for part in held)
