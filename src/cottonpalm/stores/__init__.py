"""The stores that make results durable. `open_store` opens a store by its address."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from cottonpalm.errors import ConfigError
from cottonpalm.urls import in_memory

if TYPE_CHECKING:
    from cottonpalm.protocols import Store
    from cottonpalm.stores.memory import MemoryStore
    from cottonpalm.stores.sql.database import Database

__all__ = ["MemoryStore", "database_of", "is_in_memory", "open_store", "shown", "without_password"]
_POSTGRES: Final = ("postgresql://", "postgres://")
_PASSWORD: Final = re.compile(
    r"(?P<first>postgres(?:ql)?://[^\s/:@?]*):\S*(?=@)|(?:(?<=[?&])(?:ssl)?password=[^\s&]*&?)",
    re.IGNORECASE,
)


def __getattr__(name: str) -> Any:
    """Import the store in memory when somebody asks for it: to import a processor should cost little."""
    if name != "MemoryStore":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cottonpalm.stores.memory import MemoryStore  # noqa: PLC0415 - see above

    return MemoryStore


def open_store(url: str | Path | Store) -> Store:
    """Return the store at a path or an address; a store object is returned as it is.

    Addresses are `sqlite:///PATH`, `postgresql://USER@HOST:PORT/DATABASE` and `memory:`.

    Raises:
        ConfigError: no such kind of address.
        StoreError: the store is foreign, locked, read-only, newer than this version, or cannot be made or reached.
    """
    if not isinstance(url, str | Path):
        return _checked(url)
    if (database := database_of(url)) is None:
        from cottonpalm.stores.memory import MemoryStore  # noqa: PLC0415 - only needed here

        return MemoryStore()
    from cottonpalm.stores.sql.store import SqlStore  # noqa: PLC0415 - only needed here

    return SqlStore(database)


def is_in_memory(store: object) -> bool:
    """Whether it is a store in memory."""
    from cottonpalm.stores.memory import MemoryStore  # noqa: PLC0415 - only needed here

    return isinstance(store, MemoryStore)


def database_of(url: str | Path) -> Database | None:
    """Return the database that an address names, not opened yet; None for `memory:`.

    Raises:
        ConfigError: no such kind of address, or a package is missing for it.
    """
    text = str(url)
    if in_memory(text):
        return None
    if text.startswith(_POSTGRES):
        from cottonpalm.stores.postgres.database import PostgresDatabase  # noqa: PLC0415 - psycopg is an extra

        return PostgresDatabase(text, shown(text))
    if isinstance(url, str) and "://" in text and not text.startswith("sqlite:///"):
        raise ConfigError(
            f"store {text.partition('://')[0]}://…: give a file's path, sqlite:///PATH,"
            " postgresql://USER@HOST/DATABASE, or memory:"
        )
    from cottonpalm.stores.sqlite.database import SqliteDatabase  # noqa: PLC0415 - sqlite3 is only needed here

    return SqliteDatabase(Path(text.removeprefix("sqlite:///")).expanduser())


def shown(url: object) -> str:
    """Return a store's address as it may be shown: without a password, and a file by its path alone."""
    text = str(url) if isinstance(url, str | Path) else repr(url)
    return without_password(text).removeprefix("sqlite:///")


def without_password(text: str) -> str:
    """Return the text without the password of an address of Postgres; the address still works where one is known."""
    return _PASSWORD.sub(lambda found: found["first"] or "", text)


def _checked(store: Any) -> Store:
    if not callable(getattr(store, "open_run", None)):
        raise ConfigError(f"store must be a path, an address or a store object, not {type(store).__name__}")
    return cast("Store", store)
