"""What a run and its workers say to each other, whoever carries it: a pipe, or Ray."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from cottonpalm.engine.own_frame import own_frame
from cottonpalm.errors import ConfigError, words_of
from cottonpalm.types import numbered

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cottonpalm.events import Event, LimitChanged
    from cottonpalm.request.money.remote import MoneyTold
    from cottonpalm.types import Outcome


def cannot_begin(exc: BaseException) -> str:
    """Say why a worker cannot begin: what it needs is not there, or code that it imports fails there."""
    where = own_frame(exc)
    return f"a worker cannot begin: {type(exc).__name__}: {words_of(exc)}{f' (at {where})' if where else ''}"


class WorkerLost(Exception):
    """A worker is gone, with all that was under way there."""


@dataclass(frozen=True, slots=True)
class Begin:
    """All that a worker needs to begin.

    Attributes:
        chain: the chain with its settings, packed by `travel`.
        place: the address of the database where limits are shared, and the run's number there; None: they are not.
        paid: True: there is a budget, so each request needs money that the run grants.
        kwargs: keyword arguments for each call of the chain, packed likewise.
        spare: rows that it holds ready besides those under way; None: those of the next moment.
    """

    chain: bytes
    place: tuple[str, int] | None
    paid: bool
    kwargs: bytes
    spare: int | None = None


class WorkerRow(NamedTuple):
    """One row on its way to a worker."""

    at: int  # its index in the input
    row: Any
    id: str | None
    priority: float
    config: Any


class Order(NamedTuple):
    """What a run tells a worker.

    Attributes:
        rows: to be answered.
        money: the answer to what it asked for; 0: there is not enough for it; None: no answer.
        why: why there is not.
        stop: begin nothing more, and end when what is under way is done.
        leave: end now; only rows that have their answers may end in order.
    """

    rows: Sequence[WorkerRow] = ()
    money: int | None = None
    why: str = ""
    stop: bool = False
    leave: bool = False


def cannot_travel(order: Order, exc: BaseException) -> ConfigError:
    """Return the error that names the row because of which an order cannot be sent."""
    stuck = next((numbered(row.at) for row in order.rows if not _travels(row)), "a row")
    return ConfigError(
        f"{stuck} or its config cannot travel to another process ({exc}): leave out what is no data, such as locks,"
        ' open files and clients, or say executor="local"'
    )


def _travels(row: WorkerRow) -> bool:
    try:
        pickle.dumps(row)
    except Exception:  # noqa: BLE001 - whatever it is, that is the row
        return False
    return True


class Heard(NamedTuple):
    """What a worker tells the run.

    Attributes:
        done: outcomes.
        wants: how many rows it wants to have, those under way included.
        money: what it spent, needs, gives back.
        events: what its requests met with, and how its part of the run stands.
        measures: the calls of `Measure` to make, as (name, arguments).
        limit: how many requests may be in flight there.
        requests: how many are.
        limits: the same by host and model.
        pause_s: seconds until all providers may be asked again.
        over: its run has ended there, with (reason, why) where it was stopped.
        warnings: (topic, text) that its run logs once, whoever found them.
        transports: the calls since it last told, by transport.
    """

    done: Sequence[Outcome]
    wants: int
    money: MoneyTold
    events: Sequence[Event] = ()
    measures: Sequence[tuple[str, tuple[Any, ...], dict[str, Any]]] = ()
    limit: float = 0.0
    requests: int = 0
    limits: Sequence[LimitChanged] = ()
    pause_s: float = 0.0
    over: tuple[str, str] | None = None
    warnings: Sequence[tuple[str, str]] = ()
    transports: Mapping[str, int] = {}


class Link(Protocol):
    """The way to one worker."""

    async def tell(self, order: Order) -> None:
        """Tell it something.

        Raises:
            WorkerLost: it is gone.
        """

    async def hear(self) -> Heard:
        """Wait for what it says next.

        Raises:
            WorkerLost: it is gone.
        """

    def kill(self) -> None:
        """End it at once, whatever it does."""


class WorkerPool(Protocol):
    """Where workers come from.

    Attributes:
        count: how many there are to be; it may change during the run.
    """

    count: int

    def look(self) -> str | None:
        """Find out how many there are to be, if that follows the cluster; say why some cannot begin. On any thread."""

    def place(self, given: tuple[str, int] | None) -> tuple[str, int] | None:
        """Return where the workers share limits: the database's address, and the run's number there.

        Args:
            given: the same of the run's store; None if that is no database.
        """

    async def open(self, begin: Begin) -> Link:
        """Start a worker; this may take long where its machine is not there yet.

        Raises:
            WorkerLost: it did not begin.
            ConfigError: it can't work; the error says why.
        """

    def close(self) -> None:
        """End what is left."""
