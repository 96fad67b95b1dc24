"""Reads HTTP/1.1 responses: bytes in, responses out. No I/O."""

from __future__ import annotations

import re
import zlib
from contextlib import suppress
from typing import Any, Final

import orjson

from cottonpalm.providers.answer import exactly

LONGEST_HEAD: Final = 100 * 1024
CRLF: Final = b"\r\n"
_NO_BODY: Final = frozenset({204, 304})
_GZIP: Final = 16 + zlib.MAX_WBITS
_PLAIN: Final = frozenset({"", "identity"})
_KNOWN: Final = _PLAIN | {"gzip", "x-gzip"}
_EMPTY_LINE: Final = re.compile(rb"\n\r?\n")  # the HTTP library takes a bare line feed for a line's end, too
_FOLDED: Final = re.compile(r"\r?\n[ \t]+")


class Malformed(Exception):
    """The peer does not speak HTTP/1.1, or broke off. The message is the one that the HTTP library would give."""


class Undecodable(Malformed):
    """The body is not packed as it says."""


class Answered:
    """One response, whole.

    Attributes:
        raw: the headers as they came, in order.
        headers: by name in lower case; several of one name are joined by ", ".
        body: as it came over the wire, without its framing.
        changed: True: somebody added to `headers` since.
    """

    __slots__ = ("_content", "_json", "body", "headers", "raw", "reason", "status", "version")

    def __init__(
        self, version: bytes, status: int, reason: bytes, raw: list[tuple[str, str]], body: bytes
    ) -> None:
        self.version, self.status, self.reason, self.raw, self.body = version, status, reason, raw, body
        self.headers = joined(raw)
        self._content: bytes | None = None
        self._json: Any = None

    @property
    def json(self) -> Any:
        """What the body says, read once; None if that is no JSON."""
        if self._json is None:
            with suppress(orjson.JSONDecodeError, RecursionError):
                self._json = exactly(self.content)
        return self._json

    @property
    def packed(self) -> str:
        """The coding of the body."""
        return self.headers.get("content-encoding", "").lower()

    @property
    def foreign(self) -> bool:
        """Whether the body is packed in a way that was not asked for, and that only the HTTP library may know."""
        return self.packed not in _KNOWN

    @property
    def content(self) -> bytes:
        """The body, unpacked; not of one that is `foreign`.

        Raises:
            Undecodable: it is not packed as it says.
        """
        if self._content is None:
            self._content = self._unpacked()
        return self._content

    def _unpacked(self) -> bytes:
        if self.packed in _PLAIN or not self.body:
            return self.body
        unpack = zlib.decompressobj(_GZIP)
        try:
            return unpack.decompress(self.body) + unpack.flush()
        except zlib.error as error:
            raise Undecodable(str(error)) from error


def joined(raw: list[tuple[str, str]]) -> dict[str, str]:
    """Return the headers by name in lower case."""
    headers: dict[str, str] = {}
    for name, value in raw:
        low = name.lower()
        headers[low] = f"{headers[low]}, {value}" if low in headers else value
    return headers


class Reader:
    """Reads one response after the other from one connection.

    Attributes:
        answered: the response, once it is whole.
        reusable: whether another request may follow on this connection.
        began: whether any byte of the response has come.
    """

    __slots__ = ("_body", "_buffer", "_chunked", "_head", "_left", "answered", "began", "reusable")

    def __init__(self) -> None:
        self.fresh()

    def fresh(self) -> None:
        """The next response is expected."""
        self._buffer = b""
        self._head: tuple[bytes, int, bytes, list[tuple[str, str]]] | None = None
        self._left: int | None = 0  # bytes of the body to come; None: until the peer closes
        self._chunked: Chunks | None = None
        self._body: list[bytes] = []
        self.answered: Answered | None = None
        self.reusable = True
        self.began = False

    def feed(self, data: bytes) -> bool:
        """Take bytes; return whether the response is whole.

        Raises:
            Malformed: these bytes are no HTTP/1.1.
        """
        self.began = True
        if self._head is None:
            data = self._buffer + data if self._buffer else data
            while self._head is None:
                rest = self._begin(data)
                if rest is None:
                    return False
                data = rest
        return self._more(data)

    def ended(self) -> bool:
        """The peer closes; return whether that makes the response whole.

        Raises:
            Malformed: it broke off.
        """
        self.reusable = False
        if self._head is None:
            raise Malformed("Server disconnected without sending a response.")
        if self._chunked is not None:
            raise Malformed(
                "peer closed connection without sending complete message body (incomplete chunked read)"
            )
        if self._left is not None:
            got = sum(map(len, self._body))
            raise Malformed(
                "peer closed connection without sending complete message body "
                f"(received {got} bytes, expected {got + self._left})"
            )
        return self._whole()

    def _begin(self, data: bytes) -> bytes | None:
        """Read the head; return the bytes after it, or None if it is not there yet."""
        end = _EMPTY_LINE.search(data)
        if end is None:
            if len(data) > LONGEST_HEAD:
                raise Malformed("Receive buffer too long")
            self._buffer = data
            return None
        first, *lines = [line.removesuffix("\r") for line in _lines(data[: end.start()])]
        version, status, reason = _status(first)
        raw = [_header(line) for line in lines]
        rest = data[end.end() :]
        self._buffer = b""
        if 100 <= status < 200:
            if status == 101:
                raise Malformed("the server changed the protocol")
            return rest
        self._head = (version, status, reason, raw)
        self._frame(version, status, raw)
        return rest

    def _frame(self, version: bytes, status: int, raw: list[tuple[str, str]]) -> None:
        """How the body is delimited, and whether the connection lives on."""
        length, self._left = None, None
        alive = version == b"HTTP/1.1"
        for name, value in raw:
            match name.lower():
                case "content-length":
                    length = _length(value, length)
                case "transfer-encoding":
                    if value.strip().lower() != "chunked":
                        raise Malformed(f"Sorry, {value!r} is no transfer encoding that is supported")
                    self._chunked = Chunks()
                case "connection":
                    options = value.lower()
                    alive = "close" not in options and (alive or "keep-alive" in options)
        self.reusable = alive
        if status in _NO_BODY:
            self._left, self._chunked = 0, None
        elif self._chunked is None:
            self._left = length
            self.reusable = alive and length is not None

    def _more(self, data: bytes) -> bool:
        if self._chunked is not None:
            if not self._chunked.feed(data):
                return False
            self._body, rest = self._chunked.pieces, self._chunked.rest
        elif self._left is None:
            self._body.append(data)
            return False
        elif len(data) < self._left:
            self._body.append(data)
            self._left -= len(data)
            return False
        else:
            rest = data[self._left :]
            self._body.append(data[: self._left] if rest else data)
        if rest:  # nobody asked for more: what comes after cannot be trusted
            self.reusable = False
        return self._whole()

    def _whole(self) -> bool:
        assert self._head is not None
        self.answered = Answered(*self._head, self._body[0] if len(self._body) == 1 else b"".join(self._body))
        return True


