"""Reads the rows lazily, gives each its identity, and finds what an earlier process has done.

`Reader` turns rows into items. A feed pulls from it when the window has room: lists on the run's loop, iterators on a
thread of their own (a slow file must not hold up the calls in flight), async iterators in a task.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from array import array
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from cottonpalm import clock
from cottonpalm.faults import ConfigError
from cottonpalm.identity import Matcher
from cottonpalm.model import ErrorRecord, Item
from cottonpalm.pure.keys import content_key, id_key

if TYPE_CHECKING:
    from cottonpalm.protocols import RunStore, Slot
    from cottonpalm.window import Window

Rows: TypeAlias = Iterable[Any] | AsyncIterable[Any]
OK: Final = 1  # store statuses
RETRYABLE: Final = 2
FAILED: Final = 3
SLICE: Final = 4096  # rows looked at in one go while others wait
BLOCK: Final = 256  # rows compared with the store at once
HAND_OVER_S: Final = 0.01  # a slow iterator's rows are handed over at least this often


@dataclass(frozen=True, slots=True)
class Broken:
    """Stands in a source for a row that could not be read: it becomes a failed row, without a call."""

    error: ErrorRecord


@dataclass(frozen=True, slots=True)
class Again:
    """Stands in a source for a stored row that is to be done again, in its own place."""

    found: Slot
    row: Any
    id: str | None


class PerRow:
    """What the caller gave beside the rows: one value for each, or a function of the row, or one for all."""

    def __init__(
        self, given: Sequence[Any] | Callable[[Any], Any] | None, what: str, total: int | None
    ) -> None:
        if given is not None and not callable(given) and total is not None and len(given) != total:
            raise ConfigError(f"{len(given)} {what} were given for {total} rows; give one for each row")
        self._given, self._what = given, what
        self.given = given is not None

    def of(self, index: int, row: Any) -> Any:
        """The value for one row, or None."""
        given = self._given
        if given is None:
            return None
        if callable(given):
            return given(row)
        if index >= len(given):
            raise ConfigError(f"row {index} has no value in {self._what}: only {len(given)} were given")
        return given[index]


class Reader:
    """Makes items of rows, one after the other. Not thread-safe: exactly one feed pulls from it.

    Args:
        store: the run's store, or None.
        keyed: work out the content key (needed by a store or a cache).
        skip: rows that are done in the store are counted in `stored` and not yielded.
        redo: store statuses that are done again.
    """

    def __init__(
        self,
        *,
        total: int | None = None,
        ids: Sequence[Any] | Callable[[Any], Any] | None = None,
        priorities: Sequence[float] | Callable[[Any], float] | None = None,
        configs: Sequence[Any] | Callable[[Any], Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        store: RunStore | None = None,
        keyed: bool = False,
        skip: bool = False,
        redo: frozenset[int] = frozenset({RETRYABLE}),
    ) -> None:
        self.read = 0
        self.stored = 0
        self.error: BaseException | None = None  # what the source raised; it ends there
        self._ids = PerRow(ids, "ids", total)
        self._priorities = PerRow(priorities, "priorities", total)
        self._configs = PerRow(configs, "configs", total)
        self._kwargs = dict(kwargs or {})
        self._store, self._keyed, self._skip, self._redo = store, keyed or store is not None, skip, redo
        self._matcher = Matcher(store) if store is not None else None
        self._done = frozenset({OK, RETRYABLE, FAILED}) - redo
        self._noted = 0  # rows whose slot is their index
        self._slots: array[int] | None = None  # index -> slot, kept only once some row has moved
        self._block: deque[Any] = deque()  # rows that were read and could not be skipped all at once
        self._late: Exception | None = None  # what the source raised behind them

    def slot(self, index: int) -> int:
        """The store's row number of an input row."""
        return index if self._slots is None else self._slots[index]

    def take(self, rows: Iterator[Any], most: int) -> tuple[list[Item], bool]:
        """Up to `most` items, and whether the rows are at their end. Looks at no more than SLICE rows."""
        items: list[Item] = []
        until, upto = clock.now() + HAND_OVER_S, self.read + SLICE
        while self.read < upto:
            if len(items) >= most or (items and clock.now() > until):
                return self._filled(items), False
            try:
                if not self._block and self._skip_block(rows):
                    continue
                row = self._block.popleft() if self._block else next(rows)
                if (item := self.item(row)) is not None:
                    items.append(item)
            except StopIteration:
                return self._filled(items), True
            except Exception as error:  # noqa: BLE001 - raised by the run, after what was read is done
                self.error = error
                return self._filled(items), True
        return self._filled(items), False

    def _skip_block(self, rows: Iterator[Any]) -> bool:
        """Skip the next rows all at once if they are where they were, and done; else they wait in `_block`."""
        matcher = self._matcher
        if matcher is None or not self._skip or not matcher.more or self._late is not None:
            if self._late is not None:
                raise self._late
            return False
        first, block = matcher.next_slot, self._block
        try:
            block.extend(islice(rows, BLOCK))
        except Exception as error:  # noqa: BLE001 - raised when the rows before it are through
            self._late = error
        if not block or any(type(row) is Broken for row in block):
            return False
        contents = [self._content(self.read + n, row) for n, row in enumerate(block)]
        keys = contents
        if self._ids.given:
            keys = [id_key(str(self._ids.of(self.read + n, row))) for n, row in enumerate(block)]
        if not matcher.all_done(keys, contents, self._done):
            return False
        self._note_slots(first, len(block))
        self.read += len(block)
        self.stored += len(block)
        block.clear()
        return True

    def _content(self, index: int, row: Any) -> bytes:
        configurable = (self._configs.of(index, row) or {}).get("configurable")
        return content_key(row, configurable, self._kwargs)

    def item(self, row: Any) -> Item | None:
        """The next row's item; None where it is done and skipped."""
        if isinstance(row, Again):
            self.read += 1
            slot, key, content, _ = row.found
            return Item(slot, row.row, row.id, key=key, content=content, slot=slot)
        index = self.read
        self.read += 1
        item = Item(index, row, config=self._configs.of(index, row))
        if (priority := self._priorities.of(index, row)) is not None:
            item.priority = float(priority)
        if isinstance(row, Broken):
            item.row, item.broken = None, row.error
            row = ["cottonpalm: unreadable", row.error.message]
        elif (id_ := self._ids.of(index, row)) is not None:
            item.id = str(id_)
        if self._keyed:
            return self._identify(item, row)
        return item

    def _identify(self, item: Item, row: Any) -> Item | None:
        configurable = (item.config or {}).get("configurable")
        item.content = content_key(row, configurable, self._kwargs)
        item.key = item.content if item.id is None else id_key(item.id)
        if self._matcher is None:
            return item
        found = self._matcher.match(item.key, item.content)
        item.slot = found.slot
        self._note_slots(found.slot, 1)
        if found.status == 0 or found.status in self._redo:
            return item
        self.stored += 1
        item.stored = b""  # the record follows in `_filled`, many at once
        return None if self._skip else item

    def _note_slots(self, first: int, count: int) -> None:
        """The next rows have these slots, one after the other."""
        known = self._slots
        if known is None:
            if self._noted == first:
                self._noted += count
                return
            known = self._slots = array("q", range(self._noted))
        known.extend(range(first, first + count))

    def _filled(self, items: list[Item]) -> list[Item]:
        done = {item.slot: item for item in items if item.stored is not None}
        if done and self._store is not None:
            for slot, record in self._store.read(list(done)).items():
                done[slot].stored = record
        return items


