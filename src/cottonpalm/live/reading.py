"""What the live page reads of a store: its runs, how one stands, and its rows, a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from cottonpalm import clock
from cottonpalm.errors import CottonpalmError
from cottonpalm.live.stories import known_total
from cottonpalm.observers import kept
from cottonpalm.protocols import FAILED, OK, RETRYABLE
from cottonpalm.shell import total_of
from cottonpalm.store_extras import FindsRows, GivesOrders, Orders
from cottonpalm.stores.codec.records import unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cottonpalm.observers.kept import Kept
    from cottonpalm.protocols import RunInfo, Store, StoredRows
    from cottonpalm.types import Outcome

ROWS: Final = 25  # a page
STRETCH: Final = 1000  # rows that are looked through at once
SEARCH_S: Final = 0.4  # a search that takes longer stops, and says where
WATCHED_S: Final = 20.0  # a run shows how it stands for so long after somebody looked
SCRAPED_S: Final = 150.0  # the same after a program that asks now and then, as Prometheus does
OLD_S: Final = 8.0  # a process that has said nothing for so long may be gone, or busy
END: Final = 1 << 39  # above any slot
STATUSES: Final = {"all": (OK, RETRYABLE, FAILED), "ok": (OK,), "failed": (RETRYABLE, FAILED)}


class Refused(CottonpalmError):
    """What is asked of the page is not there any more, or cannot be done."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One run as far as it is known now.

    Attributes:
        info: from the store.
        life: the report of its last or present life.
        said: what its process says of itself (see `engine.standing`); None where none works on it or it said nothing.
        asked: what was asked of it.
        takes_orders: this kind of store brings orders to it.
        looked_s: for so long somebody has looked without a break; its process says nothing before.
    """

    info: RunInfo
    life: Kept | None
    said: dict[str, Any] | None
    asked: Orders
    takes_orders: bool
    looked_s: float = inf

    @property
    def going(self) -> bool:
        """Whether a process works on it."""
        return self.info.holder is not None

    @property
    def age_s(self) -> float:
        """How long ago its process said something."""
        return inf if self.said is None else clock.wall() - float(self.said["at"])

    @property
    def ok(self) -> int:
        """Rows answered, in all lives."""
        return self.info.ok

    @property
    def failed(self) -> int:
        """Rows that failed, in all lives."""
        return self.info.failed

    @property
    def total(self) -> int | None:
        """Rows of the input, if that is known."""
        return known_total(self._facts, self._told, self.ok + self.failed)

    @property
    def about(self) -> int | None:
        """The same, or what was judged by the part that is read; None: nothing is known of it."""
        guess = total_of(self._facts, self._told)
        return None if guess is None else max(guess.rows, self.ok + self.failed)

    @property
    def _facts(self) -> Mapping[str, Any]:
        facts: Mapping[str, Any] = self.info.meta.get("facts", {})
        return facts

    @property
    def _told(self) -> int | None:
        told: int | None = (self.said or {}).get("total")
        return self.life.report.total if told is None and self.life is not None else told

    @property
    def of_all(self) -> str:
        """`2,000`, `about 2,085`; "" where nothing is known."""
        return "" if self.about is None else f"{'' if self.total is not None else 'about '}{self.about:,}"


class Looked(NamedTuple):
    """Since when somebody looks at a run without a break, and until when its process knows it; `clock.now()`."""

    since: float
    until: float


class Query(NamedTuple):
    """Which rows: of a status, holding a text, above or below a slot."""

    status: str = "all"
    text: str = ""
    after: int | None = None
    before: int | None = None


class Page(NamedTuple):
    """Some rows in order.

    Attributes:
        rows: what is stored of them.
        earlier, later: whether there may be more.
        through: a search that stopped early has looked at the rows up to this one.
    """

    rows: list[Outcome]
    earlier: bool
    later: bool
    through: int | None = None


class Reading:
    """Reads one store. Its methods may be called from any thread.

    Args:
        store: the store.
        search_s: a search that takes longer stops, and says where.
        check: raises where the store is no longer the one at its address.
    """

    def __init__(
        self, store: Store, *, search_s: float = SEARCH_S, check: Callable[[], None] = lambda: None
    ) -> None:
        self._store, self._search_s, self._check = store, search_s, check
        self._looked: dict[
            tuple[str, str | None], Looked
        ] = {}  # by run and process: the next one does not know

    def runs(self, for_s: float = WATCHED_S) -> list[Standing]:
        """All runs, the newest first; those that are going show how they stand from now on, for so many seconds."""
        self._check()
        found = self._store.runs()[::-1]
        for info in found:
            self._watch(info, for_s)
        return [self._standing(info) for info in found]

    def run(self, name: str, *, watch: bool = False) -> Standing:
        """One run. `watch`: its process is told that somebody looks, so that it shows how it stands.

        Raises:
            Refused: there is none of this name.
        """
        self._check()
        for info in self._store.runs():
            if info.name == name:
                if watch:
                    self._watch(info, WATCHED_S)
                return self._standing(info)
        raise Refused(f"there is no run {name!r} in this store any more")

    def _watch(self, info: RunInfo, for_s: float) -> None:
        """Once in a while: each time is a write. What can be read is shown, also where nothing can be written."""
        if not info.holder or not isinstance(self._store, GivesOrders):
            return
        life, now = (info.name, info.holder), clock.now()
        before = self._looked.get(life)
        since, until = (now, now) if before is None or before.until < now else before
        if until - now < for_s / 2:
            self._looked[life] = Looked(since, now + for_s)
            self._store.watch(info.name, clock.wall() + for_s)

    def order(self, name: str, **wishes: Any) -> None:
        """Ask something of a run.

        Raises:
            Refused: no process works on it, or this kind of store brings no orders.
        """
        if not self.run(name).going:
            raise Refused(f"no process works on run {name!r} now, so there is nobody to ask")
        if not isinstance(self._store, GivesOrders):
            raise Refused("this kind of store brings no orders to a run")
        self._store.order(name, **wishes)

    def _standing(self, info: RunInfo) -> Standing:
        gives = isinstance(self._store, GivesOrders)
        asked, said, life = Orders(), None, kept.read(info.meta.get(kept.META))
        if isinstance(self._store, GivesOrders) and (shown := self._store.shown(info.name)) is not None:
            said = orjson.loads(shown)  # null: its process has ended in order
        if said is not None:
            last = kept.read(said.get("report"))  # of a process that was killed, it is all there is
            if last is not None and (life is None or last.ended > life.ended):
                life = last
        if info.holder and isinstance(self._store, GivesOrders):
            asked = self._store.ordered(info.name)
        else:
            said = None
        looked = self._looked.get((info.name, info.holder))
        looked_s = 0.0 if looked is None else clock.now() - looked.since
        return Standing(info, life, said, asked, gives, looked_s)

    # -- rows

    def look(self, name: str) -> StoredRows | None:
        """All of them."""
        return self._store.look(name)

    def row(self, name: str, slot: int) -> Outcome | None:
        """What is stored of one row."""
        rows = self._store.look(name)
        record = rows.read([slot]).get(slot) if rows is not None else None
        return None if record is None else unpack(record, slot, {})

    def rows(self, name: str, query: Query) -> Page:
        """A page of rows; with a text, those that hold it, as far as can be looked through in a moment."""
        stored = self._store.look(name)
        if not isinstance(stored, FindsRows):
            return Page([], earlier=False, later=False)
        back = query.before is not None
        through: int | None = None
        found: list[Outcome] = []
        for part, last in self._stretches(stored, query):
            found += part
            through = last
            if len(found) > ROWS:
                break
        more = len(found) > ROWS
        found = sorted(found[:ROWS], key=lambda row: row.index)
        stopped = through if query.text and through is not None and not more else None
        if back:
            return Page(found, more or stopped is not None, later=True, through=stopped)
        return Page(found, query.after is not None, more, stopped)

    def _stretches(self, stored: Any, query: Query) -> Iterator[tuple[list[Outcome], int | None]]:
        """Rows that fit, a stretch at a time, and the last slot looked at; None once all were looked at."""
        back = query.before is not None
        low, high = -1 if query.after is None else query.after, END if query.before is None else query.before
        limit, until_s = STRETCH if query.text else ROWS + 1, clock.now() + self._search_s
        while slots := stored.page(low, high, STATUSES[query.status], limit, back=back):
            fit = _holding(stored, slots, query.text) if query.text else _read(stored, slots)
            whole = len(slots) < limit
            yield fit, None if whole else slots[-1]
            if whole or clock.now() > until_s:
                return
            low, high = (low, slots[-1]) if back else (slots[-1], high)


def _read(stored: StoredRows, slots: list[int]) -> list[Outcome]:
    records = stored.read(slots)
    return [unpack(records[slot], slot, {}) for slot in slots if slot in records]


def _holding(stored: Any, slots: list[int], text: str) -> list[Outcome]:
    """In the order of `slots`. The store finds records that may hold the text; what they say is looked at here."""
    fit = set(stored.holding(slots, text))
    wanted = text.casefold()
    rows = _read(stored, [slot for slot in slots if slot in fit])
    return [row for row in rows if any(wanted in part.casefold() for part in texts_of(row))]


def texts_of(row: Outcome) -> Iterator[str]:
    """All that a person may look for in a row."""
    yield f"{row.index}"
    for part in (row.id, row.input, row.output):
        if part is not None:
            yield text_of(part)
    if row.error is not None:
        yield f"{row.error.type}: {row.error.message} {row.error.kind.value}"


def text_of(value: Any) -> str:
    """A stored value as people read it: texts as they are, anything else as JSON."""
    if isinstance(value, str):
        return value
    content = getattr(value, "content", None)
    if isinstance(content, str):
        return content
    try:
        return orjson.dumps(
            value, default=_plain, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS
        ).decode()
    except TypeError:
        return str(value)


def _plain(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    return dump() if callable(dump) else str(value)
