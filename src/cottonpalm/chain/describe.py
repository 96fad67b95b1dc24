"""Describes any value as JSON that is the same in every process: no addresses, no secrets, code only as a hash."""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections import deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from enum import Enum
from functools import partial
from hashlib import sha256
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Final

import orjson
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from pydantic import BaseModel, SecretBytes, SecretStr

from cottonpalm.chain.walk import LIBRARIES, attributes, closed_over
from cottonpalm.redact import is_secret, public_url
from cottonpalm.stores.rules.changes import CODE, STATE

_DEPTH: Final = 12
_SCALARS: Final = (str, int, float, bool)
_SAID_BESIDE: Final = ("name", "role", "tool_call_id", "tool_calls", "additional_kwargs")
_MUTABLE: Final = (list, dict, set, deque, bytearray)
_NOT_ANSWER_SHAPING: Final = frozenset(
    (
        "async_client",
        "cache",
        "callback_manager",
        "callbacks",
        "client",
        "config_factories",
        "config_specs",
        "custom_get_token_ids",
        "custom_input_type",
        "custom_output_type",
        "default_headers",
        "default_query",
        "default_request_timeout",
        "disable_streaming",
        "func_accepts",
        "http_async_client",
        "http_client",
        "http_socket_options",
        "include_response_headers",
        "input_types",
        "input_variables",
        "lc_versions",
        "max_retries",
        "metadata",
        "name",
        "openai_organization",
        "openai_proxy",
        "optional_variables",
        "organization",
        "profile",
        "project",
        "rate_limiter",
        "request_timeout",
        "root_async_client",
        "root_client",
        "service_tier",
        "stream_chunk_timeout",
        "stream_usage",
        "streaming",
        "tags",
        "tiktoken_model_name",
        "timeout",
        "trace",
        "validate_template",
        "verbose",
    )
)


def described(value: Any, depth: int = _DEPTH, *, schema: bool = False) -> Any:
    """Return the JSON form of a value. `schema`: its names are properties of a JSON schema, not parameters."""
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, str):
        return public_url(str(value))
    if value is None or isinstance(value, bool | int | float):
        return value if _is_json(value) else repr(value)
    if not depth or isinstance(value, SecretStr | SecretBytes):
        return None
    if isinstance(value, type):
        return _class(value)
    return _compound(value, depth, schema=schema)


def _compound(value: Any, depth: int, *, schema: bool) -> Any:
    if isinstance(value, Mapping):
        return _mapping(value, depth, schema=schema)
    if isinstance(value, list | tuple):
        return [described(part, depth - 1, schema=schema) for part in value]
    if isinstance(value, AbstractSet):
        return sorted((described(part, depth - 1) for part in value), key=_canonical)
    if isinstance(value, bytes | bytearray):
        return {"sha256": sha256(value).hexdigest()}
    is_code = callable(value) and not isinstance(value, BaseModel | Runnable)
    if is_code and (code := code_of(value)) is not None:
        return {CODE: code}
    return _object(value, depth)


def _is_json(value: Any) -> bool:
    if isinstance(value, float):
        return value - value == 0
    return not isinstance(value, int) or abs(value) < 2**53


