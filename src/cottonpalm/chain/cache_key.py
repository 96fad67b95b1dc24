"""Decides when two chains are the same, so that a cached answer of one may be used for the other.

A fingerprint says what changed between two processes; it identifies a function by its source text. Within a process
that is not enough, since two functions with the same text may hold different objects. So in `digest`, the user's own
objects (functions, classes, clients, instances) count by identity, and all other parts by their description. Between
processes (`lasting_digest`), only what can be written down counts: prompts, models, parameters, addresses, the text of
functions and of what they use. If a chain holds anything else, only its author knows when it changes, and can say so
with a version string.
"""

from __future__ import annotations

import logging
import re
import weakref
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from enum import Enum
from functools import partial
from itertools import count
from threading import RLock
from types import BuiltinFunctionType, FunctionType, MethodDescriptorType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from langchain_core.runnables import Runnable
from langchain_core.runnables.base import RunnableGenerator
from pydantic import SecretBytes, SecretStr

from cottonpalm.chain import fingerprint
from cottonpalm.chain.code import class_code, code_of, own_form
from cottonpalm.chain.describe import canonical, class_path, code_form, described, valid
from cottonpalm.chain.installed import is_library, module_of, release_of
from cottonpalm.chain.reads import GETTERS, Imported, asked_of, attributes, closed_over, looks_up_by_text
from cottonpalm.chain.uses import uses
from cottonpalm.chain.walk import children, functions, parts
from cottonpalm.redact import is_secret, looks_secret
from cottonpalm.stores.rules.changes import STATE, USES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_DEPTH: Final = 8
# the description covers these
_SAID: Final = (str, bytes, int, float, complex, type(None), Enum, SecretStr, SecretBytes)
_LEFT_OUT: Final = frozenset(
    (
        *("async_client", "client", "root_async_client", "root_client"),  # made from other fields
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

_numbers: dict[int, tuple[int, weakref.ref[Any]]] = {}  # object's id -> its number, while the object lives
_next = count(1)
_lock = RLock()  # re-entrant: while we number an object, another may die and call us


Described: TypeAlias = "Sequence[dict[str, Any]] | None"  # `fingerprint.describe` of each chain, if known


def digest(chains: Sequence[Any], *others: Any, described: Described = None) -> bytes:
    """Return a digest that is equal, in this process, for the same chains with the same other functions and values."""
    own = [mark for chain in chains for found in own_objects(chain) for mark in _marks(found)]
    beside = [mark for other in others for found in _own(other, _DEPTH, set()) for mark in _marks(found)]
    plain = [repr(other) for other in others if isinstance(other, bool | int | float | str | None)]
    return fingerprint.digest({**form_of(chains, described), "own": own, "beside": beside, "plain": plain})


def form_of(chains: Sequence[Any], described: Described = None) -> dict[str, Any]:
    """Return the chains' descriptions, and how their parts are put together."""
    if described is None:
        described = [fingerprint.describe(chain) for chain in chains]
    form: dict[str, Any] = {f"chain {place}": _steady(each) for place, each in enumerate(described)}
    return form | {"shape": [_shape(chain, {}) for chain in chains]}


def _steady(form: Any) -> Any:
    """A description without the state that functions change while they run: lists that they fill, and the like."""
    if isinstance(form, list):
        return [_steady(part) for part in form]
    if not isinstance(form, dict):
        return form
    return {
        name: {at: mark for at, mark in part.items() if not mark.startswith(STATE)}
        if name == USES
        else _steady(part)
        for name, part in form.items()
    }


def _shape(runnable: Any, seen: dict[int, int]) -> Any:
    """Return the tree of parts by class and label; a part that was met before is given by its number."""
    if (number := seen.get(id(runnable))) is not None:
        return number
    seen[id(runnable)] = len(seen)
    return [
        type(runnable).__qualname__,
        *([label, _shape(child, seen)] for label, child in children(runnable)),
    ]


def own_objects(chain: Any) -> Iterator[Any]:
    """Yield what a chain holds but its description leaves out, always in the same order.

    These are: objects that are neither LangChain's nor plain data; the address of requests, as text; and values whose
    name sounds like a secret but may be none, such as a prompt's `{key}`, as text.
    """
    for part in parts(chain):
        runnable = part.runnable
        if not is_library(runnable):
            yield runnable
            continue
        for name in _ASKING:  # its address may come from the environment, and no field shows that
            if (address := getattr(getattr(runnable, name, None), "base_url", None)) is not None:
                yield str(address)
        made_of = functions(runnable) if isinstance(runnable, RunnableGenerator) else attributes(runnable)
        yield from _own(dict(made_of), _DEPTH, set())


def _own(value: Any, depth: int, seen: set[int], *, unsaid: bool = False) -> Iterator[Any]:
    """Yield the user's own objects in a value. `unsaid`: because of its name, plain data here is not described."""
    if isinstance(value, str) and (unsaid or "://" in value):
        yield str(value)
        return
    if unsaid and isinstance(value, bytes | int | float | complex | None):
        yield repr(value)
        return
    if isinstance(value, _SAID) or id(value) in seen or (isinstance(value, Runnable) and is_library(value)):
        return  # plain data needs nothing, and LangChain's Runnables are parts themselves
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
    """Return the parts that define a value, if they define it completely; else None."""
    if isinstance(value, Mapping | list | tuple | AbstractSet):
        return value
    if isinstance(value, MethodType):  # Python makes a new method object at each access
        return (value.__self__, value.__func__)
    if isinstance(value, GETTERS) and all(isinstance(part, str | int) for part in asked_of(value)):
        return ()  # the description names them
    if not is_library(value):
        return None
    if isinstance(value, FunctionType | partial):
        return [part for _, part in closed_over(value)]
    return None if callable(value) else [attributes(value)]


def _marks(found: Any) -> Iterator[str | int]:
    """The object's own number, and those of the objects that its code reads by name; a text is itself."""
    if isinstance(found, str):
        yield found
        return
    yield _number(found)
    for read in uses(found):
        if release_of(type(read.value).__module__) is None and type(read.value).__weakrefoffset__:
            yield _number(read.value)


def _number(found: Any) -> int:
    """Return the object's own number; an object that cannot be weakly referenced gets a new one each time."""
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


_PLAIN: Final = (str, bytes, int, float, bool, type(None))
_CLIENTS: Final = ("anthropic", "httpx", "httpx2", "openai")  # packages whose clients only carry a request


class Untold(Exception):
    """A part of a chain cannot be written down; the message names it."""


def lasting_digest(
    chains: Sequence[Any], version: str | None, *others: Any, described: Described = None
) -> bytes:
    """Return a digest that is equal, in every process, for the same chains with the same other functions and values.

    Args:
        chains: the chain and its fallbacks.
        version: the user's own version string; it stands for everything that cannot be written down.
        others: other things that shape an answer.
        described: see `Described`.

    Raises:
        Untold: a part cannot be written down, and there is no version string.
    """
    form = form_of(chains, described)
    own = [*(found for chain in chains for found in own_objects(chain)), *others]
    if version is None:
        telling = _Telling()
        return fingerprint.digest({**form, "own": [telling.told(part) for part in own]})
    known = [_told_plainly(part) if isinstance(part, _PLAIN) else _text_where_told(part) for part in own]
    return fingerprint.digest({**form, "own": known, "version": version})


def _text_where_told(part: Any) -> Any:
    return _steady(code_form(part)) if callable(part) and not isinstance(part, Runnable) else None


class _Telling:
    """Writes down what shapes an answer. It writes each function only once, so that recursion ends."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def told(self, part: Any) -> Any:
        """Return everything that `part` does, as JSON."""
        if isinstance(part, str) and looks_secret(part):
            raise Untold("a text that looks like a credential")  # we do not keep even its hash
        if isinstance(part, _PLAIN):
            return _told_plainly(part)
        if (inside := _contents(part)) is not None:
            told = [self.told(one) for one in inside]
            return sorted(told, key=canonical) if isinstance(part, AbstractSet) else told
        if isinstance(part, FunctionType | BuiltinFunctionType | MethodType | partial):
            return [self._function(part), self.told(_object_of(part))]
        if isinstance(part, Runnable) and is_library(part):
            return [fingerprint.describe(part), [self.told(found) for found in own_objects(part)]]
        return _named(part) or self._class(part)

    def _function(self, function: Any) -> Any:
        """Its text, or the release that it was installed with; and all that it reads, and what it reads so in turn."""
        if id(function) in self._seen:
            return None
        self._seen.add(id(function))
        return [_text_of(function), *([read.name, self._read(read.value)] for read in uses(function))]

    def _read(self, value: Any) -> Any:
        """What a function reads. What code among it reads comes beside it."""
        if isinstance(value, FunctionType | partial):
            self._seen.add(id(value))
            return [_text_of(value), self.told(_object_of(value))]
        if isinstance(value, Runnable) and own_form(type(value)) is not None:
            return fingerprint.describe(value)
        return self.told(value)

    def _class(self, cls: Any) -> Any:
        if not isinstance(cls, type) or (text := class_code(cls)) is None:
            raise Untold(_shown(cls))
        if id(cls) in self._seen:
            return None
        self._seen.add(id(cls))
        return [described(cls), text, *([read.name, self._read(read.value)] for read in uses(cls))]


def _object_of(function: Any) -> Any:
    """The object whose method it is, or that is called, also inside of a `partial`; None for a plain function."""
    while isinstance(function, partial):
        function = function.func
    return None if isinstance(function, FunctionType | type) else getattr(function, "__self__", function)


def _contents(part: Any) -> Iterable[Any] | None:
    """What is in plain data that holds other data; None for anything else."""
    if isinstance(part, dict):
        return part.items()
    if isinstance(part, re.Pattern):
        return (part.pattern, part.flags)
    return part if isinstance(part, list | tuple | AbstractSet) else None


def _told_plainly(part: Any) -> Any:
    return valid(part) if isinstance(part, str) else described(part)


def _text_of(function: Any) -> str:
    """The text of a function, or the name and the release of one that is installed.

    Raises:
        Untold: there is no text, it is not sure that it is the function's, or it does not say what it reads.
    """
    inner = function
    while isinstance(inner, partial | MethodType):
        inner = inner.func if isinstance(inner, partial) else inner.__func__
    if isinstance(inner, FunctionType | BuiltinFunctionType | type) and (named := _named(inner)) is not None:
        return named
    code = code_of(inner)
    by_text = isinstance(inner, FunctionType) and looks_up_by_text(inner)
    if code is None or by_text or not code.startswith("source:"):
        raise Untold(_shown(inner))
    return code


def _named(part: Any) -> str | None:
    """Release, module and name of a library's code, which together say what it does; None for anything else."""
    if isinstance(part, logging.Logger):
        return "logger"
    if isinstance(part, MethodDescriptorType):  # `str.upper`: its class says where it stands
        held = _named(part.__objclass__)
        return None if held is None else f"{held}.{part.__name__}"
    if isinstance(part, Imported | FunctionType | BuiltinFunctionType | ModuleType | type):
        module = part.name if isinstance(part, Imported) else module_of(part)
        release = release_of(module)
        return None if release is None else f"{release}: {module}.{getattr(part, '__qualname__', '')}"
    cls = type(part)
    known = own_form(cls) is not None or module_of(part).partition(".")[0] in _CLIENTS
    return class_path(cls) if known else None  # the description has said what it holds


def _shown(part: Any) -> str:
    if isinstance(part, ModuleType | Imported):
        return f"module {part.name if isinstance(part, Imported) else part.__name__}"
    if isinstance(part, FunctionType | MethodType):
        return f"function {part.__qualname__}"
    return f"an object of class {type(part).__qualname__}"
