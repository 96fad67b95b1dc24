"""Passes durable outcomes to the reader. Its size is bounded, so a slow reader slows the rows.

The pieces of streamed answers take the same way. When a row is asked again, the reader is told that it starts over.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cottonpalm.types import Item


class Piece(NamedTuple):
    """A piece of a row's answer while it streams."""

    row: int
    chunk: Any


class Outbox:
    """Outcomes wait here until the reader takes them. The engine starts rows only while `owed` leaves room.

    The reader pops the deque directly, and tells the engine only when a quarter of the room has become free: a call
    to the loop for each row would cost more than the row itself.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self.taken = 0  # only the reader writes it
        self.error: BaseException | None = None
        self.closed = self._left = False
        self._queue: deque[Any] = deque()
        self._told = 0
        self._credit: Callable[[], None] = lambda: None
        self._space: asyncio.Future[None] | None = None  # those who write pieces wait on it for room
        self._future: asyncio.Future[None] | None = None  # an async reader waits on it
        self._took_it: asyncio.Future[None] | None = None  # the writer of a piece waits on it
        self._event = threading.Event()  # a reader on another thread waits on it
        self._asleep = False
        self._lock = threading.Lock()  # of two readers in threads, only one may take the last outcome

    def on_credit(self, wake: Callable[[], None]) -> None:
        """Set `wake`, which the reader's thread calls each time a quarter of the room has become free."""
        self._credit = wake

    def put(self, outcomes: Iterable[Any]) -> None:
        """Hand outcomes over, on the run's loop."""
        self._queue.extend(outcomes)
        self._ring()

    def put_one(self, outcome: Any) -> None:
        """Hand one outcome over, on the run's loop."""
        self._queue.append(outcome)
        if len(self._queue) == 1:  # else the reader has been told
            self._ring()

    def close(self, error: BaseException | None = None) -> None:
        """No more outcomes will come. The reader still gets the queued ones; then it gets `error`, or the end."""
        if not self.closed:
            self.closed, self.error = True, error
            self._ring()

    def __len__(self) -> int:
        return len(self._queue)

    def _ring(self) -> None:
        if self._asleep:
            self._event.set()
        if self._future is not None and not self._future.done():
            try:  # noqa: SIM105 - every outcome may pass here
                self._future.set_result(None)
            except RuntimeError:  # the loop is closed, so nobody reads on it
                pass

    async def put_piece(self, chunk: Piece) -> None:
        """Hand a piece over, on the run's loop; wait while the reader is slow. Nobody gets it once the run is left."""
        while len(self._queue) >= self.room and not (self.closed or self._left):
            self._space = self._space or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._space)
        if not self._left:
            self._queue.append(chunk)
            self._ring()

    def leave(self) -> None:
        """The reader has left: let nobody wait until it takes a piece. Call it on the run's loop."""
        self._left = True
        for waiting in (self._space, self._took_it):
            if waiting is not None and not waiting.done():
                waiting.set_result(None)

    async def taken_at_once(self) -> None:
        """If an async reader is waiting, let it take the piece before the chain goes on. Wait for no other reader."""
        if self._queue and self._future is not None:
            self._took_it = asyncio.get_running_loop().create_future()
            await self._took_it

    def make_space(self) -> None:
        """Let waiting writers look again, since the reader has taken some. Call it on the run's loop."""
        if self._space is not None and len(self._queue) < self.room:
            self._space.set_result(None)
            self._space = None

    def _took(self, taken: Any) -> None:
        if type(taken) is Piece:
            if self._space is not None and len(self._queue) <= self.room // 2:
                self._credit()
            return
        self.taken += 1
        if self.taken - self._told >= max(1, self.room // 4) or not self._queue:
            self._told = self.taken
            self._credit()

    def _end(self, end: type[Exception]) -> BaseException:
        error, self.error = self.error, None  # raised once; a second read just finds the end
        # Raised as it is, it would be an end in order.
        if isinstance(error, (StopIteration, StopAsyncIteration)):
            unwrapped, error = error, RuntimeError(f"the run ended with {type(error).__name__}")
            error.__cause__ = unwrapped
        return error if error is not None else end()

    async def receive(self) -> Any:
        """Return the next outcome, on the run's loop. Raise the run's error, or StopAsyncIteration at the end."""
        while not self._queue:
            if self.closed:
                raise self._end(StopAsyncIteration)
            self._future = asyncio.get_running_loop().create_future()
            try:
                await self._future
            finally:
                self._future = None
        return self.take()

    def take(self) -> Any:
        """Return the next outcome, on the run's loop; None: it is not there yet, `receive` waits for it."""
        if not self._queue:
            return None
        outcome = self._queue.popleft()
        if self._took_it is not None and not self._took_it.done():
            self._took_it.set_result(None)
        if self._queue and type(outcome) is not Piece and self.taken - self._told < self.room // 4 - 1:
            self.taken += 1  # as `_took` says, without its call: for every row
        else:
            self._took(outcome)
        return outcome

    def receive_sync(self) -> Any:
        """Return the next outcome, on any other thread. Raise the run's error, or StopIteration at the end."""
        with self._lock:
            while True:
                if self._queue:
                    outcome = self._queue.popleft()
                    self._took(outcome)
                    return outcome
                self._event.clear()
                self._asleep = True  # from here on a `put` wakes us; look once more for what came just before
                if not self._queue and not self.closed:
                    self._event.wait()
                self._asleep = False
                if self.closed and not self._queue:
                    raise self._end(StopIteration)


class Restarted(str):
    """The type of RESTARTED. It is a text, so that a reader that only prints or joins pieces shows the break."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "RESTARTED"

    def __reduce__(self) -> str:
        return "RESTARTED"  # a copy, too, is this one object


RESTARTED: Final = Restarted("\n[restarted]\n")


class Pieces:
    """Hands out the pieces of all rows of a run.

    Args:
        outbox: where the reader takes them from; a slow reader slows their rows.
        restarted: called for each row that starts over.
        restarts: whether we can tell the reader that a row starts over. If not, what was shown is final, and a row
            that fails after its first piece is not asked again.
    """

    def __init__(self, outbox: Outbox, restarted: Callable[[int], None], *, restarts: bool) -> None:
        self._outbox, self._restarted, self._restarts = outbox, restarted, restarts

    async def begin(self, item: Item) -> None:
        """The row's answer begins. If the reader has pieces of an earlier answer, tell it that they are void."""
        if not item.begun:
            return
        item.begun = False
        self._restarted(item.index)
        await self._outbox.put_piece(Piece(item.index, RESTARTED))

    async def show(self, item: Item, chunk: Any) -> None:
        """Show one more piece."""
        if self._restarts:
            item.begun = True
        else:
            item.shown = True
        await self._outbox.put_piece(Piece(item.index, chunk))
        if not self._restarts:  # a single row: its reader must get this piece before later events and the end
            await self._outbox.taken_at_once()
