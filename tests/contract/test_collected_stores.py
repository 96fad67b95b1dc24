"""A store that is collected: wherever the collector runs, it waits for no thread."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING

import pytest

from cottonpalm.stores.sql.answers import Answers
from cottonpalm.stores.sqlite.database import SqliteDatabase
from cottonpalm.stores.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _named(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


@pytest.mark.parametrize(
    ("opened", "name"),
    [
        (SqliteStore, "cottonpalm-writer"),
        (lambda file: Answers(SqliteDatabase(file)), "cottonpalm-cache"),
    ],
)
def test_one_that_is_collected_within_the_lock_of_all_threads_waits_for_none_of_them(
    tmp_path: Path, opened: Callable[[Path], object], name: str
) -> None:
    """As in `threading.enumerate`: a thread that ends needs that lock, so whoever waited for it here would hang."""
    before = set(_named(name))
    kept = [opened(tmp_path / "a.db")]
    [thread] = set(_named(name)) - before
    with threading._active_limbo_lock:  # type: ignore[attr-defined]
        kept.clear()
        gc.collect()
    thread.join(60)
    assert not thread.is_alive(), "told to end, it ends"
