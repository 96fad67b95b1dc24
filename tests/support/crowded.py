"""A provider that says by how many requests are there, or were, whether it answers one. For a virtual clock."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from random import Random
from typing import Any

from cottonpalm.testing import FlakyTransport


class Crowded(FlakyTransport, ABC):
    """Answers after about `answer_s`, or gives a status after 0.05 s.

    Attributes:
        asked: requests so far.
        there: of them, those that are not answered yet.
        peak: the most that were there at once.
    """

    def __init__(self, answer_s: float) -> None:
        super().__init__(then=lambda request: request.extensions["says"])
        self.asked = self.there = self.peak = 0
        self._answer_s, self._chance = answer_s, Random(1)

    @abstractmethod
    def says(self) -> int | None:
        """The status that one more request gets, which is counted already; None for an answer."""

    async def handle_async_request(self, request: Any) -> Any:
        self.asked += 1
        self.there += 1
        self.peak = max(self.peak, self.there)
        request.extensions["says"] = status = self.says()
        try:
            await asyncio.sleep(0.05 if status else self._answer_s * self._chance.lognormvariate(0.0, 0.2))
        finally:
            self.there -= 1
        return await super().handle_async_request(request)
