"""The limits of spending, as numbers."""

from __future__ import annotations

from typing import NamedTuple


class Amounts(NamedTuple):
    """The limits of spending, in pico-dollars; None for no limit.

    Attributes:
        total: the limit for all spending together.
        per_hour: the limit for any sliding hour.
        wait: at the hourly limit, wait and keep an even pace instead of stopping.
    """

    total: int | None = None
    per_hour: int | None = None
    wait: bool = False

    @property
    def plain(self) -> int:
        """The total limit if it is the only limit; else -1."""
        return -1 if self.total is None or self.per_hour is not None else self.total
