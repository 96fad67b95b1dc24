"""Feeds keep the window filled. A list is read on the run's loop, an async iterator in a task, others on a thread.

Where there are many stored rows, lists are read on a thread, too, and so are the rows of an async iterator compared.

A feed pulls from the `Reader` when the window has room. A slow source must not delay the calls in flight, nor the rows
that it has already given.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from cottonpalm import clock
from cottonpalm.engine.input.reader import BLOCK
from cottonpalm.errors import ConfigError
from cottonpalm.runtime import loop_shutdown

if TYPE_CHECKING:
    from cottonpalm.engine.input.reader import Reader, Rows
    from cottonpalm.engine.input.window import Window
    from cottonpalm.types import Item

log = logging.getLogger("cottonpalm")
MANY = 50_000  # stored rows from which on it takes so long to find a moved one that the loop must not do it
LET_GO_S = 0.2  # seconds that a run, at its end, waits for a source that blocks


class Feed:
    """Keeps the window filled. `more()` never blocks; `wake()` tells the engine that something arrived."""

    def __init__(self, reader: Reader, window: Window, wake: Callable[[], None]) -> None:
        self.reader, self.window, self.wake = reader, window, wake
        self.done = False
        self.on_arrival: Callable[..., None] | None = (
            None  # called after rows arrived, with whether they were the last
        )

    def more(self) -> None:
        """Read on: the window has room."""
        raise NotImplementedError  # pragma: no cover - the three feeds below

    async def aclose(self) -> None:
        """Stop reading and release the source."""

    def _arrived(self, items: list[Item], *, done: bool) -> None:
        arrival_s, arrived = clock.now(), self.reader.fill(items)
        for item in arrived:
            item.arrived_s = arrival_s
        self.window.extend(arrived, arrival_s, self.reader.out)
        self.done = done or self.reader.error is not None
        if self.on_arrival is not None:
            self.on_arrival(done=self.done)


class ListFeed(Feed):
    """Rows that are in memory already, read on the loop in slices. With priorities the list is read whole first."""

    def __init__(self, rows: Sequence[Any], reader: Reader, window: Window, wake: Callable[[], None]) -> None:
        super().__init__(reader, window, wake)
        self._rows = iter(rows)
        self._again: asyncio.Handle | None = None

    def more(self) -> None:
        """Read on."""
        if self.done or self._again is not None:
            return
        items: list[Item] = []
        done = self.reader.take(self._rows, self.window.room, items.append)
        self._arrived(items, done=done)
        # Many finished rows, or a long list: let other tasks use the loop between two slices.
        if self.window.room and not self.done:
            self._again = asyncio.get_running_loop().call_soon(self._on)

    def _on(self) -> None:
        self._again = None
        self.wake()

    async def aclose(self) -> None:
        """Stop reading."""
        if self._again is not None:
            self._again.cancel()


class ThreadFeed(Feed):
    """Rows from an iterator that may block: a daemon thread reads it, in the caller's context."""

    def __init__(self, rows: Iterable[Any], reader: Reader, window: Window, wake: Callable[[], None]) -> None:
        super().__init__(reader, window, wake)
        self._rows = iter(rows)
        self._loop = asyncio.get_running_loop()
        self._given: deque[Item] = deque()  # items on their way from the thread to the loop
        self._told = False  # True: the loop was told, and will take what is in `_given`
        self._wanted = 0
        self._asked = threading.Event()  # the thread clears it when it has read what the window wanted
        self._closing = False
        self._ended = asyncio.Event()
        context = contextvars.copy_context()
        threading.Thread(
            target=context.run, args=(self._work,), name="cottonpalm-source", daemon=True
        ).start()

    def more(self) -> None:
        """Read on."""
        if not self.done and not self._asked.is_set():
            self._wanted = self.window.room
            self._asked.set()

    async def aclose(self) -> None:
        """Stop reading. If the source blocks, we do not wait for it; the thread ends when the source returns."""
        self._closing = True
        self._asked.set()
        if self._loop.is_closed():
            return
        try:
            async with asyncio.timeout(LET_GO_S):
                await self._ended.wait()
        except TimeoutError:
            return

    # -- on the thread

    def _work(self) -> None:
        done = False
        while not done:
            self._asked.wait()
            if not self._closing:
                done = self.reader.take(self._rows, self._wanted, self._give)
                self._asked.clear()
            if self._closing or not self._tell(self._read, done):  # after the clear: see `aclose`
                break
        _close(self._rows)
        self._tell(self._ended.set)

    def _give(self, item: Item) -> None:
        """Hand an item over at once, since the next row may come late. Many items share one call to the loop."""
        self._given.append(item)
        if not self._told:
            self._told = True
            self._tell(self._collect)

    def _tell(self, function: Callable[..., None], *args: Any) -> bool:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop is closed, so the run is over
            return False
        return True

    # -- on the loop

    def _collect(self) -> None:
        self._take_given(done=False)
        self.wake()

    def _read(self, done: bool) -> None:
        """Take note that the thread has read what the window wanted."""
        self._take_given(done=done)
        if self.window.room:  # many of the rows read were done already and gave no items
            self.more()
        self.wake()

    def _take_given(self, *, done: bool) -> None:
        self._told = False
        items = []
        while self._given:
            items.append(self._given.popleft())
        self._arrived(items, done=done or self.done)


