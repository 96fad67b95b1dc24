"""The environment in which the pages' blocks run: an empty folder, and a provider on the loopback for every model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cottonpalm.local import server
from tests.support.loopback import Loopback

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def provider() -> Iterator[Loopback]:
    """Answers each question with `answer to: ` and the question."""
    with Loopback() as running:
        yield running


@pytest.fixture
def reader(provider: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of somebody who reads the page, has keys, and types what it says."""
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-a-reader")
    monkeypatch.setenv("OPENAI_BASE_URL", provider.openai_url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key-of-a-reader")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", provider.url)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    server.stop()