class Chunks:
    """A body in chunks.

    Attributes:
        pieces: the body so far.
        rest: what came after its end.
    """

    __slots__ = ("_buffer", "_left", "_over", "_trailing", "pieces", "rest")

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.rest = b""
        self._buffer = b""
        self._left = -1  # bytes to come of this chunk, with its line break; -1: its size comes next
        self._trailing = self._over = False

    def feed(self, data: bytes) -> bool:
        """Take bytes; return whether the body is whole.

        Raises:
            Malformed: a size is no number, or a chunk does not end where it should.
        """
        data = self._buffer + data if self._buffer else data
        at: int | None = 0
        last = 0
        while at is not None and not self._over:
            last = at
            at = self._chunk(data, at) if self._left >= 0 else self._line(data, at)
        if at is None:
            self._buffer = data[last:]
        else:
            self.rest = data[at:]
        return self._over

    def _chunk(self, data: bytes, at: int) -> int | None:
        """Take a chunk; return where it ends, or None if it is not there yet."""
        end = at + self._left
        if len(data) < end:
            return None
        if data[end - 2 : end] != b"\r\n":
            raise Malformed("malformed chunk footer")
        self.pieces.append(data[at : end - 2])
        self._left = -1
        return end

    def _line(self, data: bytes, at: int) -> int | None:
        """Take the size of the next chunk, or a line after the last one; return where it ends, or None."""
        end = data.find(b"\r\n", at)
        if end < 0:
            if len(data) - at > LONGEST_HEAD:
                raise Malformed("Receive buffer too long")
            return None
        line = data[at:end]
        if self._trailing:
            self._over = not line
        elif size := _size(line):
            self._left = size + 2
        else:
            self._trailing = True
        return end + 2


def _size(line: bytes) -> int:
    digits = line.split(b";", 1)[0].strip()
    if not digits or len(digits) > 16 or not all(byte in b"0123456789abcdefABCDEF" for byte in digits):
        raise Malformed(f"illegal chunk header: {bytearray(line) + CRLF!r}")
    return int(digits, 16)


def _lines(head: bytes) -> list[str]:
    """Return the lines of a head; one that begins with a blank goes on with the line before."""
    text = head.decode("latin-1")
    if "\n " in text or "\n\t" in text:
        text = _FOLDED.sub(" ", text)
    return text.split("\n")


def _status(line: str) -> tuple[bytes, int, bytes]:
    version, _, rest = line.partition(" ")
    code, _, reason = rest.partition(" ")
    if version not in ("HTTP/1.1", "HTTP/1.0") or len(code) != 3 or not (code.isascii() and code.isdigit()):
        raise Malformed(f"illegal status line: {bytearray(line.encode('latin-1'))!r}")
    return version.encode(), int(code), reason.encode("latin-1")


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name or name != name.strip():
        raise Malformed("illegal header line")
    return name, value.strip(" \t")


def _length(value: str, before: int | None) -> int:
    numbers = {one.strip() for one in value.split(",")}
    found = numbers.pop()
    if numbers or not (found.isascii() and found.isdigit()) or (before is not None and before != int(found)):
        raise Malformed("bad Content-Length")
    return int(found)
