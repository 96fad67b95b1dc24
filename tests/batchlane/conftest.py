"""A provider on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.batch_provider import BatchProvider

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[BatchProvider]:
    with BatchProvider() as server:
        yield server
