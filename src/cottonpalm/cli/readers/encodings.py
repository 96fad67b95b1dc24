"""Text in other encodings: read as UTF-8, and where it cannot be, the byte is named."""

from __future__ import annotations

import codecs
import io
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.cli.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNK: Final = 1 << 16
BUFFER: Final = 1 << 18
MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
HINT: Final = "save it as UTF-8, or name its encoding: --encoding cp1252, gbk, utf-16-le, …"


def marked(beginning: bytes) -> str | None:
    """Return the encoding that a file's first bytes tell, if they do and it is not UTF-8."""
    return next((name for mark, name in MARKS if beginning.startswith(mark)), None)


def check_encoding(name: str) -> str:
    """Return the name of a known encoding.

    Raises:
        Problem: there is none of this name.
    """
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise Problem(
            f"--encoding {name}: there is no such encoding; common ones are utf-8, utf-16, gbk, cp1252, latin-1"
        ) from None


def in_utf8(stream: io.BufferedReader[Any], encoding: str | None, name: str) -> io.BufferedReader[Any]:
    """Return the stream itself if its text is UTF-8, else one that gives it in UTF-8."""
    if encoding in (None, "utf-8"):
        return stream
    return io.BufferedReader(Recoded(stream.read1, encoding, name, stream.close), BUFFER)


def chunks(stream: io.BufferedReader[Any]) -> Iterator[bytes]:
    """Give the bytes of a stream to its end."""
    return iter(lambda: stream.read(CHUNK), b"")


class Recoded(io.RawIOBase):
    """A stream in UTF-8 of a stream in another encoding.

    Args:
        read: returns up to so many bytes; nothing at the end.
        encoding: its encoding.
        name: the input's, for messages.
        shut: closes what is read.
    """

    def __init__(
        self, read: Callable[[int], bytes], encoding: str, name: str, shut: Callable[[], None] = lambda: None
    ) -> None:
        self._shut = shut
        self._read, self._encoding, self._name = read, encoding, name
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._at = 0  # bytes decoded so far
        self._ready = memoryview(b"")
        self._over = False

    def close(self) -> None:
        """Close what is read, too."""
        if not self.closed:
            self._shut()
        super().close()

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, into: Any) -> int:
        """Give the next bytes of UTF-8; 0 at the end."""
        while not self._ready and not self._over:
            chunk = self._read(CHUNK)
            self._over = not chunk
            self._ready = memoryview(self._decoded(chunk).encode("utf-8", "surrogatepass"))
        count = min(len(into), len(self._ready))
        into[:count], self._ready = self._ready[:count], self._ready[count:]
        return count

    def _decoded(self, chunk: bytes) -> str:
        kept = len(self._decoder.getstate()[0])
        try:
            text = self._decoder.decode(chunk, not chunk)
        except UnicodeError as error:
            # UTF-16 and UTF-32 without their mark: no byte of them is wrong, though Python 3.13 names the first
            if not isinstance(error, UnicodeDecodeError) or "BOM" in error.reason:
                raise Problem(
                    f"{self._name} is not {self._encoding} ({error}); say another --encoding"
                ) from None
            place = self._at - kept + error.start
            wrong = error.object[error.start : error.start + 1].hex()
            raise Problem(
                f"{self._name}: byte {place + 1:,} (0x{wrong}) is not {self._encoding}; say another --encoding"
            ) from None
        self._at += len(chunk)
        return text
