"""Rows that wait for a batch, kept in a private temporary file, so that memory does not hold what they say.

Only rows that JSON gives back exactly as they are go there: plain dicts, lists, texts, numbers. All others stay where
they are. The file has no name, and is gone with the process: an interrupted run reads its rows from its input again.
"""

from __future__ import annotations

import math
import tempfile
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from typing import IO

    from cottonpalm.types import Item

_LENGTH: Final = 4  # bytes
_PLAIN: Final = frozenset((str, int, bool, type(None)))


class _Shelved:
    """Stands for a row that is in the file."""

    __slots__ = ("at",)

    def __init__(self, at: int) -> None:
        self.at = at


class RowShelf:
    """The rows of one run that are in the file. On the loop of the run.

    Args:
        used: False keeps every row in memory: they are in a list of the caller's in any case.
    """

    def __init__(self, *, used: bool = True) -> None:
        self._used = used
        self._file: IO[bytes] | None = None
        self._end = self._rows = 0

    def put(self, item: Item) -> None:
        """Write the row down and let go of it, if that can be undone."""
        if not self._used or item.broken is not None or not _is_plain(item.row):
            return
        try:
            text = orjson.dumps(item.row)
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="cottonpalm-rows-", buffering=0)  # noqa: SIM115 - see `close`
            self._file.seek(self._end)
            _write(self._file, len(text).to_bytes(_LENGTH) + text)
        except (OSError, ValueError, OverflowError, orjson.JSONEncodeError):
            return  # no room on the disk, or no JSON
        item.row = _Shelved(self._end)
        self._end += _LENGTH + len(text)
        self._rows += 1

    def take(self, item: Item) -> Item:
        """Give the row back to its item.

        Raises:
            OSError: the file cannot be read.
        """
        if not isinstance(item.row, _Shelved):
            return item
        assert self._file is not None
        self._file.seek(item.row.at)
        item.row = orjson.loads(_read(self._file, int.from_bytes(_read(self._file, _LENGTH))))
        self._rows -= 1
        if not self._rows:
            self._end = 0
            self._file.truncate(0)
        return item

    def close(self) -> None:
        """Delete the file."""
        if self._file is not None:
            self._file.close()


def _is_plain(row: Any) -> bool:
    """Whether JSON gives it back as it is, whatever it is inside."""
    kind = type(row)
    if kind in _PLAIN:
        return True
    if kind is float:
        return math.isfinite(row)
    if kind is dict:
        return all(type(name) is str and _is_plain(part) for name, part in row.items())
    return kind is list and all(map(_is_plain, row))


def _write(file: IO[bytes], content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]


def _read(file: IO[bytes], size: int) -> bytes:
    parts = []
    while size:
        if not (part := file.read(size)):
            raise OSError("the file of waiting rows is shorter than what was written to it")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
