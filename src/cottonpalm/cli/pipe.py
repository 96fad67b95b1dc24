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

if TYPE_CHECKING:
    from typing import Self

CHUNK: Final = 1 << 16


class Pipe:
    """An iterator of lines that blocks, and a way to wait for the next one on a loop instead."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lines: deque[bytes] = deque()
        self._part: list[bytes] = []  # of a line that has not ended yet
        self._over = False

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
        for piece in io.BytesIO(chunk):
            self._part.append(piece)
            if piece.endswith(b"\n"):
                self._end_line()
        if not chunk:
            self._over = True
            if self._part:
                self._end_line()

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
