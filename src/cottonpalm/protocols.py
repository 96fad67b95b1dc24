"""The protocols of the parts that one can add to cottonpalm. Value types are in `types`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from cottonpalm.types import Item, Outcome, Parked, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cottonpalm.events import Event

Inner: TypeAlias = Callable[[Item], Awaitable[Any]]
Admitted: TypeAlias = Outcome | Parked | None  # a gate's answer to a row
Later: TypeAlias = Coroutine[Any, Any, Admitted]  # the same answer, but it takes time


class Gate(Protocol):
    """A gate round each row, for every executor. If `admit` returns None, `settle` is called exactly once later."""

    def admit(self, item: Item) -> Admitted | Later:
        """None lets the row on; an Outcome answers it here; PARKED sets it aside until an equal row is done.

        If the gate needs time, it returns a coroutine, which is awaited at once. `admit` itself is not async, since few
        rows need that and it would slow all of them.
        """

    def settle(self, item: Item, outcome: Outcome | Parked) -> None:
        """Called once for each `admit` that returned None, innermost gate first. PARKED undoes the admission."""

    def close(self) -> None:
        """The run is over, and all admitted rows are settled. Parked rows will not come back."""


class Layer(Protocol):
    """Wraps a row's answer. May call `inner` zero, one or many times."""

    async def __call__(self, item: Item, inner: Inner) -> Any:
        """Return the row's output, or raise."""


class RowSource(Protocol):
    """Gives rows to an executor and takes their outcomes back. It runs the gates, which the executor does not see.

    Attributes:
        wake: the executor sets it; it is called when rows may have become available, and must not block.
        closing: the executor sets it when it takes no more rows.
    """

    wake: Callable[[], None]
    closing: bool

    @property
    def ended(self) -> bool:
        """Whether no row is left and none will come."""

    @property
    def dry(self) -> bool:
        """No further row can start before one that was taken is finished."""

    @property
    def unread(self) -> int:
        """How many outcomes wait for the reader."""

    @property
    def passed(self) -> Item | None:
        """One of the rows that are done already and so do not come; None: there was none yet."""

    def next(self) -> Item | None:
        """Return a row that may start now; None: there is none, or no room for one."""

    def admit(self, item: Item) -> Admitted | Later:
        """Return the gates' answer to a row that was taken; see `Gate.admit`."""

    def finish(self, item: Item, outcome: Outcome | Parked) -> None:
        """Take the outcome of a row that was taken; call it exactly once for each."""

    def aside(self, item: Item, out: bool) -> None:
        """The row gives up its place for now (`out`), or takes it back."""

    def flush_if_idle(self) -> None:
        """If nothing is under way, write the finished rows now, without waiting for a full group."""


class Executor(Protocol):
    """Turns started rows into outcomes. It lives as long as its run."""

    async def run(self, rows: RowSource) -> None:
        """Take rows while there is room, until there are none left; a cancel settles all that is under way."""

    def let_go(self) -> None:
        """The run is stopping: drop the rows that have neither sent nor received anything yet."""

    def under_way(self) -> Sequence[float]:
        """`clock.now()` of when each row began that is not over."""

    def drop_all(self) -> None:
        """The run is stopping and its rows make no progress: drop all of them, and wait for none."""

    async def tidy(self) -> None:
        """The run is over, and all that was finished is durable."""


class Observer(Protocol):
    """Sees events. It must not block and must not change an event. An observer that raises is switched off."""

    def see(self, event: Event) -> None:
        """Take note of one event."""


@runtime_checkable
class SeesGroups(Observer, Protocol):
    """An observer that is told of many events at once, a tenth of a second late at most: that is far cheaper."""

    def see_all(self, events: Sequence[tuple[float, Event]]) -> None:
        """Take note of events, each with the time at which it happened, in Unix seconds; called in place of `see`.

        At most the last of them is another one than the start, a request, a hit of the cache or the end of a row.
        """


@runtime_checkable
class SeesRuns(Observer, Protocol):
    """An observer that may be given to several runs at once: each is seen by an observer of its own."""

    def of_run(self) -> Observer:
        """Make the one for a run that is about to begin; it is called in place of this one. From any thread."""


class Measure(Protocol):
    """Measures where the time of requests goes. The request level calls it from any thread; it must not block."""

    def request(
        self,
        model: str,
        seconds: float | None,
        usage: Usage | None,
        cost_pico: int | None,
        *,
        ok: bool,
        flex: bool = False,
    ) -> None:
        """One try of a request is over; `flex`: it was served at the flex tier.

        `seconds` are None where nobody timed it, as in a batch.
        """

    def retried(self) -> None:
        """The try that was just told of was a request's second or later one."""

    def hedged(self) -> None:
        """A request was late, and a copy of it was sent."""

    def waited(self, what: Literal["permit", "pause", "backoff", "first", "warm"], seconds: float) -> None:
        """A request has waited so long: in line, for a provider's pause, before its next try, for the first token.

        "warm": until the prompt that it shares was in the provider's cache.
        """

    def overtaken(self) -> None:
        """A copy of a late request was answered before it."""

    def stepped(self, steps: Mapping[str, tuple[int, float]]) -> None:
        """A row of the sample was called: by the name of a step, how often it ran, and seconds in itself alone."""


