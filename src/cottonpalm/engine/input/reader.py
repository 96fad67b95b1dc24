"""Turns rows into items one by one: gives each row its identity, and finds the rows an earlier process has done."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import islice
from secrets import token_bytes
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from cottonpalm import clock
from cottonpalm.engine.input.frames import values_in
from cottonpalm.engine.input.identity import Matcher
from cottonpalm.engine.input.keys import KEY_BYTES, content_key, id_key, is_told, joined_key
from cottonpalm.engine.input.slot_list import SlotList
from cottonpalm.errors import ConfigError, words_of
from cottonpalm.protocols import FAILED, OK, RETRYABLE
from cottonpalm.setting_checks import function
from cottonpalm.types import ErrorRecord, Item, numbered

if TYPE_CHECKING:
    from cottonpalm.protocols import RunStore, Slot
    from cottonpalm.providers.batches.stages import AskedRow

Rows: TypeAlias = Iterable[Any] | AsyncIterable[Any]
SLICE: Final = 4096  # the most rows read in one go, since other tasks of the loop wait meanwhile
BLOCK: Final = 256  # rows that are compared with the store in one step
HAND_OVER_S: Final = 0.01  # from a slow iterator, rows are handed over at least this often


@dataclass(frozen=True, slots=True)
class Broken:
    """Takes the place of a row that a source could not read: it becomes a failed row without a call."""

    error: ErrorRecord
    row: Any = None  # what could be read of it


@dataclass(frozen=True, slots=True)
class Again:
    """Takes the place of a stored row in a source: the row is done again and keeps its place."""

    found: Slot
    row: Any
    id: str | None


@dataclass(frozen=True, slots=True)
class CarriedRow:
    """Takes the place of a row that another process has read: it keeps what was found out there."""

    index: int
    row: Any
    id: str | None
    priority: float
    config: Any


class PerRow:
    """What the caller gave with the rows: one value for each row, a function of the row, or one value for all."""

    def __init__(
        self, given: Sequence[Any] | Callable[[Any], Any] | None, what: str, total: int | None
    ) -> None:
        if given is not None and not callable(given) and not _is_list(given):
            raise ConfigError(
                f"{what} must be a list with one for each row, or a function of the row, not {type(given).__name__}"
            )
        if callable(given):
            function(given, what)
        elif given is not None and total is not None and len(given) != total:
            raise ConfigError(f"{len(given)} {what} were given for {total} rows; give one for each row")
        self._given, self._what = values_in(given), what
        self.given, self.is_function = given is not None, callable(given)

    def of(self, index: int, row: Any) -> Any:
        """The value for one row, or None."""
        given = self._given
        if given is None:
            return None
        if callable(given):
            try:
                return given(row)
            except (StopIteration, StopAsyncIteration) as stop:  # must not pass for the end of the rows
                raise RuntimeError(
                    f"{numbered(index)}: the function given for {self._what} raised {type(stop).__name__}"
                ) from stop
            except Exception as error:
                error.add_note(
                    f"cottonpalm: {numbered(index)}: the function given for {self._what} raised this"
                )
                raise
        if index >= len(given):
            raise ConfigError(f"{numbered(index)} has no value in {self._what}: only {len(given)} were given")
        return given[index]


def _is_list(given: object) -> bool:
    """Whether it is a list, a tuple or an array of numbers; not a text or a dict, nor what can be read only once."""
    return (
        hasattr(given, "__len__")
        and hasattr(given, "__getitem__")
        and not isinstance(given, str | bytes | Mapping)
    )


class Reader:
    """Makes items of rows, one after the other. Not thread-safe: exactly one feed pulls from it.

    Args:
        store: the run's store, or None.
        keyed: compute the key of each row's question, for a cache. (A store gets the content keys in any case.)
        skip: do not yield rows that are done in the store; only count them in `stored`.
        redo: rows with these store statuses are done again.
        question: takes from a row the part that the chain asks about, for a cache; None: the whole row.
        read: takes from a row the part by which the store knows it; None: the whole row.
        refresh: also give rows that are done but of which another part has changed, so that the store keeps them as
            they are now; a plan, which changes nothing, does not.
        waiting: rows that wait for the answers of batches.
        sized: as many rows as the source says it holds: if it ends before, that is an error; None: it does not say.
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
        question: Callable[[Any], Any] | None = None,
        read: Callable[[Any], Any] | None = None,
        refresh: bool = False,
        sized: int | None = None,
        waiting: Iterable[AskedRow] = (),
    ) -> None:
        self.read = 0
        self.stored = 0
        self.passed: Item | None = None  # the first row that was skipped, as far as it was read
        self.error: BaseException | None = None  # what the source raised; reading ends there
        self.warn: Callable[[str, str], None] = lambda topic, text: None  # noqa: ARG005 - the run's, once per topic
        # Of each row read: its index, and how many rows from there on are done. None: nobody counts them.
        self.notes: deque[tuple[int, int]] | None = None
        self._sized = sized
        self._ids = PerRow(ids, "ids", total)
        self._priorities = PerRow(priorities, "priorities", total)
        self._configs = PerRow(configs, "configs", total)
        self._besides = self._configs.given or self._priorities.given
        self._ranked = False  # whether a row's priority was told
        self._kwargs = dict(kwargs or {})
        self._question, self._part, self._refresh = question, read, refresh
        self._asks = keyed or (store is not None and question is not None)  # reports count who asks the same
        self._store, self._keyed, self._skip, self._redo = store, keyed or store is not None, skip, redo
        self._matcher = Matcher(store, waiting=waiting) if store is not None else None
        self._done = frozenset({OK, RETRYABLE, FAILED}) - redo
        self._slots = SlotList()
        self._block: deque[Any] = deque()  # rows of a block that could not be skipped as a whole
        self._late: BaseException | None = None  # what the source raised after the rows of the block

    @property
    def stored_before(self) -> int:
        """Rows that the store may hold from earlier processes."""
        return 0 if self._matcher is None else self._matcher.last_slot + 1

    @property
    def out(self) -> AbstractSet[int]:
        """The slots of rows with requests in batches: an equal row that went before one would ask them again."""
        return frozenset() if self._matcher is None else self._matcher.held

    def slot(self, index: int) -> int:
        """The store's row number of an input row."""
        return self._slots[index] if self._slots.moved else index

    def take(self, rows: Iterator[Any], most: int, give: Callable[[Item], object]) -> bool:
        """Give up to `most` items, each as soon as it is made; return True at the end of the rows.

        It reads at most SLICE rows. A given item is complete only after `fill` has processed it.
        """
        given, until, upto = 0, clock.now() + HAND_OVER_S, self.read + SLICE
        blocks = self._skip and self._matcher is not None
        while self.read < upto:
            if given >= most or (given and clock.now() > until):
                return False
            try:
                if blocks and not self._block and self._skip_block(rows):
                    continue
                try:
                    row = self._block.popleft() if self._block else next(rows)
                except StopIteration:  # the source's own: whatever else raises one is an error
                    self._check_whole()
                    return True
                item = self.item(row)
            except BaseException as error:  # noqa: BLE001 - raised by the run, after what was read is done
                self.error = error
                return True
            if self.notes is not None:
                self.notes.append((self.read - 1, 1) if item is None else (item.index, 0))
            if item is not None:
                given += 1
                give(item)
        return False

    def _check_whole(self) -> None:
        if self._sized is not None and self.read < self._sized:
            raise RuntimeError(f"the rows ended after {self.read}, though there were {self._sized} of them")

    def _skip_block(self, rows: Iterator[Any]) -> bool:
        """Skip the next block of rows if all are done and have not moved; else keep the rows in `_block`."""
        matcher = self._matcher
        if matcher is None or not matcher.more or self._late is not None:
            if self._late is not None:
                raise self._late
            return False
        first, block = matcher.next_slot, self._block
        try:
            block.extend(islice(rows, BLOCK))
        except BaseException as error:  # noqa: BLE001 - raised when the rows before it are through
            self._late = error
        if not block or Broken in map(type, block):
            return False
        try:
            keys, contents = self._block_keys()
        except Exception:  # noqa: BLE001 - raised again by the row that it belongs to
            return False
        if not matcher.all_done(keys, contents, self._done):
            return False
        self._slots.add(first, len(block))
        self.passed = self.passed or Item(self.read, block[0], config=self._configs.of(self.read, block[0]))
        if self.notes is not None:
            self.notes.append((self.read, len(block)))
        self.read += len(block)
        self.stored += len(block)
        block.clear()
        return True

    def _block_keys(self) -> tuple[list[bytes], list[bytes]]:
        """Return the identities of the rows of a block, and the keys of their contents: one list if they are equal."""
        if self._part is None and not (self._configs.given or self._kwargs):
            keys = contents = list(map(content_key, self._block))
        else:
            both = [self._keys(self.read + n, row) for n, row in enumerate(self._block)]
            keys, contents = [key for key, _ in both], [content for _, content in both]
        if not self._ids.given:
            return keys, contents
        return [id_key(str(self._ids.of(self.read + n, row))) for n, row in enumerate(self._block)], contents

    def known(self, index: int, row: Any) -> tuple[bytes, bytes]:
        """Return the identity of the row at this place, and the key of its content."""
        key, content = self._keys(index, row)
        id_ = self._ids.of(index, row) if self._ids.given and not isinstance(row, Broken) else None
        return (key if id_ is None else id_key(str(id_))), content

    def left_over(self) -> tuple[int, int]:
        """Of the rows read: how many ask something else than the store has for their id, and how many are new."""
        return (0, 0) if self._matcher is None else (self._matcher.changed, self._matcher.added)

    def _keys(self, index: int, row: Any) -> tuple[bytes, bytes]:
        configurable = (self._configs.of(index, row) or {}).get("configurable")
        return row_keys(self._part, row, configurable, self._kwargs)[:2]

    def item(self, row: Any) -> Item | None:
        """Return the item of the next row, or None if the row is done and skipped."""
        kind = type(row)
        if kind is Again:
            self.read += 1
            slot, key, content, _ = row.found
            again = Item(slot, row.row, row.id, key=key, content=content, slot=slot)
            if self._asks:
                again.question = self._asked(row.row, None, content_key(row.row))
            return again
        index = self.read
        self.read += 1
        if kind is CarriedRow:
            return Item(row.index, row.row, row.id, row.priority, row.config)
        item = Item(index, row)
        if self._besides:
            item.config = self._configs.of(index, row)
            item.priority = self._priority(index, row)
        if kind is Broken:
            item.row, item.broken = row.row, row.error
            row = ["cottonpalm: unreadable", row.error.message]
        elif self._ids.given and (id_ := self._ids.of(index, row)) is not None:
            item.id = str(id_)
        if self._keyed:
            return self._identify(item, row)
        return item

    def _priority(self, index: int, row: Any) -> float:
        """Return the row's priority; 0 where a function that knew others cannot tell it.

        A priority only decides the order, so one row without it is no reason to end the run.
        """
        try:
            given = self._priorities.of(index, row)
            number = 0.0 if given is None else _priority_of(given, index)
        except Exception as error:
            if not (self._ranked and self._priorities.is_function):
                raise
            why = f"{type(error).__name__}: {words_of(error)}"
            self.warn(
                "priority",
                f"{numbered(index)}: the function given for priorities does not tell its priority ({why}). It is asked "
                "at priority 0, as are all others of which this is so",
            )
            return 0.0
        self._ranked = True
        return number

    def _identify(self, item: Item, row: Any) -> Item | None:
        configurable = None if item.config is None else item.config.get("configurable")
        if self._part is None:  # `row_keys` written out, for speed, as `_asked` is below
            item.key = item.content = whole = content_key(row, configurable, self._kwargs)
        else:
            item.key, item.content, whole = row_keys(self._part, row, configurable, self._kwargs)
        if item.id is not None:
            item.key = id_key(item.id)
        if self._asks:
            is_whole = self._question is None and not configurable and is_told(row)
            item.question = whole if is_whole else self._asked(row, configurable, whole)
        if (matcher := self._matcher) is None:
            return item
        if matcher.over:  # as in every new run
            item.slot = slot = matcher.new_slot()
            self._slots.add(slot)
            return item
        found = matcher.match(item.key, item.content)
        item.slot = found.slot
        self._slots.add(found.slot)
        if found.status == 0 or found.status in self._redo:
            return item
        self.stored += 1
        item.stored = b""  # `fill` reads the records later, many at once
        item.edited = self._refresh and found.content != item.content
        skipped = self._skip and not item.edited
        self.passed = self.passed or (item if skipped and item.broken is None else None)
        return None if skipped else item

    def _asked(self, row: Any, configurable: Mapping[str, Any] | None, whole: bytes) -> bytes:
        """Return the key of the part that the chain reads from a row whose whole key is `whole`.

        If no key can distinguish the row from others, the row counts as a question that no other row asks.
        """
        asked = row if self._question is None else self._question(row)
        if not is_told(asked) or (configurable and not is_told(configurable)):
            return token_bytes(KEY_BYTES)
        return whole if asked is row else content_key(asked, configurable, self._kwargs)

    def fill(self, items: list[Item]) -> list[Item]:
        """Add the stored record to each item that is done. If the store cannot be read, reading ends."""
        done = {item.slot: item for item in items if item.stored is not None}
        if not done or self._store is None:
            return items
        try:
            for slot, record in self._store.read(list(done)).items():
                done[slot].stored = record
        except Exception as error:  # noqa: BLE001 - raised by the run, after what was read is done
            self.error = self.error or error
            return [item for item in items if item.stored is None]
        return items


def row_keys(
    part: Callable[[Any], Any] | None,
    row: Any,
    configurable: Mapping[str, Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> tuple[bytes, bytes, bytes]:
    """Return a row's identity, the key of its content, and the key of the whole row.

    Args:
        part: takes from a row the part by which the store knows it; None: the whole row.
        row: the row.
        configurable: its config's.
        kwargs: the call's.
    """
    whole = content_key(row, configurable, kwargs)
    if part is None or (read := part(row)) is row:
        return whole, whole, whole
    key = content_key(read, configurable, kwargs)
    return key, joined_key(key, whole), whole


def _priority_of(value: Any, index: int) -> float:
    """Return the priority as a comparable number. One NaN in the queue would destroy the order of all other rows."""
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        if not math.isnan(number := float(value)):
            return number
    raise ConfigError(
        f"{numbered(index)} has the priority {value!r}, which is no number; give one, or None for 0"
    )
