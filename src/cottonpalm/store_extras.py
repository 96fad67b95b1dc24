"""What a store may offer besides `protocols.Store` and `RunStore`: who wants it looks for it, and can do without."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from cottonpalm.types import Known


@runtime_checkable
class ReadsOn(Protocol):
    """What `StoredRows` may offer besides: all records in turn, several times as fast as slots that are asked for."""

    def records(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Up to `limit` slots above `after` with their packed records, in slot order."""


@runtime_checkable
class ComparesBlocks(Protocol):
    """An extra that a `RunStore` may offer: it compares many rows at once, to recognise an unchanged input fast."""

    def same_rows(
        self, first: int, keys: Sequence[bytes], contents: Sequence[bytes], statuses: AbstractSet[int]
    ) -> bool:
        """Whether the slots from `first` on hold exactly these rows, each with one of these statuses."""


@runtime_checkable
class NumbersOutcomes(Protocol):
    """What a `RunStore` may offer besides: every outcome has a number, so that what follows the store can catch up.

    Outcomes are numbered in the order of `write`, one after the other, from `last_seq() + 1` on, within a run and over
    all its lives. A newer outcome of the same row gets a new number. A number whose group failed stays unused.
    """

    def last_seq(self) -> int:
        """The highest number that is durable; 0 where nothing was numbered yet."""

    def newer(self, seq: int, after: int, limit: int) -> list[tuple[int, int]]:
        """Slot and number of up to `limit` rows above the slot `after` whose number is above `seq`, in slot order.

        Rows that were stored before outcomes had numbers have number 0.
        """


@runtime_checkable
class SharesLimits(Protocol):
    """An extra that a `RunStore` may offer: a database through which processes share limits."""

    def place(self) -> tuple[Any, int]:
        """The database (`stores.sql.database.Database`), and the run's number in it."""


class Orders(NamedTuple):
    """What people ask of a run from outside its process.

    Attributes:
        held: start no more rows for now.
        most: at most so many rows at once; None: no such cap.
        stop: start no more rows at all.
        watched: somebody looks on until then (Unix seconds), so that the run should show how it stands.
    """

    held: bool = False
    most: int | None = None
    stop: bool = False
    watched: float = 0.0


@runtime_checkable
class TakesOrders(Protocol):
    """An extra that a `RunStore` may offer: other processes ask something of the run, and see how it stands."""

    def orders(self) -> Orders:
        """What is asked of it now."""

    def show(self, said: bytes) -> None:
        """Show this to those who look on. It does not wait."""


@runtime_checkable
class GivesOrders(Protocol):
    """The same, as a `Store` may offer it to those who look on."""

    def order(self, name: str, **wishes: Any) -> None:
        """Ask something of a run that a process works on, durably; `wishes` are fields of `Orders`."""

    def watch(self, name: str, until: float) -> None:
        """Tell a run that somebody looks on until then. It does not wait; what cannot be written is lost."""

    def ordered(self, name: str) -> Orders:
        """What was asked of it."""

    def shown(self, name: str) -> bytes | None:
        """What the run last said of itself in this life; None: nothing."""


@runtime_checkable
class FindsRows(Protocol):
    """What `StoredRows` may offer besides: pages of rows by status."""

    def page(self, after: int, before: int, statuses: Sequence[int], limit: int, *, back: bool) -> list[int]:
        """Up to `limit` slots between two others (both left out), in order; `back`: the last ones, falling."""

    def holding(self, slots: Sequence[int], text: str) -> list[int]:
        """Those whose record may hold a text, in order; a record that holds it in another case may be missing."""


@runtime_checkable
class KeepsLimits(Protocol):
    """What a store may offer besides: what runs have found of providers' limits."""

    def known_limits(self) -> list[Known]:
        """Of each host, model and account, by their names; nothing tells the account."""