class AsyncFeed(Feed):
    """Rows from an async iterator, read by a task."""

    def __init__(
        self, rows: AsyncIterable[Any], reader: Reader, window: Window, wake: Callable[[], None]
    ) -> None:
        super().__init__(reader, window, wake)
        self._rows: AsyncIterator[Any] = aiter(rows)
        self._asked = asyncio.Event()
        self._given: list[Any] = []
        self._closing = False
        self._loop = asyncio.get_running_loop()
        self._soon: asyncio.Handle | None = None
        self._task = self._loop.create_task(self._work())

    def more(self) -> None:
        """Read on."""
        self._asked.set()

    async def aclose(self) -> None:
        """Stop reading and close the iterator."""
        self._closing = True
        if self._loop.is_closed():
            loop_shutdown.end(self._task)
            return
        self._task.cancel()
        await asyncio.wait([self._task])
        if self._soon is not None:
            self._soon.cancel()
        if (close := getattr(self._rows, "aclose", None)) is not None:
            try:
                await close()
            except Exception:
                log.warning("the source of the rows failed while it was closed", exc_info=True)

    async def _work(self) -> None:
        try:
            await self._read()
        except BaseException as error:  # the run raises it after the rows read so far are done
            if self._closing or self._loop.is_closed():
                raise
            await self._hand_over_all()
            self.reader.error = self.reader.error or error
        self._arrived([], done=True)
        self.wake()

    async def _read(self) -> None:
        """Hand over together the rows that arrive without a wait, and at once a row that arrives alone."""
        async for row in self._rows:
            self._given.append(row)
            if len(self._given) >= min(BLOCK, self.window.room):
                await self._hand_over_all()
                await asyncio.sleep(0)  # an iterator that never waits must not block the loop
            elif self._soon is None:
                self._soon = self._loop.call_soon(self._hand_over)
            if self.reader.error is not None:
                return
            while not self.window.room:
                self._asked.clear()
                await self._asked.wait()
        await self._hand_over_all()

    async def _hand_over_all(self) -> None:
        self._hand_over()

    def _hand_over(self) -> None:
        items = self._items(self._collected())
        self._arrived(items, done=False)
        self.wake()

    def _collected(self) -> list[Any]:
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        given, self._given = self._given, []
        return given

    def _items(self, given: list[Any]) -> list[Item]:
        """The items of these rows; it may look for each in the store."""
        rows = iter(given)
        items: list[Item] = []
        while not self.reader.take(rows, BLOCK, items.append):
            pass
        return items


class ComparedAsideFeed(AsyncFeed):
    """The same, and a thread looks for the rows in the store: for one block after the other."""

    _comparing: asyncio.Task[None] | None = None

    def _hand_over(self) -> None:
        if self._comparing is None or self._comparing.done():
            self._comparing = self._loop.create_task(self._compare())

    async def _hand_over_all(self) -> None:
        while self._given or not (self._comparing is None or self._comparing.done()):
            self._hand_over()
            assert self._comparing is not None
            await asyncio.shield(self._comparing)

    async def _compare(self) -> None:
        while given := self._collected():
            items = await asyncio.to_thread(self._items, given)
            if self._closing:
                return
            self._arrived(items, done=False)
            self.wake()

    async def aclose(self) -> None:
        """Stop reading and close the iterator, once the thread has let go of the store."""
        await super().aclose()
        if self._comparing is not None and not self._loop.is_closed():
            await asyncio.wait([self._comparing])


def feed(rows: Rows, reader: Reader, window: Window, wake: Callable[[], None]) -> Feed:
    """Return the feed for this kind of source."""
    if isinstance(rows, AsyncIterable):
        kind = AsyncFeed if reader.stored_before < MANY else ComparedAsideFeed
        return kind(rows, reader, window, wake)
    if isinstance(rows, Sequence) and reader.stored_before < MANY:
        return ListFeed(rows, reader, window, wake)
    if isinstance(rows, Iterable):
        return ThreadFeed(rows, reader, window, wake)
    raise ConfigError(f"rows must be a list, an iterator or an async iterator, not {type(rows).__name__}")


def _close(rows: Any) -> None:
    if (close := getattr(rows, "close", None)) is not None:
        try:
            close()
        except Exception:
            log.warning("the source of the rows failed while it was closed", exc_info=True)
