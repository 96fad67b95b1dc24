"""gzip and zstd: unpacks data that comes in pieces, and packs data that is written."""

from __future__ import annotations

import gzip
import io
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from cottonpalm.cli.problems import Problem, extra

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cottonpalm.cli.files.formats import Packing

MAGIC: Final[dict[Packing, bytes]] = {"gz": b"\x1f\x8b", "zst": b"\x28\xb5\x2f\xfd"}
NAMES: Final = {"gz": "gzip", "zst": "zstd"}
CHUNK: Final = 1 << 14  # packed bytes taken at once; unpacked, they may be a thousand times as many
PADDING: Final = b"\0"  # some tools fill the last block with these bytes


def packing_of(beginning: bytes) -> Packing:
    """Return the packing of data, by its first bytes."""
    return next((packing for packing, magic in MAGIC.items() if beginning.startswith(magic)), "")


class Unpacker:
    """Unpacks a stream of one or many packed parts, piece by piece.

    Args:
        packing: `gz` or `zst`.
        name: the file's name, for messages.
    """

    def __init__(self, packing: Packing, name: str) -> None:
        self._what, self._name = NAMES[packing], name
        self._new = _decoder(packing)
        self._part: Any = None  # the unpacker of the current part

    def feed(self, data: bytes) -> bytes:
        """Unpack these bytes.

        Raises:
            Problem: they are damaged, or something else follows the packed part.
        """
        found = []
        while data := data if self._part else data.lstrip(PADDING):
            self._part = self._part or self._new()
            try:
                found.append(self._part.decompress(data))
            except Exception as error:  # zlib.error and zstandard.ZstdError have no common base class
                raise self._damaged(str(error)) from error
            if not self._part.eof:
                break
            data, self._part = self._part.unused_data, None
        return b"".join(found)

    def end(self) -> None:
        """Check at the end of the data that the last part is whole.

        Raises:
            Problem: the last part is incomplete.
        """
        if self._part:
            raise Problem(f"{self._name} is cut short: its {self._what} data ends too early; fetch it again")

    def _damaged(self, reason: str) -> Problem:
        return Problem(f"{self._name} is damaged: its {self._what} data cannot be unpacked ({reason})")


def _decoder(packing: Packing) -> Callable[[], Any]:
    if packing == "gz":
        return lambda: zlib.decompressobj(wbits=31)
    zstandard = extra("zstandard", "remote", "a .zst file")
    return lambda: zstandard.ZstdDecompressor().decompressobj()


class Unpacked(io.RawIOBase):
    """Reads a packed stream as unpacked bytes. Put an `io.BufferedReader` round it.

    Args:
        stream: the packed stream; it is closed with this one.
        unpacker: unpacks it.
    """

    def __init__(self, stream: BinaryIO, unpacker: Unpacker) -> None:
        self._stream, self._unpacker = stream, unpacker
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as data is ready; 0 means the end."""
        while not self._ready:
            chunk = self._stream.read(CHUNK)
            if not chunk:
                self._unpacker.end()
                return 0
            self._ready = memoryview(self._unpacker.feed(chunk))
        size = min(len(buffer), len(self._ready))
        buffer[:size], self._ready = self._ready[:size], self._ready[size:]
        return size

    def close(self) -> None:
        """Close the packed stream too."""
        self._stream.close()
        super().close()


@contextmanager
def packed(file: BinaryIO, packing: Packing) -> Iterator[BinaryIO]:
    """Yield a file to write to. What is written goes packed into `file`, which stays open."""
    if packing == "":
        yield file
    elif packing == "gz":
        with gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0, compresslevel=6) as inner:
            yield cast("BinaryIO", inner)
    else:
        zstandard = extra("zstandard", "remote", "a .zst file")
        with zstandard.ZstdCompressor().stream_writer(file, closefd=False) as inner:
            yield inner
