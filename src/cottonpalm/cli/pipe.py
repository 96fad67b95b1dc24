"""Lines of a pipe or a terminal, read without Python's own buffer.

Whoever reads may still wait for input when the process ends; one that waits inside `sys.stdin` holds a lock which the
interpreter wants at its end, and it would abort.
"""

from __future__ import annotations

import asyncio
import io
import os
from collections import deque
from typing import TYPE_CHECKING, Final

from cottonpalm.cli.packing import MAGIC, Unpacker, packing_of

if TYPE_CHECKING:
    from typing import Self

CHUNK: Final = 1 << 16


class Pipe:
    """An iterator of lines that blocks, and a way to wait for the next one on a loop instead.

    Packed data is unpacked as it comes.

    Args:
        fd: what to read from.
        name: for messages.
    """

    def __init__(self, fd: int, name: str) -> None:
        self._fd = fd
        self._lines: deque[bytes] = deque()
        self._part: list[bytes] = []  # of a line that has not ended yet
        self._over = False
        self._name, self._head = name, b""  # the first bytes, as long as they may tell of packed data
        self._unpacker: Unpacker | None = None
        self._known = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        while not self._lines:
            if self._over:
                raise StopIteration
            self._fill()
        return self._lines.popleft()

    async def ready(self) -> bool:
        """Wait until the next line is there; False at the end of the input."""
        while not self._lines and not self._over:
            await self._readable()
            self._fill()
        return bool(self._lines)

    def _fill(self) -> None:
        chunk = os.read(self._fd, CHUNK)
        for piece in io.BytesIO(self._unpacked(chunk)):
            self._part.append(piece)
            if piece.endswith(b"\n"):
                self._end_line()
        if not chunk:
            self._over = True
            if self._part:
                self._end_line()

    def _unpacked(self, chunk: bytes) -> bytes:
        if not self._known:
            self._head += chunk
            if chunk and any(magic.startswith(self._head) for magic in MAGIC.values()):
                return b""  # too few bytes to tell
            packing, chunk, self._known = packing_of(self._head), self._head, True
            self._unpacker = Unpacker(packing, self._name) if packing else None
        if self._unpacker is None:
            return chunk
        if not chunk:
            self._unpacker.end()
        return self._unpacker.feed(chunk)

    def _end_line(self) -> None:
        self._lines.append(b"".join(self._part))
        self._part = []

    async def _readable(self) -> None:
        loop, came = asyncio.get_running_loop(), asyncio.Event()
        try:
            loop.add_reader(self._fd, came.set)
        except PermissionError:  # a device that never blocks, such as /dev/null
            return
        try:
            await came.wait()
        finally:
            loop.remove_reader(self._fd)
