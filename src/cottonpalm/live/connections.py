"""Connections of the live page, of which none costs its process much: nobody can take all files from the run beside it.

uvicorn waits for ever for a request that was begun, or that does not come at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

from cottonpalm import clock

if TYPE_CHECKING:
    import asyncio

MOST: Final = 160  # at once: all streams, and as many others again
HEAD_S: Final = 5.0  # from a connection, or an answer, until the next request has come whole


class Connection(H11Protocol):
    """One that waits for a request for a few seconds only, and makes room for others while it does."""

    _waits: asyncio.TimerHandle | None = None
    since = 0.0  # when it began to wait

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as there
        """See asyncio. Where there are too many, the one that has waited longest for its request goes."""
        super().connection_made(transport)
        self._expect()
        if len(self.connections) > MOST:
            others = [each for each in self.connections if isinstance(each, Connection) and each.waits]
            min(others, key=lambda each: each.since, default=self).drop()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        super().data_received(data)
        if self._answers:
            self._expected()
        elif self._waits is None:
            self._expect()

    def on_response_complete(self) -> None:
        """See uvicorn: the connection is kept for the next request."""
        super().on_response_complete()
        if not self._answers and not self.transport.is_closing():
            self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._expected()
        super().connection_lost(exc)

    @property
    def waits(self) -> bool:
        """Whether its next request has not come yet."""
        return self._waits is not None

    @property
    def _answers(self) -> bool:
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _expect(self) -> None:
        self._expected()
        self.since = clock.now()
        self._waits = self.loop.call_later(HEAD_S, self.drop)

    def _expected(self) -> None:
        if self._waits is not None:
            self._waits.cancel()
            self._waits = None

    def drop(self) -> None:
        """End it at once."""
        self._expected()
        self.transport.abort()
