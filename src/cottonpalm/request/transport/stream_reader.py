"""Reads streamed answers in parallel with the chain, so that the permit goes back when the provider has sent all.

A task of ours reads an async stream as fast as the provider sends, whatever the chain does. Else a chain that makes
its next request while its stream is open would wait for its own permit. A sync stream is read by the chain itself;
if its row must wait for a permit, `drain` first reads the rest. At most one whole answer is kept in memory.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import deque
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from cottonpalm.providers import BrokenAnswer, dressed
from cottonpalm.providers.answer import Answer, Lines, read_bytes, so_far
from cottonpalm.request.attempt.judging import broken, cut
from cottonpalm.runtime.wait_queue import RowClosed
from cottonpalm.types import Fault, Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
    from types import ModuleType

    from cottonpalm.request.attempt.settlement import Settlement

_END_MARK: Final = b"data: [DONE]"
_SAYS: Final = re.compile(  # a piece of text, thought or call that is not empty, in any provider's words
    rb'"(?:content|text|delta|thinking|reasoning|reasoning_content|partial_json|arguments)"\s*:\s*"[^"]'
)
_AFTER_END_S: Final = 2.0  # after the end mark, we wait at most so long for the server to close


class Reading:
    """Reads the bytes of a stream as they pass, and settles its try at the end. No I/O."""

    def __init__(
        self, ending: Settlement, status: int, headers: MutableMapping[str, str], http: ModuleType
    ) -> None:
        self.row = ending.row
        self._ending, self._status, self._headers = ending, status, headers
        self._stream = ending.call.family.stream()
        self._lines = Lines()
        self._plain: list[bytes] = []  # the whole body, needed if it turns out not to be a stream
        self._packed = headers.get("content-encoding", "identity") != "identity"
        self._unpack = _unpacker(http, headers) if self._packed else bytes
        self._silent = True  # nothing of the answer itself has come
        self.held_back = b""
        self._at_line_start = True

    def feed(self, chunk: bytes) -> bytes:
        """Take one piece as it came; return the part that may be shown now.

        The SDKs stop reading at OpenAI's end mark, so we hold the mark back until we have judged the end.
        """
        plain = self._unpack(chunk)
        self._plain.append(plain)
        for line in self._lines.cut(plain):
            self._stream.feed(line)
            if self._silent and _SAYS.search(line):
                self._silent = False
                self._ending.speaks()
        if self._packed:
            return chunk
        if self.held_back:
            self.held_back += chunk
            return b""
        at = self._end_mark(chunk)
        self.held_back = chunk[at:]
        return chunk[:at]

    def _end_mark(self, chunk: bytes) -> int:
        """Return where the end mark begins, or the piece's end. Inside a line, the mark is only text of the answer."""
        at = 0 if self._at_line_start and chunk.startswith(_END_MARK) else chunk.find(b"\n" + _END_MARK) + 1
        found = at > 0 or (self._at_line_start and chunk.startswith(_END_MARK))
        self._at_line_start = chunk.endswith(b"\n")
        return at if found else len(chunk)

    def end(self, error: Exception | None) -> Exception | None:
        """The provider has sent all, or broke off with `error`. What to raise after the last piece, or None.

        Whatever fails here, the user's own `classify` included, the try is settled.
        """
        try:
            return self._judged(error)
        finally:
            self._ending.abandon()

    def _judged(self, error: Exception | None) -> Exception | None:
        row, call = self.row, self._ending.call
        answer = self._answer()
        if self.held_back:  # the end mark came, so it does not matter how the connection ends
            error = None
        fault = broken(call, self._headers, answer) if error is None else row.run.fault_of(error)
        if fault is not None and fault.kind is Kind.STOP_RUN:
            row.stop_run(fault)
        pause_s = (fault.retry_after_s or 0.0) if fault is not None and fault.kind is Kind.THROTTLE else 0.0
        self._ending.over(fault, status=self._status, answer=answer, headers=self._headers, pause_s=pause_s)
        return self._to_raise(error, fault, answer)

    def _to_raise(self, error: Exception | None, fault: Fault | None, answer: Answer) -> Exception | None:
        if error is not None or fault is None:
            return error or cut(self.row, self._ending.call, answer)
        told_in_the_stream = answer.error is not None  # the SDK reads this error and raises it itself
        return None if told_in_the_stream else dressed(BrokenAnswer, fault.message)

    def leave(self) -> None:
        """The chain stopped reading, after the end of the answer or before."""
        try:
            answer = so_far(self._stream)
            if answer.complete:
                self._ending.over(None, status=self._status, answer=answer, headers=self._headers)
        finally:
            self._ending.abandon()

    def _answer(self) -> Answer:
        for line in self._lines.cut(b"\n"):
            self._stream.feed(line)
        answer = so_far(self._stream)
        if not answer.complete and answer.error is None:
            whole = read_bytes(self._ending.call.family, b"".join(self._plain))
            return whole if whole.complete or whole.error else answer
        return answer


