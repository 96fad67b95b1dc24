"""Random faults of the provider, and kill -9 at random moments: the short form of `bench/batch_faults.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.batchlane import trouble

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.batch_provider import BatchProvider


@pytest.mark.parametrize(("seed", "provider"), [(1, "openai"), (2, "anthropic")])
def test_killed_again_and_again_every_row_is_answered_once_and_nothing_is_paid_twice(
    server: BatchProvider, tmp_path: Path, seed: int, provider: str
) -> None:
    found = trouble.until_answered(server, tmp_path, seed, 20, provider)
    trouble.check(server, found, 20, tmp_path, provider)
