"""Hashes the text of the user's own code. What the code reads from outside is found by `uses.py`."""

from __future__ import annotations

import inspect
import os
import sys
import textwrap
from functools import partial
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from types import BuiltinFunctionType, CodeType, FunctionType, MethodDescriptorType, MethodType
from typing import Any, Final
from weakref import WeakKeyDictionary

from cottonpalm.chain.installed import LIBRARIES

_FORM: Final = "cottonpalm_form"  # on a class of ours: a number, raised by hand when it makes other answers
_OURS: Final = "cottonpalm"
_TRIES: Final = 1000
_parsing = Lock()  # held for as long as it takes to parse a file
# To find one, Python parses its whole file.
_class_texts: WeakKeyDictionary[type, str | None] = WeakKeyDictionary()


def code_of(function: Any) -> str | None:
    """Return a hash of a function's source, or of its bytecode (only comparable within one Python minor version)."""
    if isinstance(function, partial):
        return code_of(function.func)
    if is_builtin(function):
        return f"source:{hash_of(_name_of_builtin(function).encode())}"
    if isinstance(function, MethodType):
        function = function.__func__
    if not isinstance(function, FunctionType) and isinstance(
        wrapped := getattr(function, "__wrapped__", None), FunctionType
    ):
        function = wrapped
    if not isinstance(function, FunctionType):
        return class_code(type(function)) if callable(function) else None
    return _function_code(function)


def is_builtin(code: Any) -> bool:
    """Whether it is a function, a method or a class written in C, also in a `partial`: it has a name, and no text."""
    if isinstance(code, partial):
        return is_builtin(code.func)
    in_c = isinstance(code, type) and code.__module__ == "builtins"
    return in_c or isinstance(code, BuiltinFunctionType | MethodDescriptorType)


def _name_of_builtin(code: Any) -> str:
    held = getattr(code, "__objclass__", code)  # a method's class says where it stands
    return f"{held.__module__}.{code.__qualname__}"


def _function_code(function: FunctionType) -> str:
    code = function.__code__  # its own: `inspect` would go on to the one that a decorator has wrapped
    try:
        source = _source_of(code)
        if code.co_name == "<lambda>":
            source += f"\n{_body_of_lambda(code)}"
    except (OSError, TypeError):
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        constants = [c for c in code.co_consts if isinstance(c, str | int | float | bytes | None)]
        return f"{version}:{hash_of(code.co_code, repr((constants, code.co_names)).encode())}"
    return f"source:{hash_of(_bytes(source), b'[]')}"


def _source_of(code: CodeType | type) -> str:
    """Python 3.11 finds a class by parsing its file, which fails at times while another thread parses one too."""
    with _parsing:
        for _ in range(_TRIES):
            try:
                return textwrap.dedent(inspect.getsource(code)).strip()
            except SystemError:
                continue
        return textwrap.dedent(inspect.getsource(code)).strip()


def _body_of_lambda(code: CodeType) -> str:
    """Return the text of a lambda's body only: its lines may hold other lambdas, or end before the lambda."""
    starts, ends = [], []
    for line, last, start, end in code.co_positions():
        if line is None or last is None or start is None or end is None:
            continue
        if (line, start) != (last, end):  # what Python puts in of its own has no width
            starts.append((line, start))
            ends.append((last, end))
    if not starts:
        return ""
    (line, start), (last, end) = min(starts), max(ends)
    lines, _ = inspect.findsource(code)
    text = [_bytes(one) for one in lines[line - 1 : last]]  # columns are bytes
    text[-1] = text[-1][:end]
    text[0] = text[0][start:]
    return b"".join(text).decode("utf-8", "replace")


def class_code(cls: type) -> str | None:
    """Return a hash of a class's source; None if the source is not readable, or the class is LangChain's.

    Our own classes are identified by the number of their form, so that an edit of their text changes no user's run.
    """
    top = cls.__module__.partition(".")[0]
    if top.startswith(LIBRARIES):
        return None
    if top == _OURS:
        return own_form(cls)
    if cls not in _class_texts:
        _class_texts[cls] = _class_text(cls)
    return _class_texts[cls]


def _class_text(cls: type) -> str | None:
    try:
        return f"source:{hash_of(_bytes(_source_of(cls)))}"
    except (OSError, TypeError):
        return None


def own_form(cls: type) -> str | None:
    """Return the form's number of one of our classes that makes or changes answers; None for any other class."""
    form = getattr(cls, _FORM, None) if cls.__module__.partition(".")[0] == _OURS else None
    return None if form is None else f"form:{form}"


def module_code(name: str) -> str | None:
    """Return a hash of a module's file, found without an import; None if there is no file to read."""
    file = getattr(sys.modules.get(name), "__file__", None)
    try:
        if file is None and (name.partition(".")[0] == name or name.rpartition(".")[0] in sys.modules):
            file = getattr(find_spec(name), "origin", None)  # would import what the name is inside of
        return None if file is None else f"source:{hash_of(Path(file).read_bytes())}"
    except (ImportError, OSError, ValueError):
        return None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def hash_of(*parts: bytes) -> str:
    """SHA-256 of the parts, each with its length before it."""
    hasher = sha256()
    for part in parts:
        hasher.update(b"%d:" % len(part) + part)
    return hasher.hexdigest()


def _after_fork() -> None:
    global _parsing  # noqa: PLW0603 - another thread of the parent may have held it
    _parsing = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
