"""Carries what a run and a worker process say over a socket pair that only the two of them have."""

from __future__ import annotations

import asyncio
import pickle
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import socket

_LENGTH: Final = 8  # bytes before each message that say how long it is


class Pipe:
    """One end. Not thread-safe."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def over(cls, end: socket.socket) -> Pipe:
        """Use this end of the socket pair on the running loop."""
        end.setblocking(False)
        return cls(*await asyncio.open_connection(sock=end))

    async def send(self, message: Any) -> None:
        """Send it, and wait while the other side is slow.

        Raises:
            ConnectionError: the other side is gone.
        """
        data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        self._writer.write(len(data).to_bytes(_LENGTH))
        self._writer.write(data)
        await self._writer.drain()

    async def receive(self) -> Any:
        """Return the next message of our own process on the other side.

        Raises:
            EOFError: the other side is gone.
        """
        length = int.from_bytes(await self._reader.readexactly(_LENGTH))
        return pickle.loads(await self._reader.readexactly(length))  # noqa: S301 - nobody else has this socket

    def close(self) -> None:
        """Close this end."""
        self._writer.close()
