"""Describes any value as JSON that is the same in every process: no addresses, no secrets, code only as a hash."""

from __future__ import annotations

import dataclasses
import os
import re
from collections import deque
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from datetime import date, time
from enum import Enum
from hashlib import sha256
from types import BuiltinFunctionType, ModuleType
from typing import Any, Final

import orjson
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from pydantic import BaseModel, SecretBytes, SecretStr

from cottonpalm.chain.code import class_code, code_of, hash_of, is_builtin, module_code
from cottonpalm.chain.installed import is_library, module_of, release_of
from cottonpalm.chain.reads import GETTERS, Imported, Read, asked_of, attributes
from cottonpalm.chain.uses import is_code, uses
from cottonpalm.chain.walk import parts
from cottonpalm.redact import is_secret, looks_secret, public_url
from cottonpalm.stores.rules.changes import CODE, INSTALLED, STATE, USES

_DEPTH: Final = 12
_PLAIN: Final = (str, bytes, bytearray, int, float, type(None), Enum, SecretStr, SecretBytes, date, time)
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
        return valid(public_url(str(value)))
    if isinstance(value, float):
        value = float(value)  # NumPy's is one too, and no JSON
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
        return sorted((described(part, depth - 1) for part in value), key=canonical)
    if isinstance(value, bytes | bytearray):
        return {"sha256": sha256(value).hexdigest()}
    if callable(value) and not isinstance(value, BaseModel | Runnable) and (form := code_form(value)):
        return form
    return _object(value, depth)


def _is_json(value: Any) -> bool:
    if isinstance(value, float):
        return value - value == 0
    return not isinstance(value, int) or abs(value) < 2**53


def valid(text: str) -> str:
    """The text as JSON can hold it: halves of surrogate pairs, which no UTF-8 has, are spelt out."""
    return text.encode(errors="backslashreplace").decode()


def canonical(value: Any) -> bytes:
    """A description as bytes, equal for equal ones."""
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
        text = valid(str(name))
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
            form = {CODE: STATE + hash_of(canonical(form))}  # it may change as it runs: no reason to refuse
        found[name] = form
    return found


def _is_empty(part: Any) -> bool:
    return isinstance(part, Mapping | list | tuple | AbstractSet) and not part


# -- the user's own code, and what it reads


def code_form(code: Any, beside: frozenset[int] = frozenset()) -> dict[str, Any]:
    """A function, or a class by its methods: the hash of its text, and of each value that it reads, by name.

    Empty for what has no text to read. Of what code reads no value is shown: it may be private.

    Args:
        code: any callable, or a class.
        beside: by `id`, what is a part of the chain of its own.
    """
    text = class_code(code) if isinstance(code, type) and not is_builtin(code) else code_of(code)
    if text is None:
        return {}
    read = {one.name: form for one in uses(code) if id(one.value) not in beside and (form := _used(one))}
    return {CODE: text} | ({USES: read} if read else {})


def _used(read: Read) -> str | None:
    """Return the form of a value that code reads; None if the value does not count."""
    value = read.value
    if value is os.environ:  # most of it is of no concern to a chain, and differs in every shell
        return None
    if isinstance(value, str | bytes) and _may_be_private(read.name, value):
        return None
    if (known := _code_read(value)) is not None:
        return known or None
    form = _data(value, _DEPTH)
    changes = read.assigned or isinstance(value, _MUTABLE)
    return (STATE if changes else "value:") + hash_of(canonical(form))


def _may_be_private(name: str, value: str | bytes) -> bool:
    text = value if isinstance(value, str) else value.decode("utf-8", "replace")
    is_named_so = is_secret(name.rpartition(".")[2], text) and not any(map(str.isspace, text))
    return is_named_so or looks_secret(text)


def _code_read(value: Any) -> str | None:
    """Of code: what names it, or the hash of its text; empty for LangChain's own. None for data."""
    if isinstance(value, Imported | ModuleType):
        name = value.name if isinstance(value, Imported) else value.__name__
        return _installed(name, "") or module_code(name) or ""
    if not (is_code(value) or isinstance(value, BuiltinFunctionType)):
        return None
    if is_library(value):
        return ""
    named = getattr(value, "__qualname__", "")
    return _installed(module_of(value), named) or _text(value) or ""


def _text(code: Any) -> str | None:
    """The hash of its text; of a Pydantic class, with its schema, which other classes may be in."""
    if not isinstance(code, type):
        return code_of(code)
    if (text := class_code(code)) is None or not issubclass(code, BaseModel):
        return text
    return f"source:{hash_of(text.encode(), canonical(_class(code)))}"


def _installed(module: str, name: str) -> str:
    release = release_of(module)
    return "" if release is None else f"{INSTALLED}{release}: {module}{name and '.'}{name}"


def _data(value: Any, depth: int) -> Any:
    """Data that code reads, as JSON: code inside it is told beside it, and ends the way here."""
    if not depth or is_code(value):
        return None
    for kinds, form in _DATA:
        if isinstance(value, kinds):
            return form(value, depth)
    return _fields(value, depth) if dataclasses.is_dataclass(value) else class_path(type(value))


def _fields(value: Any, depth: int) -> dict[str, Any]:
    found = {"class": class_path(type(value)), CODE: class_code(type(value))}
    for name, part in attributes(value).items():
        is_part = isinstance(part, Runnable) and not _is_template(part)
        if name not in _NOT_ANSWER_SHAPING and not is_secret(name, part) and not is_part:
            found[name] = _data(part, depth - 1)
    return found


def _named(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    named = {valid(str(name)): part for name, part in value.items()}
    return {name: _data(part, depth - 1) for name, part in named.items() if not is_secret(name, part)}


def _members(value: AbstractSet[Any], depth: int) -> list[Any]:
    return sorted((_data(part, depth - 1) for part in value), key=canonical)


# any other object may change while it runs: its class alone
_DATA: list[tuple[Any, Callable[[Any, int], Any]]] = [
    (Runnable, lambda value, depth: [_fields(part.runnable, depth) for part in parts(value)]),
    (BaseModel, _fields),
    (Mapping, _named),
    (GETTERS, lambda value, depth: [type(value).__name__, _data(asked_of(value), depth - 1)]),
    (list | tuple | deque, lambda value, depth: [_data(part, depth - 1) for part in value]),
    (AbstractSet, _members),
    (re.Pattern, lambda value, _: [described(value.pattern), value.flags]),
    (_PLAIN, lambda value, _: described(value)),
]
