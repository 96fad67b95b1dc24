"""One worker as its run sees it: the rows that it has, and what is said to it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from cottonpalm.engine.executors.links import Order, Row

if TYPE_CHECKING:
    from cottonpalm.engine.executors.links import Link
    from cottonpalm.request.money.remote import Lumps
    from cottonpalm.types import Item


class Mate:
    """One worker, as its run sees it."""

    def __init__(self, link: Link, lumps: Lumps) -> None:
        self.link, self.lumps = link, lumps
        self.out: dict[int, Item] = {}
        self.wants = self.requests = 0
        self.limit = 0.0
        self.answered = self.stopped = False
        self.granting: asyncio.Task[None] | None = None  # it waits for money
        self._rows: list[Row] = []
        self._orders: deque[Order] = deque()
        self._wake = asyncio.Event()

    @property
    def room(self) -> int:
        """How many more rows it wants."""
        return 0 if self.stopped else self.wants - len(self.out)

    @property
    def filled(self) -> float:
        """The part of the rows it wants that it has: one that has just come is served before one with more room."""
        return len(self.out) / self.wants

    def give(self, number: int, item: Item) -> None:
        """Send it a row, together with those of the same moment."""
        self.out[number] = item
        self._rows.append(Row(number, item.row, item.id, item.priority, item.config))
        self._wake.set()

    def say(self, order: Order) -> None:
        """Tell it something."""
        self.stopped = self.stopped or order.stop
        self._orders.append(order)
        self._wake.set()

    async def send(self) -> None:
        """Send what there is to send, in order, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            rows, self._rows = self._rows, []
            if rows:
                await self.link.tell(Order(rows))
            while self._orders:
                await self.link.tell(self._orders.popleft())
