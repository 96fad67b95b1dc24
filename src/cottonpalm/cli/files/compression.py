"""gzip and zstd: unpacking what comes in pieces, and packing what is written."""

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
CHUNK: Final = 1 << 14  # packed bytes taken at once: unpacked, they may be a thousand times as many
PADDING: Final = b"\0"  # some tools fill the last block with these


def packing_of(beginning: bytes) -> Packing:
    """What data is packed with, by its first bytes."""
    return next((packing for packing, magic in MAGIC.items() if beginning.startswith(magic)), "")


class Unpacker:
    """Unpacks a stream of one or many packed parts, piece by piece.

    Args:
        packing: `gz` or `zst`.
        name: of the file, for messages.
    """

    def __init__(self, packing: Packing, name: str) -> None:
        self._what, self._name = NAMES[packing], name
        self._new = _decoder(packing)
        self._part: Any = None  # the one at hand

    def feed(self, data: bytes) -> bytes:
        """What these packed bytes hold.

        Raises:
            Problem: they are damaged, or something else follows the packed part.
        """
        found = []
        while data := data if self._part else data.lstrip(PADDING):
            self._part = self._part or self._new()
            try:
                found.append(self._part.decompress(data))
            except Exception as error:  # zlib.error and zstandard.ZstdError have no base in common
                raise self._damaged(str(error)) from error
            if not self._part.eof:
                break
            data, self._part = self._part.unused_data, None
        return b"".join(found)

    def end(self) -> None:
        """Nothing follows.

        Raises:
            Problem: the last part is cut short.
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
    """A packed stream as the bytes it holds; put an `io.BufferedReader` round it.

    Args:
        stream: the packed one; closed with this one.
        unpacker: for it.
    """

    def __init__(self, stream: BinaryIO, unpacker: Unpacker) -> None:
        self._stream, self._unpacker = stream, unpacker
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as something is ready; 0 is the end."""
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
    """A file to write to whose bytes arrive packed in `file`, which stays open."""
    if packing == "":
        yield file
    elif packing == "gz":
        with gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0, compresslevel=6) as inner:
            yield cast("BinaryIO", inner)
    else:
        zstandard = extra("zstandard", "remote", "a .zst file")
        with zstandard.ZstdCompressor().stream_writer(file, closefd=False) as inner:
            yield inner
