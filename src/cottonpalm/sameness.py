"""When two chains of one process are the same, so that an answer of one may stand for an answer of the other.

A fingerprint says what changed between two processes, and takes a function for its source text. Within a process
that is not enough: two functions of the same text may hold different things. So what is a user's own (functions,
classes, clients, objects of their classes) counts here as the very object it is, and the rest as it is described.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from enum import Enum
from functools import partial
from itertools import count
from threading import RLock
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final

from langchain_core.runnables import Runnable
from langchain_core.runnables.base import RunnableGenerator
from pydantic import SecretBytes, SecretStr

from cottonpalm import fingerprint
from cottonpalm.chain_walk import attributes, children, closed_over, is_library, parts
from cottonpalm.fingerprint import functions
from cottonpalm.pure.secrets import is_secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_DEPTH: Final = 8
_SAID: Final = (
    str,
    bytes,
    int,
    float,
    complex,
    type(None),
    Enum,
    SecretStr,
    SecretBytes,
)  # by the description
_LEFT_OUT: Final = frozenset(
    (
        *("async_client", "client", "root_async_client", "root_client"),  # made from the other fields
        *(
            "callback_manager",
            "callbacks",
            "custom_input_type",
            "custom_output_type",
            "input_types",
            "rate_limiter",
        ),
    )
)
_ASKING: Final = ("root_client", "root_async_client")
_SENT_ALONG: Final = frozenset(("default_headers", "default_query"))

_numbers: dict[int, tuple[int, weakref.ref[Any]]] = {}  # by the object's id, while it lives
_next = count(1)
_lock = RLock()  # an object may die, and say so, while one is being numbered


def digest(chains: Sequence[Any], *others: Any) -> bytes:
    """Equal for the same chains with the same other things beside them (functions, plain values), in this process."""
    own = [_mark(found) for chain in chains for found in own_objects(chain)]
    beside = [_mark(found) for other in others for found in _own(other, _DEPTH, set())]
    plain = [repr(other) for other in others if isinstance(other, bool | int | float | str | None)]
    return fingerprint.digest({**form_of(chains), "own": own, "beside": beside, "plain": plain})


def form_of(chains: Sequence[Any]) -> dict[str, Any]:
    """The chains as they are described, and how their parts are put together."""
    form: dict[str, Any] = {
        f"chain {place}": fingerprint.describe(chain) for place, chain in enumerate(chains)
    }
    return form | {"shape": [_shape(chain, {}) for chain in chains]}


def _shape(runnable: Any, seen: dict[int, int]) -> Any:
    """The tree of parts by class and label; a part that was met before, by its number."""
    if (number := seen.get(id(runnable))) is not None:
        return number
    seen[id(runnable)] = len(seen)
    return [
        type(runnable).__qualname__,
        *([label, _shape(child, seen)] for label, child in children(runnable)),
    ]


def own_objects(chain: Any) -> Iterator[Any]:
    """What a chain holds that its description leaves out, in an order that is the chain's own.

    That is objects that are not LangChain's and not plain data; where a request goes, and what has the name of a
    secret and may be none, as a prompt's `{key}` (both as text).
    """
    for part in parts(chain):
        runnable = part.runnable
        if not is_library(runnable):
            yield runnable
            continue
        for name in _ASKING:  # its address may come from the environment, which no field shows
            if (address := getattr(getattr(runnable, name, None), "base_url", None)) is not None:
                yield str(address)
        made_of = functions(runnable) if isinstance(runnable, RunnableGenerator) else attributes(runnable)
        yield from _own(dict(made_of), _DEPTH, set())


def _own(value: Any, depth: int, seen: set[int], *, unsaid: bool = False) -> Iterator[Any]:
    """`unsaid`: the description leaves out plain data here, because of its name."""
    if isinstance(value, str) and (unsaid or "://" in value):
        yield str(value)
        return
    if unsaid and isinstance(value, bytes | int | float | complex | None):
        yield repr(value)
        return
    if isinstance(value, _SAID) or id(value) in seen or (isinstance(value, Runnable) and is_library(value)):
        return  # plain data, and LangChain's Runnables, which are parts of their own
    seen.add(id(value))
    inside = _inside(value)
    if inside is None or not depth:
        yield value
        return
    if isinstance(value, Mapping):
        yield from _own_of_named(value, depth, seen, unsaid=unsaid)
        return
    for part in inside:
        yield from _own(part, depth - 1, seen, unsaid=unsaid)


def _own_of_named(named: Mapping[Any, Any], depth: int, seen: set[int], *, unsaid: bool) -> Iterator[Any]:
    for name, part in named.items():
        if name in _LEFT_OUT or part is None or part is False:
            continue
        if name in _SENT_ALONG:
            if part:
                yield f"{name}://{part}"
            continue
        left_out = unsaid or is_secret(str(name), part)
        if left_out and not isinstance(part, SecretStr | SecretBytes):
            yield f"{name}://"
        yield from _own(part, depth - 1, seen, unsaid=left_out)


def _inside(value: Any) -> Iterable[Any] | None:
    """What makes a value what it is, where that can be told without the value itself."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list | tuple | AbstractSet):
        return value
    if isinstance(value, MethodType):  # made anew each time it is looked up
        return (value.__self__, value.__func__)
    if not is_library(value):
        return None
    if isinstance(value, FunctionType | partial):
        return [part for _, part in closed_over(value)]
    return None if callable(value) else [attributes(value)]


def _mark(found: Any) -> str | int:
    return found if isinstance(found, str) else _number(found)


def _number(found: Any) -> int:
    """One number for each object, never given twice; a new one each time for what cannot be watched."""
    with _lock:
        number, alive = _numbers.get(id(found), (0, None))
        if alive is not None and alive() is found:
            return number
        try:
            watched = weakref.ref(found, partial(_forget, id(found)))
        except TypeError:
            return next(_next)
        number = next(_next)
        _numbers[id(found)] = (number, watched)
        return number


def _forget(at: int, gone: weakref.ref[Any]) -> None:
    with _lock:
        if (known := _numbers.get(at)) is not None and known[1] is gone:
            del _numbers[at]
