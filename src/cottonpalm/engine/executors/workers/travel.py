"""Packs a chain for another process of this run. What is packed is never kept: it goes to a worker, and nowhere else.

A model object holds locks and clients, which cannot travel. It is made anew there from what its maker was told; its
key comes from the worker's own environment, and is never packed.
"""

from __future__ import annotations

import io
import os
import pickle
import sys
from typing import TYPE_CHECKING, Any, Final

from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseLanguageModel
from pydantic import BaseModel, SecretStr

from cottonpalm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

_CLIENTS: Final = frozenset({"client", "async_client", "root_client", "root_async_client"})
_OWN_CLIENTS: Final = frozenset({"http_client", "http_async_client"})
_INSTEAD: Final = "or build the model within a function of a module that the workers can import"
# For servers without keys.
_NO_KEYS: Final = frozenset({"", "none", "None", "EMPTY", "dummy", "not-needed", "no-key"})


def packed(thing: Any, name: str = "the chain") -> bytes:
    """Return an object, functions and classes of the running script included, as bytes for a worker.

    Args:
        thing: what travels.
        name: what the user calls it.

    Raises:
        ConfigError: a part of it cannot travel; the error names the part and says what to do.
    """
    made = io.BytesIO()
    try:
        _pickler()(made, protocol=pickle.HIGHEST_PROTOCOL).dump(thing)
    except ConfigError:
        raise
    except Exception as exc:
        found = next(_culprits(thing, name), None)
        where = f"{found[0]} ({found[1]})" if found else f"{type(exc).__name__}: {exc}"
        raise ConfigError(
            f"{name} cannot travel to another process: {where}. Make it within a function, {_INSTEAD}"
        ) from exc
    return made.getvalue()


def unpacked(data: bytes) -> Any:
    """Return what `packed` has packed in this run's own process.

    Raises:
        ConfigError: something that it names is not here.
    """
    try:
        return pickle.loads(data)  # noqa: S301 - it came from our own process, by a channel of our own
    except (ImportError, AttributeError) as exc:
        raise ConfigError(
            f"the chain names what is not there where the workers run ({exc}): install that module there, or define"
            " what the chain uses in the script itself, whose functions travel along"
        ) from exc


def _pickler() -> type[Any]:
    try:
        import cloudpickle  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra
    except ImportError:
        try:
            from ray import cloudpickle  # noqa: PLC0415 - an extra
        except ImportError:
            return _with_models(pickle.Pickler)
    return _with_models(cloudpickle.Pickler)


def _with_models(base: Any) -> type[Any]:
    class Pickler(base):  # type: ignore[misc]
        """Replaces each model by what its maker was told."""

        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, BaseLanguageModel | Embeddings) and isinstance(obj, BaseModel):
                return _made, (type(obj), _told(obj))
            if isinstance(obj, io.TextIOWrapper) and not _is_standard(obj):
                # cloudpickle would send a copy of one that is read, and each worker would read all of it
                raise pickle.PicklingError("an open file stays in its process")
            other = getattr(super(), "reducer_override", None)
            return NotImplemented if other is None else other(obj)

    return Pickler


def _is_standard(file: io.TextIOWrapper) -> bool:
    """Whether it is this process's own input or output: each worker has its own, which takes its place there."""
    return any(file is one for one in (sys.stdin, sys.stdout, sys.stderr))


def _made(cls: type[Any], told: dict[str, Any]) -> Any:
    return cls(**told)


def _told(model: BaseModel) -> dict[str, Any]:
    """Return what a model was made with, without clients and without keys."""
    cls, told = type(model), dict[str, Any]()
    for name in model.model_fields_set:
        value, field = getattr(model, name), cls.model_fields[name]
        if name in _CLIENTS:
            continue
        if name in _OWN_CLIENTS and value is not None:
            raise ConfigError(
                f"{cls.__name__}: {name} cannot travel to another process; leave it out, {_INSTEAD}"
            )
        if isinstance(value, SecretStr) and value.get_secret_value() not in _NO_KEYS:
            if value.get_secret_value() in os.environ.values():
                continue  # the workers find it in their environment
            raise ConfigError(
                f"{cls.__name__}: {name} is set in code, and no key travels: put it in the workers' environment,"
                f" {_INSTEAD}"
            )
        known = cls.model_config.get("populate_by_name") or field.alias is None
        told[name if known else str(field.alias)] = value
    return told


def _culprits(thing: Any, path: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Yield what cannot be packed, the innermost part first: its path, and its type."""
    if depth > 8:
        return
    for name, part in _parts(thing):
        try:
            _pickler()(io.BytesIO()).dump(part)
        except Exception:  # noqa: BLE001 - that is what we look for
            yield from _culprits(part, f"{path} -> {name}", depth + 1)
            yield f"{path} -> {name}", f"{type(part).__module__}.{type(part).__qualname__}"
            return


def _parts(thing: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(thing, dict):
        yield from ((str(key), value) for key, value in thing.items())
    elif isinstance(thing, list | tuple):
        yield from ((str(number), value) for number, value in enumerate(thing))
    elif (code := getattr(thing, "__code__", None)) is not None:
        names = {name: thing.__globals__[name] for name in code.co_names if name in thing.__globals__}
        yield from ((f"global {name!r}", value) for name, value in names.items())
        cells = zip(code.co_freevars, thing.__closure__ or (), strict=False)
        yield from ((f"{name!r}", cell.cell_contents) for name, cell in cells)
    else:
        yield from vars(thing).items() if hasattr(thing, "__dict__") else ()