def _canonical(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _class(cls: type) -> Any:
    """Describe a Pydantic class by its schema, any other class by its name."""
    if issubclass(cls, BaseModel):
        try:
            return {"class": cls.__name__, "schema": cls.model_json_schema()}
        except Exception:  # noqa: BLE001 - fields without a JSON form; then the names of the fields have to do
            return {"class": cls.__name__, "fields": sorted(cls.model_fields)}
    return class_path(cls)


def _mapping(value: Mapping[Any, Any], depth: int, *, schema: bool) -> dict[str, Any]:
    found = {}
    for name, part in sorted(value.items(), key=lambda pair: str(pair[0])):
        text = str(name)
        if not (schema and isinstance(part, Mapping | list | bool)) and is_secret(text, part):
            continue
        found[text] = described(
            part, depth - 1, schema=text in ("properties", "$defs", "required", "definitions")
        )
    return found


def _object(value: Any, depth: int) -> Any:
    """Describe a message by its content, any other object by its public fields; a Runnable is a part itself."""
    if isinstance(value, Runnable) and not _is_template(value):
        return {"runnable": type(value).__name__}
    cls = type(value)
    if isinstance(value, BaseMessage):
        return {"class": cls.__name__, "content": described(value.content, depth - 1)} | _beside(value, depth)
    if callable(form := getattr(value, "isoformat", None)):
        return form()
    return {"class": class_path(cls), **fields_of(value, depth)}


def _beside(message: BaseMessage, depth: int) -> dict[str, Any]:
    """Return what a message says besides its content."""
    found = {name: getattr(message, name, None) for name in _SAID_BESIDE}
    return {name: described(part, depth - 1) for name, part in found.items() if part}


def class_path(cls: type) -> str:
    """Return package and name, without the module: libraries move their classes between modules."""
    return f"{cls.__module__.partition('.')[0]}.{cls.__qualname__}"


def _is_template(value: Any) -> bool:
    return hasattr(value, "format_prompt")


def fields_of(value: Any, depth: int = _DEPTH) -> dict[str, Any]:
    """Return an object's public fields that are set and shape an answer."""
    found = {}
    for name, part in attributes(value).items():
        if name in _NOT_ANSWER_SHAPING and not (name == "name" and isinstance(value, BaseTool)):
            continue
        if part is None or part is False or _is_empty(part) or is_secret(name, part):
            continue
        if isinstance(part, Runnable) and not _is_template(part):
            continue  # it is a part itself
        form = described(part, depth - 1)
        if form is None or form == {}:  # nothing is left without the secrets
            continue
        if isinstance(part, _MUTABLE) and not hasattr(type(value), "model_fields"):
            form = {CODE: STATE + _hash(_canonical(form))}  # state may change during a run: warn only
        found[name] = form
    return found


def _is_empty(part: Any) -> bool:
    return isinstance(part, Mapping | list | tuple | AbstractSet) and not part


def code_of(function: Any) -> str | None:
    """Return a hash of a function's source, or of its bytecode (only comparable within one Python minor version).

    Scalars that it closes over count. Objects that it closes over do not, since they may change during a run.
    """
    if isinstance(function, partial):
        inner = code_of(function.func)
        bound = [described(function.args, 3), described(function.keywords, 3)]
        return (
            None if inner is None else f"{inner.partition(':')[0]}:{_hash(inner.encode(), _canonical(bound))}"
        )
    if isinstance(function, BuiltinFunctionType):
        return f"source:{_hash(function.__qualname__.encode())}"
    if isinstance(function, MethodType):
        function = function.__func__
    if isinstance(wrapped := getattr(function, "__wrapped__", None), FunctionType):
        function = wrapped
    if not isinstance(function, FunctionType):
        return class_code(type(function)) if callable(function) else None
    return _function_code(function)


def _function_code(function: FunctionType) -> str:
    bound = [[name, described(v)] for name, v in closed_over(function) if isinstance(v, _SCALARS)]
    scalars = _canonical(bound)
    code = function.__code__
    try:
        source = textwrap.dedent(inspect.getsource(function)).strip()
        if code.co_name == "<lambda>":
            source += f"\n{_body_of_lambda(function)}"
    except (OSError, TypeError):
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        constants = [c for c in code.co_consts if isinstance(c, str | int | float | bytes | None)]
        return f"{version}:{_hash(code.co_code, repr((constants, code.co_names)).encode(), scalars)}"
    return f"source:{_hash(source.encode('utf-8', 'surrogatepass'), scalars)}"


def _body_of_lambda(function: FunctionType) -> str:
    """Return the text of a lambda's body only: its lines may hold other lambdas, or end before the lambda."""
    starts, ends = [], []
    for line, last, start, end in function.__code__.co_positions():
        if line is None or last is None or start is None or end is None:
            continue
        if (line, start) != (last, end):  # instructions that Python adds itself have no width
            starts.append((line, start))
            ends.append((last, end))
    if not starts:
        return ""
    (line, start), (last, end) = min(starts), max(ends)
    lines, _ = inspect.findsource(function)
    text = [one.encode("utf-8", "surrogatepass") for one in lines[line - 1 : last]]  # columns count bytes
    text[-1] = text[-1][:end]
    text[0] = text[0][start:]
    return b"".join(text).decode("utf-8", "replace")


def class_code(cls: type) -> str | None:
    """Return a hash of a class's source; None if the source is not readable, or the class is LangChain's."""
    if cls.__module__.partition(".")[0].startswith(LIBRARIES):
        return None
    try:
        return f"source:{_hash(textwrap.dedent(inspect.getsource(cls)).strip().encode('utf-8', 'surrogatepass'))}"
    except (OSError, TypeError):
        return None


def _hash(*parts: bytes) -> str:
    hasher = sha256()
    for part in parts:
        hasher.update(b"%d:" % len(part) + part)
    return hasher.hexdigest()
