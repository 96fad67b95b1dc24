"""A cache folder and a package folder of each test's own; and the real model where it can be had."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cottonpalm.errors import LocalModelError
from cottonpalm.local import fetch, server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder pip looks in, and an empty cache for this test."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.fixture(scope="module")
def real_model() -> Iterator[None]:
    """The embedded model in the user's own cache, fetched if need be; its engines are ended afterwards."""
    try:
        fetch.ensure(fetch.MODEL, quiet=True)
    except LocalModelError as error:
        pytest.skip(f"the embedded model cannot be had here: {error}")
    yield
    server.stop()
