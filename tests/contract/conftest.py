"""One fixture: a way to open the same store again. A new kind of store joins the suite by one more parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from cottonpalm.protocols import Store
from cottonpalm.stores import MemoryStore, open_store

if TYPE_CHECKING:
    from pathlib import Path

Reopen = Callable[[], Store]


def _memory(request: pytest.FixtureRequest, path: Path) -> Reopen:
    store = MemoryStore()
    return lambda: store


def _sqlite(request: pytest.FixtureRequest, path: Path) -> Reopen:
    return lambda: open_store(path / "store.db")


def _postgres(request: pytest.FixtureRequest, path: Path) -> Reopen:
    url = request.getfixturevalue("postgres_url")
    return lambda: open_store(url)


_MADE = {"memory": _memory, "sqlite": _sqlite, "postgres": _postgres}


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reopen]:
    """Each call opens the store anew, as a second program would; all are closed at the end."""
    make, opened = _MADE[request.param](request, tmp_path), list[Store]()

    def open_one() -> Store:
        opened.append(make())
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture(params=["sqlite", "postgres"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty store that other processes can open too."""
    if request.param == "sqlite":
        return str(tmp_path / "store.db")
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def store(reopen: Reopen) -> Store:
    return reopen()
