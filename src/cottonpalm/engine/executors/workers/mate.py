"""One worker as its run sees it: the rows that it has, and what is said to it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from cottonpalm import clock
from cottonpalm.engine.executors.workers.links import Order, WorkerRow
from cottonpalm.events import Binding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cottonpalm.engine.executors.workers.links import Link
    from cottonpalm.events import LimitChanged
    from cottonpalm.request.money.remote import Lumps
    from cottonpalm.types import Item


class Mate:
    """One worker, as its run sees it."""

    def __init__(self, link: Link, lumps: Lumps) -> None:
        self.link, self.lumps = link, lumps
        self.out: dict[int, Item] = {}
        self.wants = self.requests = 0
        self.limit: float | None = None  # it has not said yet
        self.paused_until = 0.0  # by this process's clock
        self.limits: Sequence[LimitChanged] = ()  # by host and model
        self.binding = Binding("", "")
        self.answered = self.stopped = False
        self.apart = False  # it has rows with which others died, and gets no more until they are back
        self.granting: asyncio.Task[None] | None = None  # it waits for money
        self._rows: list[WorkerRow] = []
        self._orders: deque[Order] = deque()
        self._wake = asyncio.Event()

    @property
    def room(self) -> int:
        """How many more rows it wants."""
        return 0 if self.stopped or self.apart else self.wants - len(self.out)

    @property
    def filled(self) -> float:
        """The part of the rows it wants that it has: one that has just come is served before one with more room."""
        return len(self.out) / self.wants

    def give(self, item: Item) -> None:
        """Send it a row, together with those of the same moment."""
        item.began_s = clock.now()
        self.out[item.index] = item
        self._rows.append(WorkerRow(item.index, item.row, item.id, item.priority, item.config))
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
