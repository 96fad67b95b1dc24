"""Answers a row from the store when an earlier process has done it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cottonpalm.stores.codec.records import unpack

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cottonpalm.types import Item, Outcome, Parked


class CheckpointGate:
    """The outermost gate: it never lets a stored row be asked, or paid for, a second time."""

    def __init__(self, types: Mapping[str, type]) -> None:
        self._types = types

    def admit(self, item: Item) -> Outcome | None:
        """Return the stored outcome, or None for a row that is still to be done."""
        if item.stored is None:
            return None
        outcome = unpack(item.stored, item.index, self._types)
        outcome.id, outcome.input, outcome.stored = item.id, item.row, True
        return outcome

    def settle(self, item: Item, outcome: Outcome | Parked) -> None:
        """Do nothing: the delivery writes the row's record before the reader sees the outcome."""

    def close(self) -> None:
        """Do nothing: this gate holds nothing."""
