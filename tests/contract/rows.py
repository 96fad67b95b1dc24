"""Rows to store, and a write that waits."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from cottonpalm.engine.input.keys import content_key
from cottonpalm.protocols import RunStore, Spent, StoredRow

if TYPE_CHECKING:
    from collections.abc import Sequence


def row(
    slot: int, *, status: int = 1, question: object = None, record: bytes | None = None, cost: int = 0
) -> StoredRow:
    key = content_key(slot if question is None else question)
    return StoredRow(slot, key, key, status, record if record is not None else b'{"o":%d}' % slot, cost)


def write(run: RunStore, rows: Sequence[StoredRow], spent: Spent | None = None) -> None:
    """Write one group and wait until it is durable; raises what the store reports."""
    over, errors = threading.Event(), []

    def done(error: BaseException | None) -> None:
        errors.append(error)
        over.set()

    run.write(rows, done, spent)
    assert over.wait(30)
    if errors[0] is not None:
        raise errors[0]