class Feed:
    """Keeps the window filled. `more()` never blocks; `wake()` tells the engine that something arrived."""

    def __init__(self, reader: Reader, window: Window, wake: Callable[[], None]) -> None:
        self.reader, self.window, self.wake = reader, window, wake
        self.done = False

    def more(self) -> None:
        """The window has room: read on."""
        raise NotImplementedError  # pragma: no cover - the three feeds below

    async def aclose(self) -> None:
        """Stop reading and let go of the source."""

    def _arrived(self, items: list[Item], done: bool) -> None:
        arrival_s = clock.now()
        for item in items:
            self.window.push(item, arrival_s)
        self.done = done


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
        items, done = self.reader.take(self._rows, self.window.room)
        self._arrived(items, done)
        if (
            self.window.room and not done
        ):  # finished rows, or a long list: let others have the loop in between
            self._again = asyncio.get_running_loop().call_soon(self._on)

    def _on(self) -> None:
        self._again = None
        self.wake()

    async def aclose(self) -> None:
        """Stop reading."""
        if self._again is not None:
            self._again.cancel()


class ThreadFeed(Feed):
    """Rows from an iterator, which may block: read on a daemon thread, in the caller's context."""

    def __init__(self, rows: Iterable[Any], reader: Reader, window: Window, wake: Callable[[], None]) -> None:
        super().__init__(reader, window, wake)
        self._rows = iter(rows)
        self._loop = asyncio.get_running_loop()
        self._wanted = 0
        self._asked = threading.Event()
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

    def _work(self) -> None:
        done = False
        while not done:
            self._asked.wait()
            if self._closing:
                break
            items, done = self.reader.take(self._rows, self._wanted)
            self._asked.clear()
            if not self._tell(self._handed, items, done):
                break
        if (close := getattr(self._rows, "close", None)) is not None:
            close()
        self._tell(self._ended.set)

    def _handed(self, items: list[Item], done: bool) -> None:
        self._arrived(items, done)
        if not items and not done:  # a long stretch of finished rows
            self.more()
        self.wake()

    def _tell(self, function: Callable[..., None], *args: Any) -> bool:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop is closed: the run is over
            return False
        return True

    async def aclose(self) -> None:
        """Stop reading."""
        self._closing = True
        self._asked.set()
        try:
            async with asyncio.timeout(0.2):
                await self._ended.wait()
        except TimeoutError:
            return  # blocked inside the user's iterator: the daemon thread ends with it