class StoredRow(NamedTuple):
    """What the store keeps of one row. `status`: 1 ok, 2 failed and retryable, 3 failed for good.

    `cost_pico` is what this outcome cost; the store adds up what a slot cost over all its outcomes.
    """

    slot: int
    key: bytes
    content: bytes
    status: int
    record: bytes
    cost_pico: int = 0


class Spent(NamedTuple):
    """What a run has spent in all its processes, in pico-dollars.

    Attributes:
        account: a name that no other run has.
        reported: the cost that providers reported.
        uncertain: the most that requests without a reported cost may have cost.
        leased: no request was sent that could raise the sum above this; a process that died may have spent the rest.
        steps: (Unix seconds, pico-dollars) spent within the last hour, if the budget has an hourly limit.
    """

    account: str
    reported: int = 0
    uncertain: int = 0
    leased: int = 0
    steps: tuple[tuple[float, int], ...] = ()

    @property
    def total(self) -> int:
        """The most that may have been spent, not counting an unused lease."""
        return self.reported + self.uncertain


class Slot(NamedTuple):
    """A stored row without its record; used to find which rows are done."""

    slot: int
    key: bytes
    content: bytes
    status: int


class RunInfo(NamedTuple):
    """One run as `status` shows it. `meta` is the run's own small JSON object.

    `cost_pico` is what its rows cost, or what providers reported, if that is more.
    """

    name: str
    created: float
    ok: int
    failed: int
    retryable: int
    cost_pico: int
    meta: dict[str, Any]
    holder: str | None  # "host pid since" while a process works on it
    uncertain_pico: int = 0  # the most that requests without a reported cost may have cost besides


class RunStore(Protocol):
    """One run of a store. This process holds its lease until `close`."""

    name: str
    created: bool  # True: this call made the run

    def write(
        self,
        rows: Sequence[StoredRow],
        done: Callable[[BaseException | None], None],
        spent: Spent | None = None,
    ) -> None:
        """Queue one group for the writer thread; `done` runs on that thread once it is durable, or failed.

        Args:
            rows: may be empty, if only `spent` is to become durable.
            done: gets the error, or None; `StoreError.kept_in` names a file that has the rows in the store's place.
            spent: the run's spending from now on; its `steps` are added to those the store has.
        """

    def spent(self) -> Spent:
        """What the run has spent so far; of a run that kept no account, the cost of its rows."""

    def scan(self, after: int, limit: int) -> list[Slot]:
        """Up to `limit` stored rows with a slot above `after`, in slot order."""

    def find(self, key: bytes) -> list[Slot]:
        """All rows with this key that were stored when the run was opened, in slot order; later ones may be missing."""

    def read(self, slots: Sequence[int]) -> dict[int, bytes]:
        """The packed records of these slots."""

    def counts(self) -> dict[int, int]:
        """Rows per status."""

    def last_slot(self) -> int:
        """The highest slot in use, or -1."""

    def meta(self) -> dict[str, Any]:
        """The run's own small JSON object."""

    def set_meta(self, **values: Any) -> None:
        """Merge `values` into `meta`, durably."""

    def close(self) -> None:
        """Write what is queued, give the lease back, close files and end threads."""


class StoredRows(Protocol):
    """The rows of a run as they are now, even if another process works on it."""

    def scan(self, after: int, limit: int) -> list[Slot]:
        """Up to `limit` stored rows with a slot above `after`, in slot order."""

    def read(self, slots: Sequence[int]) -> dict[int, bytes]:
        """The packed records of these slots."""


class Store(Protocol):
    """A store makes runs durable."""

    def open_run(self, name: str, fingerprint: dict[str, Any] | None, *, fresh: bool = False) -> RunStore:
        """Take the lease of a run; make the run if it does not exist.

        Args:
            name: the run's name.
            fingerprint: `fingerprint.describe(chain)`; compared with the stored one. None skips the comparison.
            fresh: drop what the run holds first.

        Raises:
            RunBusy: another live process works on it; names host, pid and since when.
            ChainChanged: prompts, models or parameters differ from those the run began with; says what.
            StoreError: the file is locked, foreign, read-only or cannot be made.
        """

    def runs(self) -> list[RunInfo]:
        """All runs, oldest first."""

    def look(self, name: str) -> StoredRows | None:
        """The rows of a run, without its lease; None if there is no such run."""

    def remove(self, name: str) -> None:
        """Forget a run and its rows.

        Raises:
            RunBusy: a live process works on it.
        """

    def close(self) -> None:
        """Close files and end threads."""


async def known(answer: Admitted | Later) -> Admitted:
    """Return a gate's answer; wait for it if needed."""
    return await answer if isinstance(answer, Coroutine) else answer


OK: Final = 1  # store statuses
RETRYABLE: Final = 2
FAILED: Final = 3