class AsyncTap:
    """Replaces the stream of an async response."""

    def __init__(
        self, source: Any, reading: Reading, gap_s: float, timed_out: Callable[[], Exception]
    ) -> None:
        self._source, self._reading = source, reading
        self._gap_s, self._timed_out = gap_s, timed_out
        self._row = reading.row
        self._chunks: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._over = False
        self._settled = False  # all that is left to do is to close the source
        self._error: Exception | None = None
        self._loop = asyncio.get_running_loop()
        self._pumping = self._loop.create_task(self._pump())
        self._pumping.add_done_callback(self._gone)
        self._row.hold(self)

    async def _pump(self) -> None:
        """Read all, settle, and only then close, which may fail or be cancelled."""
        try:
            error = await self._read_to_the_end()
            self._ended(self._reading.end(error))
        finally:
            self._reading.leave()
            self._settled = True
            self._row.let_go(self)
            with suppress(Exception):  # all is read that will ever be: nobody can do anything about it
                await self._source.aclose()

    def _gone(self, pumping: asyncio.Task[None]) -> None:
        """Tell the chain if our task was cancelled, even before its first step: the chain may still wait for pieces."""
        error = None if pumping.cancelled() else pumping.exception()
        self._reading.leave()
        self._row.let_go(self)
        if not self._over:
            closed = dressed(RowClosed, "the stream was cut off: the row it belongs to is over")
            self._ended(error if isinstance(error, Exception) else closed)

    def _ended(self, error: Exception | None) -> None:
        """Note that no more pieces will come."""
        self._error = error
        if error is None and self._reading.held_back:
            self._chunks.append(self._reading.held_back)
        self._over = True
        self._news.set()

    async def _read_to_the_end(self) -> Exception | None:
        """Read what comes; what broke it off, or None."""
        try:
            await self._read_all()
        except TimeoutError:
            return self._timed_out()
        except Exception as exc:  # noqa: BLE001 - raised to the reader, after what came before it
            return exc
        return None

    async def _read_all(self) -> None:
        pieces = aiter(self._source)
        while True:
            async with asyncio.timeout(
                min(self._gap_s, _AFTER_END_S) if self._reading.held_back else self._gap_s
            ):
                chunk = await anext(pieces, None)
            if chunk is None:
                return
            if shown := self._reading.feed(chunk):
                self._chunks.append(shown)
                self._news.set()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            while self._chunks:
                yield self._chunks.popleft()
            if self._over:
                break
            self._news.clear()
            await self._news.wait()
        if self._error is not None:
            raise self._error

    async def aclose(self) -> None:
        """Cut off what is still on its way, since the chain has stopped reading."""
        self._cut_off()
        if not self._pumping.done():
            await asyncio.wait([self._pumping])

    def drop(self) -> None:
        """The row has ended: settle the try now and cut the stream off, unless it may be anybody's. From any thread."""
        self._reading.leave()
        if not self._row.adopts and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._cut_off)

    def _cut_off(self) -> None:
        if not self._settled:  # else it closes its source: cut short, that would lose the connection
            self._pumping.cancel()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


class SyncTap:
    """Replaces the stream of a sync response."""

    def __init__(self, source: Any, reading: Reading) -> None:
        self._source, self._reading = source, reading
        self._pieces: Iterator[bytes] = iter(source)
        self._row = reading.row
        self._chunks: deque[bytes] = deque()
        self._lock = threading.Lock()
        self._over = False
        self._error: Exception | None = None
        self._row.hold(self)

    def __iter__(self) -> Iterator[bytes]:
        while (chunk := self._next()) is not None:
            yield chunk
        if self._error is not None:
            raise self._error

    def _next(self) -> bytes | None:
        with self._lock:
            return self._chunks.popleft() if self._chunks else self._read()

    def _read(self) -> bytes | None:
        """Read one more piece from the provider; None after the last. Call with the lock."""
        if self._over:
            return None
        error: Exception | None = None
        try:
            for chunk in self._pieces:
                if shown := self._reading.feed(chunk):
                    return shown
        except Exception as exc:  # noqa: BLE001 - raised to the reader, after what came before it
            error = exc
        self._over = True
        try:
            self._error = self._reading.end(error)
        finally:
            self._row.let_go(self)
        return self._reading.held_back or None if self._error is None else None

    def drain(self) -> None:
        """Read all that is left, and keep it for the chain."""
        with self._lock:
            while (chunk := self._read()) is not None:
                self._chunks.append(chunk)

    def close(self) -> None:
        """Cut off what is still on its way, since the chain has stopped reading."""
        self.drop()
        with suppress(Exception):  # all is read that will ever be: nobody can do anything about it
            self._source.close()

    def drop(self) -> None:
        """The row has ended: settle the try. The thread that reads notices it by itself."""
        try:
            self._reading.leave()
        finally:
            self._row.let_go(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


@cache
def tap_class(tap: type, base: type) -> type:
    """Make the class a subclass of the HTTP library's own stream class, since the library requires that."""
    return type(tap.__name__, (tap, base), {})


def _unpacker(http: ModuleType, headers: MutableMapping[str, str]) -> Callable[[bytes], bytes]:
    """Return what undoes the encoding for our own reading, as the HTTP library does it for the chain."""
    packed = http.Response(200, headers={"content-encoding": headers["content-encoding"]})
    machine = packed._get_content_decoder()  # noqa: SLF001 - a second one: each unpacks one stream
    return lambda chunk: _decoded(http, machine, chunk)


def _decoded(http: ModuleType, machine: Any, chunk: bytes) -> bytes:
    try:
        plain = machine.decode(chunk)
        return plain if isinstance(plain, bytes) else b"".join(plain)  # httpx2 gives it piece by piece
    except http.DecodingError:  # the chain meets it too
        return b""
