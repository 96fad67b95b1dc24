"""The stores that make results durable. `open_store` opens a store by its address."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cottonpalm.errors import ConfigError
from cottonpalm.stores.memory import MemoryStore

if TYPE_CHECKING:
    from cottonpalm.protocols import Store

__all__ = ["MemoryStore", "file_of", "open_store"]


def open_store(url: str | Path | Store) -> Store:
    """Return the store at a path, a `sqlite:///` address or `memory:`; a store object is returned as it is.

    Raises:
        ConfigError: no such kind of address.
        StoreError: the file is foreign, locked, read-only, newer than this version, or cannot be made.
    """
    if not isinstance(url, str | Path):
        return _checked(url)
    if (path := file_of(url)) is None:
        return MemoryStore()
    from cottonpalm.stores.sqlite.store import SqliteStore  # noqa: PLC0415 - sqlite3 is only needed here

    return SqliteStore(path)


def file_of(url: str | Path) -> Path | None:
    """Return the file that an address names; None for `memory:`.

    Raises:
        ConfigError: no such kind of address.
    """
    text = str(url)
    if text in ("memory:", "memory://", ":memory:"):
        return None
    if isinstance(url, str) and "://" in text and not text.startswith("sqlite:///"):
        raise ConfigError(
            f"store {text.partition('://')[0]}://…: give a file's path, sqlite:///PATH, or memory:"
        )
    return Path(text.removeprefix("sqlite:///")).expanduser()


def _checked(store: Any) -> Store:
    if not callable(getattr(store, "open_run", None)):
        raise ConfigError(f"store must be a path, an address or a store object, not {type(store).__name__}")
    return cast("Store", store)
