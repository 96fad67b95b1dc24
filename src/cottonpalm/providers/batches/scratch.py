"""What waits to be sent, in one private temporary file without a name, in blocks that are used again.

The file is gone with the process, however that ends. One file for all batches, as some thousands of them may wait.
"""

from __future__ import annotations

import tempfile
import weakref
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

BLOCK: Final = 1 << 18  # bytes


class Scratch:
    """Blocks of at most `BLOCK` bytes, by number. Not thread-safe. Closes itself when nobody holds it any more."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._free: list[int] = []
        self._count = 0

    def put(self, content: bytes | bytearray) -> int:
        """Write a block and return its number.

        Raises:
            OSError: there is no room on the disk.
        """
        if self._file is None:
            self._file = tempfile.TemporaryFile(  # noqa: SIM115 - see `close`
                prefix="cottonpalm-lines-", buffering=0, dir=self._folder
            )
            weakref.finalize(self, self._file.close)
        number = self._free[-1] if self._free else self._count
        self._file.seek(number * BLOCK)
        left = memoryview(content)
        while left:
            left = left[self._file.write(left) :]
        if self._free:
            self._free.pop()
        else:
            self._count += 1
        return number

    def get(self, number: int, size: int) -> bytes:
        """Return the first `size` bytes of a block."""
        assert self._file is not None
        self._file.seek(number * BLOCK)
        parts = []
        while size:
            if not (part := self._file.read(size)):
                raise OSError("the file of lines is shorter than what was written to it")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def free(self, numbers: Iterable[int]) -> None:
        """These blocks are not needed any more."""
        self._free += numbers
        if len(self._free) == self._count and self._file is not None and not self._file.closed:
            self._free, self._count = [], 0
            self._file.truncate(0)

    def close(self) -> None:
        """Delete the file."""
        if self._file is not None:
            self._file.close()
