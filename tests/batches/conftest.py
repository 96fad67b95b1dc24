"""A provider on loopback, and a book on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.batches.kit import PROVIDERS, Disk
from tests.support.batch_provider import BatchProvider

if TYPE_CHECKING:
    from collections.abc import Iterator
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
