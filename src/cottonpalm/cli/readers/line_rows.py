"""The common part of inputs made of lines: it counts lines, and refuses a file that is not text at its beginning."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Final

from cottonpalm.cli.problems import Problem, os_problem
from cottonpalm.cli.readers.encodings import HINT
from cottonpalm.cli.readers.rows import InputRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

BOM: Final = b"\xef\xbb\xbf"
WIDE: Final = re.compile(rb"\xff\xfe|\xfe\xff|[^\0]\0[^\0]\0|\0[^\0]\0[^\0]|\0\0\0[^\0]")  # UTF-16, UTF-32
MISTAKEN: Final = {
    b"PK\x03\x04": "a zip archive or an Excel file; name it .xlsx, or save it as CSV",
    b"\xd0\xcf\x11\xe0": "an old or encrypted Office file; save it as CSV, without a password",
    b"PAR1": "a Parquet file; name it .parquet",
    b"PARE": "an encrypted Parquet file; write it without encryption",
    b"\x1f\x8b": "gzip data; name it .gz",
    b"\x28\xb5\x2f\xfd": "zstd data; name it .zst",
    b"BZh": "bzip2 data; unpack it first",
    b"\xfd7zXZ": "xz data; unpack it first",
    b"7z\xbc\xaf": "a 7z archive; unpack it first",
    b"%PDF": "a PDF file; rows are needed",
    b"SQLite format 3": "an SQLite database; export a table as CSV first",
    b"Salted__": "encrypted; decrypt it first",
    b"age-encryption.org/": "encrypted; decrypt it first",
    b"-----BEGIN PGP MESSAGE": "encrypted; decrypt it first",
}


class LineRows(InputRows):
    """Rows made of lines of UTF-8.

    Args:
        name: for messages.
        stream: the lines; if it is a file, it is closed with the rows.
        size: bytes of the file, if known.
        position: returns how many bytes were read; None: as many as came out of `stream`.
    """

    def __init__(
        self,
        name: str,
        stream: Iterable[bytes],
        size: int | None = None,
        position: Callable[[], int] | None = None,
    ) -> None:
        self.line = 0  # the last line read
        self._size, self._at = size, 0
        self._position = position or (lambda: self._at)
        self._stream = stream
        super().__init__(name)

    def close(self) -> None:
        """Close the file."""
        if isinstance(self._stream, io.IOBase):
            self._stream.close()

    def _guess(self) -> tuple[int, bool] | None:
        at = self._position()
        if self._size is None or not at:
            return None
        read = max(self.read, 1 + len(self._ahead))
        return max(read, round(read * self._size / at)), False

    def _lines(self) -> Iterator[bytes]:
        try:
            for line in self._stream:
                self.line += 1
                self._at += len(line)
                yield line if self.line > 1 else self._opening(line)
        except OSError as error:
            raise os_problem("read", self.name, error) from error

    def _opening(self, line: bytes) -> bytes:
        for magic, what in MISTAKEN.items():
            if line.startswith(magic):
                raise Problem(f"{self.name} is {what}")
        if WIDE.match(line):
            raise Problem(f"{self.name} is UTF-16 text; {HINT}")
        return line.removeprefix(BOM)