class AsyncFeed(Feed):
    """Rows from an async iterator, read by a task."""

    def __init__(
        self, rows: AsyncIterable[Any], reader: Reader, window: Window, wake: Callable[[], None]
    ) -> None:
        super().__init__(reader, window, wake)
        self._rows: AsyncIterator[Any] = aiter(rows)
        self._asked = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._work())

    def more(self) -> None:
        """Read on."""
        self._asked.set()

    async def _work(self) -> None:
        try:
            async for row in self._rows:
                while not self.window.room:
                    self._asked.clear()
                    await self._asked.wait()
                items, _ = self.reader.take(iter([row]), 1)
                self._arrived(items, done=False)
                self.wake()
        except Exception as error:  # noqa: BLE001 - raised by the run, after what was read is done
            self.reader.error = error
        self._arrived([], done=True)
        self.wake()

    async def aclose(self) -> None:
        """Stop reading."""
        self._task.cancel()
        await asyncio.wait([self._task])
        if (close := getattr(self._rows, "aclose", None)) is not None:
            await close()


def feed(rows: Rows, reader: Reader, window: Window, wake: Callable[[], None]) -> Feed:
    """The feed that suits the kind of source."""
    if isinstance(rows, AsyncIterable):
        return AsyncFeed(rows, reader, window, wake)
    if isinstance(rows, Sequence):
        return ListFeed(rows, reader, window, wake)
    if isinstance(rows, Iterable):
        return ThreadFeed(rows, reader, window, wake)
    raise ConfigError(f"rows must be a list, an iterator or an async iterator, not {type(rows).__name__}")
