"""A provider on loopback, and a book on disk."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from cottonpalm import clock
from tests.batches.kit import PROVIDERS, Disk
from tests.support.batch_provider import BatchProvider

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def server() -> Iterator[BatchProvider]:
    with BatchProvider() as server:
        yield server


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "book.db")
    yield disk
    disk.close()


@pytest.fixture(params=PROVIDERS)
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def set_clock() -> Iterator[Callable[[float], None]]:
    """Sets the clock of this machine ahead by so many seconds, as a time server may."""
    yield lambda ahead_s: clock.replace(wall_=lambda: time.time() + ahead_s)
    clock.replace()
