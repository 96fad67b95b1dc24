"""The way from durable outcomes to the reader: bounded, so that a slow reader slows the rows.

The pieces of streamed answers go the same way; a row that is asked again says that it starts over.
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
    """Outcomes wait here until the reader takes them. The engine lets rows in only while `owed` leaves room.

    The reader pops the deque directly and tells the engine only every quarter of the room: a hop to the loop for
    each row would cost more than the row.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self.taken = 0  # written by the reader alone
        self.error: BaseException | None = None
        self.closed = False
        self._queue: deque[Any] = deque()
        self._told = 0
        self._credit: Callable[[], None] = lambda: None
        self._space: asyncio.Future[None] | None = None  # writers of chunks wait on it
        self._future: asyncio.Future[None] | None = None  # an async reader waits on it
        self._took_it: asyncio.Future[None] | None = None  # a writer waits until that reader has it
        self._event = threading.Event()  # a reader on another thread waits on it
        self._asleep = False
        self._lock = threading.Lock()  # two readers in threads must not both take the last one

    def on_credit(self, wake: Callable[[], None]) -> None:
        """`wake` is called, from the reader's thread, when a quarter of the room has become free."""
        self._credit = wake

    def put(self, outcomes: Iterable[Any]) -> None:
        """Hand over, on the run's loop."""
        self._queue.extend(outcomes)
        self._ring()

    def put_one(self, outcome: Any) -> None:
        """Hand one over, on the run's loop."""
        self._queue.append(outcome)
        if self._asleep or self._future is not None:
            self._ring()

    def close(self, error: BaseException | None = None) -> None:
        """No more will come. What is queued is still read; then `error` is raised, or the reader's loop ends."""
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
            except RuntimeError:  # the loop is closed: nobody reads
                pass

    async def put_piece(self, chunk: Piece) -> None:
        """Hand a piece over, on the run's loop; a slow reader slows the writer."""
        while len(self._queue) >= self.room and not self.closed:
            self._space = self._space or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._space)
        self._queue.append(chunk)
        self._ring()

    async def taken_at_once(self) -> None:
        """Let an async reader that is waiting have the chunk before the chain goes on. No other reader holds it up."""
        if self._queue and self._future is not None:
            self._took_it = asyncio.get_running_loop().create_future()
            await self._took_it

    def make_space(self) -> None:
        """On the run's loop: the reader has taken some; let waiting writers look again."""
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
        error, self.error = self.error, None  # raised once; whoever asks again just finds the end
        if isinstance(
            error, (StopIteration, StopAsyncIteration)
        ):  # raised as it is, it would be an end in order
            unwrapped, error = error, RuntimeError(f"the run ended with {type(error).__name__}")
            error.__cause__ = unwrapped
        return error if error is not None else end()

    async def receive(self) -> Any:
        """The next outcome, on the run's loop. Raises StopAsyncIteration at the end, or the run's error."""
        while not self._queue:
            if self.closed:
                raise self._end(StopAsyncIteration)
            self._future = asyncio.get_running_loop().create_future()
            try:
                await self._future
            finally:
                self._future = None
        outcome = self._queue.popleft()
        if self._took_it is not None and not self._took_it.done():
            self._took_it.set_result(None)
        self._took(outcome)
        return outcome

    def receive_sync(self) -> Any:
        """The next outcome, on any other thread. Raises StopIteration at the end, or the run's error."""
        with self._lock:
            while True:
                if self._queue:
                    outcome = self._queue.popleft()
                    self._took(outcome)
                    return outcome
                self._event.clear()
                self._asleep = (
                    True  # from here on whoever puts rings; look once more for what came just before
                )
                if not self._queue and not self.closed:
                    self._event.wait()
                self._asleep = False
                if self.closed and not self._queue:
                    raise self._end(StopIteration)


class Restarted(str):
    """The type of RESTARTED. It is text, so that whoever only prints or joins pieces sees that there was a break."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "RESTARTED"

    def __reduce__(self) -> str:
        return "RESTARTED"  # also a copy is the one object


RESTARTED: Final = Restarted("\n[restarted]\n")


class Pieces:
    """Hands out the pieces of all rows of a run.

    Args:
        outbox: where the reader finds them; a slow reader slows their rows.
        restarted: told of each row that starts over.
        restarts: whether the reader can be told that a row starts over; else what was shown is final, and a row that
            fails after its first piece is not asked again.
    """

    def __init__(self, outbox: Outbox, restarted: Callable[[int], None], *, restarts: bool) -> None:
        self._outbox, self._restarted, self._restarts = outbox, restarted, restarts

    async def begin(self, item: Item) -> None:
        """The row's answer begins: what the reader has of an earlier one is void, and it is told so."""
        if not item.begun:
            return
        item.begun = False
        self._restarted(item.index)
        await self._outbox.put_piece(Piece(item.index, RESTARTED))

    async def show(self, item: Item, chunk: Any) -> None:
        """One more piece."""
        if self._restarts:
            item.begun = True
        else:
            item.shown = True
        await self._outbox.put_piece(Piece(item.index, chunk))
        if not self._restarts:  # one row: its events and its end come after the piece that came before them
            await self._outbox.taken_at_once()
