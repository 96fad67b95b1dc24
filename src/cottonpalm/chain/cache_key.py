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
import sys
import weakref
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from enum import Enum
from functools import partial
from itertools import count
from threading import RLock
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from langchain_core.runnables import Runnable
from langchain_core.runnables.base import RunnableGenerator
from pydantic import SecretBytes, SecretStr

from cottonpalm.chain import fingerprint
from cottonpalm.chain.describe import class_code, class_path, code_of, described
from cottonpalm.chain.fingerprint import functions
from cottonpalm.chain.walk import attributes, children, closed_over, is_library, parts
from cottonpalm.redact import is_secret, looks_secret

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
)  # the description covers these
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


def digest(chains: Sequence[Any], *others: Any) -> bytes:
    """Return a digest that is equal, in this process, for the same chains with the same other functions and values."""
    own = [_mark(found) for chain in chains for found in own_objects(chain)]
    beside = [_mark(found) for other in others for found in _own(other, _DEPTH, set())]
    plain = [repr(other) for other in others if isinstance(other, bool | int | float | str | None)]
    return fingerprint.digest({**form_of(chains), "own": own, "beside": beside, "plain": plain})


def form_of(chains: Sequence[Any]) -> dict[str, Any]:
    """Return the chains' descriptions, and how their parts are put together."""
    form: dict[str, Any] = {
        f"chain {place}": fingerprint.describe(chain) for place, chain in enumerate(chains)
    }
    return form | {"shape": [_shape(chain, {}) for chain in chains]}


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
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list | tuple | AbstractSet):
        return value
    if isinstance(value, MethodType):  # Python makes a new method object at each access
        return (value.__self__, value.__func__)
    if not is_library(value):
        return None
    if isinstance(value, FunctionType | partial):
        return [part for _, part in closed_over(value)]
    return None if callable(value) else [attributes(value)]


def _mark(found: Any) -> str | int:
    return found if isinstance(found, str) else _number(found)


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
_SILENT: Final = (BuiltinFunctionType, logging.Logger, re.Pattern)
_CLIENTS: Final = ("anthropic", "httpx", "httpx2", "openai")  # packages whose clients only carry a request
_OURS: Final = "cottonpalm.cli."  # our own prompts: their fields say everything


class Untold(Exception):
    """A part of a chain cannot be written down; the message names it."""


def lasting_digest(chains: Sequence[Any], version: str | None, *others: Any) -> bytes:
    """Return a digest that is equal, in every process, for the same chains with the same other functions and values.

    Args:
        chains: the chain and its fallbacks.
        version: the user's own version string; it stands for everything that cannot be written down.
        others: other things that shape an answer.

    Raises:
        Untold: a part cannot be written down, and there is no version string.
    """
    form = form_of(chains)
    own = [*(found for chain in chains for found in own_objects(chain)), *others]
    if version is None:
        telling = _Telling()
        return fingerprint.digest({**form, "own": [telling.told(part) for part in own]})
    known = [_told_plainly(part) if isinstance(part, _PLAIN) else code_of(part) for part in own]
    return fingerprint.digest({**form, "own": known, "version": version})


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
        if isinstance(part, list | tuple):
            return [self.told(inside) for inside in part]
        if isinstance(part, dict):
            return [[self.told(name), self.told(inside)] for name, inside in part.items()]
        if isinstance(part, partial):
            return [self.told(part.func), self.told(part.args), self.told(part.keywords)]
        return _told_by_name(part) if _is_installed(part) else self._told_by_text(part)

    def _told_by_text(self, part: Any) -> Any:
        if isinstance(part, type):
            return [described(part), class_code(part)]
        if isinstance(part, FunctionType):
            return self._function(part)
        raise Untold(_shown(part))

    def _function(self, function: FunctionType) -> Any:
        """Return a function's text, its defaults, and what it uses from outside."""
        if id(function) in self._seen:
            return None
        self._seen.add(id(function))
        code = code_of(function)
        if code is None or not code.startswith("source:"):
            raise Untold(_shown(function))
        around = [*(function.__defaults__ or ()), function.__kwdefaults__ or {}, *_used(function)]
        return [code, *(self._beside(part) for part in around)]

    def _beside(self, part: Any) -> Any:
        """Return what a function uses; a Runnable with all its parts."""
        if isinstance(part, Runnable) and (is_library(part) or type(part).__module__.startswith(_OURS)):
            return [fingerprint.describe(part), [self.told(found) for found in own_objects(part)]]
        return self.told(part)


def _told_plainly(part: Any) -> Any:
    return str(part) if isinstance(part, str) else described(part)


def _used(function: FunctionType) -> Iterator[Any]:
    """Yield what a function closes over, and the globals that it names."""
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # the closure's cell is still empty
            continue
    names = sorted(set(_names(function.__code__)))
    yield from (function.__globals__[name] for name in names if name in function.__globals__)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for inside in code.co_consts:
        if isinstance(inside, CodeType):
            yield from _names(inside)


def _is_installed(part: Any) -> bool:
    """Whether a library's code defines what the part does; our own prompts are defined by their description."""
    if isinstance(part, _SILENT):
        return True
    if isinstance(part, ModuleType):
        return _is_installed_module(part.__name__)
    if isinstance(part, type | FunctionType):
        return _is_installed_module(part.__module__)
    module = type(part).__module__
    return module.startswith(_OURS) or module.partition(".")[0] in _CLIENTS


def _is_installed_module(name: str) -> bool:
    top = name.partition(".")[0]
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    return top in sys.stdlib_module_names or top == "cottonpalm" or "site-packages" in file


def _told_by_name(part: Any) -> Any:
    if isinstance(part, re.Pattern):
        return [described(part.pattern), part.flags]
    if isinstance(part, type):
        return class_path(part)
    return getattr(part, "__qualname__", None) or getattr(part, "__name__", None)


def _shown(part: Any) -> str:
    if isinstance(part, ModuleType):
        return f"module {part.__name__}"
    if isinstance(part, FunctionType | MethodType):
        return f"function {part.__qualname__}"
    return f"an object of class {type(part).__qualname__}"
