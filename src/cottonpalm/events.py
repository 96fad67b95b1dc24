"""The events of a run that observers see, one class for each kind.

They are not frozen, as those take four times as long to make, and each row has three of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from uuid import UUID

    from cottonpalm.types import Bottleneck, Kind, Outcome, Usage


@dataclass(slots=True, unsafe_hash=True)
class Event:
    """Something that happened in a run. Observers see events and change nothing."""


@dataclass(slots=True, unsafe_hash=True)
class RunStarted(Event):
    """The run began. `total` is None for a source of unknown length."""

    name: str | None
    total: int | None


@dataclass(slots=True, unsafe_hash=True)
class RowStarted(Event):
    """A row started."""

    index: int


@dataclass(slots=True, unsafe_hash=True)
class RowFinished(Event):
    """A row's outcome is durable and about to be handed to the reader."""

    outcome: Outcome


@dataclass(slots=True, unsafe_hash=True)
class RowRestarted(Event):
    """A streamed row broke off or was refused, and is asked again. Its pieces so far are void."""

    index: int


@dataclass(slots=True, unsafe_hash=True)
class ChunkFinished(Event):
    """All rows of a chunk have ended. It comes after their `RowFinished`, and never for a chunk with skipped rows.

    Attributes:
        index: the chunk's number, from 0; its first row is `index * chunk_size`.
        rows: ok + failed + stored.
        ok: rows answered by this run.
        failed: rows that failed in this run.
        stored: rows that the store held already.
        seconds: from the start of its first row to the end of its last.
    """

    index: int
    rows: int
    ok: int
    failed: int
    stored: int
    seconds: float


@dataclass(slots=True, unsafe_hash=True)
class CacheHit(Event):
    """A row was answered from the cache, and cost nothing.

    Attributes:
        source: where the answer was: in "memory", on "disk", or with an equal row in "flight".
        usage: the tokens that were saved, if they are known.
        saved_usd: the dollars that were saved; None where no price is known.
    """

    index: int
    source: Literal["memory", "disk", "flight"]
    usage: Usage | None
    saved_usd: float | None


@dataclass(slots=True, unsafe_hash=True)
class RequestFinished(Event):
    """One try of one model request has ended. `status` is None if no answer came.

    `run_id` is the LangChain run in which it was made: of a sequence, a graph or the like round the model; None outside
    of any.
    """

    index: int
    key: str  # host and model, without the account
    status: int | None
    kind: Kind | None
    latency_s: float
    usage: Usage | None
    run_id: UUID | None = None


@dataclass(slots=True, unsafe_hash=True)
class Paused(Event):
    """The provider named a wait; all requests of this key wait so long."""

    key: str
    seconds: float


@dataclass(slots=True, unsafe_hash=True)
class Unreachable(Event):
    """A request reached no server. It comes once for each reason.

    Attributes:
        reason: what happened, and where: "connection refused at 127.0.0.1:4999".
    """

    reason: str


@dataclass(slots=True, unsafe_hash=True)
class EndpointRests(Event):
    """One of several endpoints fails and is not asked for so many seconds; its rows go on at the others.

    Attributes:
        endpoint: host and model; or its number, if we see no requests.
        seconds: the seconds until one row asks there again.
        message: the message of the failure.
        kind: STOP_RUN for an endpoint that will never answer.
    """

    endpoint: str
    seconds: float
    message: str
    kind: Kind


@dataclass(slots=True, unsafe_hash=True)
class LimitChanged(Event):
    """The number of requests that may be in flight at a key has changed. It comes at most twice a second."""

    key: str  # host and model, without the account
    limit: int
    in_flight: int


@dataclass(slots=True, unsafe_hash=True)
class Binding(Event):
    """Something else limits the speed of the run now, or a clearly other pace does. It comes once this has lasted.

    Attributes:
        what: see `Bottleneck`; "" for nothing.
        key: host and model if it is a provider's limit, else "".
        why: why that is believed, in words, where it is one: "requests per second: about 40, found from 3 rejections".
    """

    what: Bottleneck
    key: str
    why: str = field(default="", compare=False)


@dataclass(slots=True, unsafe_hash=True)
class BudgetShare(Event):
    """A share of the budget is spent. It comes once for each of 0.5, 0.8 and 1 (spent, or too little is left)."""

    share: float
    spent_usd: float
    budget_usd: float


@dataclass(slots=True, unsafe_hash=True)
class CostSpike(Event):
    """A row cost many times the median cost of the rows before it."""

    index: int
    cost_usd: float
    median_usd: float


@dataclass(slots=True, unsafe_hash=True)
class RunEnded(Event):
    """The run has ended; `reason` is None for a normal end."""

    reason: str | None


FREQUENT: Final = frozenset({RowStarted, RequestFinished, RowFinished, CacheHit})  # told for each row
