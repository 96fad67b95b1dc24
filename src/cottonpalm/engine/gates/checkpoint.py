"""Answers a row from the store when an earlier process has done it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cottonpalm.stores.codec.records import unpack

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cottonpalm.types import Item, Outcome, Parked


class CheckpointGate:
    """The outermost gate: what is stored is never asked, nor paid, again."""

    def __init__(self, types: Mapping[str, type]) -> None:
        self._types = types

    def admit(self, item: Item) -> Outcome | None:
        """The stored outcome, or None for a row that is still to be done."""
        if item.stored is None:
            return None
        outcome = unpack(item.stored, item.index, self._types)
        outcome.id, outcome.input, outcome.stored = item.id, item.row, True
        return outcome

    def settle(self, item: Item, outcome: Outcome | Parked) -> None:
        """Nothing to do: the row's record is written by the delivery, before the reader sees the outcome."""

    def close(self) -> None:
        """Nothing is held."""
