"""The life of a batch, as pure decisions: what is to be done next, whatever was interrupted before.

    intent -> uploaded -> creating -> submitted -> ended -> collected
       |         |           |            |          |
       +---------+-----------+-> abandoned+----------+-> lost

Each stage is durable before the step that follows it leaves the machine. `creating` is the one that matters: the
provider may or may not have made the batch, so it is looked for until it is found, or surely is not there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from cottonpalm.providers.batches.lines import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cottonpalm.providers.batches.lanes import Lane
    from cottonpalm.providers.batches.lines import BatchState, Lost, Result

Step: TypeAlias = Literal["upload", "create", "find", "look", "collect", "abandon", "nothing"]
_DIGITS: Final = 9  # of the number of a line, at most
# By how much a provider's times may be behind ours, which are compared by the date of its answers.
CLOCKS_DIFFER_S: Final = 600.0


class Stage(StrEnum):
    """Where a batch stands for us. The last three are final."""

    INTENT = "intent"  # its members are written down; nothing was sent, or only a file, which costs nothing
    UPLOADED = "uploaded"  # the provider has the file
    CREATING = "creating"  # the request that costs money was sent, or is about to be
    SUBMITTED = "submitted"  # the provider's id is known
    ENDED = "ended"  # the provider is through with it; results are to be fetched
    COLLECTED = "collected"  # every line has a result or is known to have none
    LOST = "lost"  # it was submitted, but its results cannot be had any more: it may have been paid for
    ABANDONED = "abandoned"  # it was never submitted, for certain: it costs nothing


_NEXT: Final[dict[Stage, Step]] = {
    Stage.UPLOADED: "create",
    Stage.CREATING: "find",
    Stage.SUBMITTED: "look",
    Stage.ENDED: "collect",
    Stage.COLLECTED: "nothing",
    Stage.LOST: "nothing",
    Stage.ABANDONED: "nothing",
}
_LOST: Final[dict[Phase, Lost]] = {
    Phase.EXPIRED: "expired",
    Phase.CANCELLED: "cancelled",
    Phase.FAILED: "failed",
}
FINAL: Final = frozenset({Stage.COLLECTED, Stage.LOST, Stage.ABANDONED})


class Member(NamedTuple):
    """Which request a line is: of which row, and its key there. Member n of a batch has the custom_id `tag-n`."""

    row: int
    key: bytes


class AskedRow(NamedTuple):
    """Which row its requests are of: its place in the store, who it is, and what it asks (see `types.Item`)."""

    row: int
    key: bytes
    content: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """What is written down of a batch.

    Attributes:
        tag: ours, 12 hexadecimal digits; unique, and the beginning of each custom_id.
        rows: how many lines it has; so have `size` bytes and `tokens` estimated input tokens.
        reserved: pico-dollars set aside for it.
        planned_at: Unix seconds; so are `sent_at` (the request to create it) and `ended_at`.
        input_file_id: the provider's, where it takes a file.
        batch_id: the provider's.
        state: what the provider said last.
        proven: False while `batch_id` was found by time and count alone, which only its results can confirm.
        strangers: ids that looked like ours and were not.
        sends: how often the request to create it was sent.
        twins: ids of the same batch, created twice after all: paid twice, their results count as well.
        cancelling: it was asked to stop, at `cancelled_at`.
        why: it is lost, abandoned or failed.
        whose: which key it was planned with (`lanes.whose`).
        dearest: the most pico-dollars that are set aside for one of its lines; 0: not written down.
    """

    tag: str
    lane: Lane
    stage: Stage
    rows: int
    size: int = 0
    tokens: int = 0
    reserved: int = 0
    planned_at: float = 0.0
    sent_at: float | None = None
    ended_at: float | None = None
    input_file_id: str | None = None
    batch_id: str | None = None
    state: BatchState | None = None
    proven: bool = True
    strangers: tuple[str, ...] = ()
    sends: int = 0
    twins: tuple[str, ...] = ()
    cancelling: bool = False
    why: str = ""
    whose: str = ""
    cancelled_at: float | None = None
    dearest: int = 0

    @property
    def over(self) -> bool:
        """Nothing is left to do for it."""
        return self.stage in FINAL

    @property
    def out(self) -> bool:
        """It is or may be at the provider, so it may cost money."""
        return self.stage in (Stage.CREATING, Stage.SUBMITTED, Stage.ENDED)


class Book(Protocol):
    """The batches of one run, durable when a method returns. Held under the run's lease: one writer.

    A request (row and key) is in at most one line that is out, answered or refused for good; `plan` refuses it
    otherwise. So no request can be asked twice as long as it waits or has its answer.
    """

    def plan(self, batch: Batch, members: Sequence[Member]) -> None:
        """Write down a batch before anything is sent.

        Raises:
            StoreError: one of the members is out already, or answered or refused for good (see `forget`).
        """

    def put(self, batch: Batch) -> None:
        """Write down where a batch stands."""

    def batches(self) -> list[Batch]:
        """All of the run, oldest first."""

    def members(self, tag: str) -> list[Member]:
        """Of one batch, by line number."""

    def lost(self, tag: str) -> list[tuple[Member, Result]]:
        """The lines of a batch that are to be asked again, each with what became of it."""

    def keep(self, tag: str, results: Iterable[tuple[int, Result]]) -> None:
        """Store results by line number. Final ones stay: a second result of a line changes only one that is not."""

    def close(self, batch: Batch) -> int:
        """Write down a final stage. Lines still without a result are lost (`lost_by`); returns how many those are."""

    def asked(self, row: int) -> Mapping[bytes, Result | None]:
        """The requests of a row by key: its final result, or None while it is out; not there: to be asked (again)."""

    def lanes(self, row: int) -> Mapping[bytes, Lane]:
        """In which lane each request of a row was asked, by key."""

    def doubt(self, passes: Callable[[Lane, Result], bool]) -> None:
        """Have refusals asked again of which `passes` says, by lane and result, that they may not hold any more."""

    def forget(self, rows: Iterable[int]) -> None:
        """Drop the results of rows that are done. Lines that are out stay."""

    def tools(self, row: int) -> Mapping[bytes, bytes]:
        """What tools answered in the row, by key."""

    def keep_tools(self, row: int, answers: Mapping[bytes, bytes]) -> None:
        """Store what tools answered, until the row is forgotten. The first answer stays."""

    def rows(self) -> list[AskedRow]:
        """The rows that were in batches and are not forgotten, in order."""

    def keep_rows(self, rows: Iterable[AskedRow]) -> None:
        """Write down which rows the requests of a batch are of, before it is planned."""

    def past(self, limit: int = 200) -> list[Batch]:
        """Batches that are over, of every run in this store, newest first: how long they took."""

    def known(self) -> Mapping[str, bool]:
        """The provider's ids of all batches in this store, of every run; False: found by time and count alone."""


@runtime_checkable
class KeepsBatches(Protocol):
    """What a `RunStore` may offer besides: a book of batches."""

    def book(self) -> Book:
        """Of this run; usable as long as the run is open."""


def next_step(batch: Batch, *, file_here: bool, uploads: bool) -> Step:
    """What to do now.

    Args:
        batch: as it was written down last.
        file_here: this process still has the file of lines.
        uploads: the provider takes a file; otherwise the lines travel in the request that creates the batch.
    """
    if batch.cancelling and batch.stage in (Stage.INTENT, Stage.UPLOADED):
        return "abandon"
    if batch.stage is not Stage.INTENT:
        return _NEXT[batch.stage]
    if not file_here:
        return "abandon"  # nothing that costs was sent: its members are asked anew
    return "upload" if uploads else "create"


def after_absence(*, file_here: bool, uploads: bool) -> Step:
    """What to do with a batch that was looked for long enough and surely is not there."""
    return "create" if uploads or file_here else "abandon"


class Search(NamedTuple):
    """What a listing says of a batch whose submission was not answered.

    Attributes:
        found: it, or what looks like it; None: not there.
        proven: it bears our tag or was made of our file.
    """

    found: BatchState | None = None
    proven: bool = False


def search(batch: Batch, listed: Iterable[BatchState], known: Mapping[str, bool]) -> Search:
    """Look for `batch` in a listing.

    By tag or input file where the provider keeps them. Where it keeps neither: created since we sent it, with as many
    rows, and not known to be another one. The oldest such comes first, but behind all of them those that another batch
    of ours took for itself by the same signs: it may have been wrong, which only the results will tell.
    """
    listed = list(listed)
    if marked := ours(batch, listed):
        return Search(marked[0], proven=True)
    if batch.input_file_id is not None:
        return Search()
    passed = {*(batch_id for batch_id, proven in known.items() if proven), *batch.strangers}
    like = [state for state in listed if state.batch_id not in passed and _alike(batch, state)]
    return Search(min(like, key=lambda state: (state.batch_id in known, _born(state)))) if like else Search()


def ours(batch: Batch, listed: Iterable[BatchState]) -> list[BatchState]:
    """Those with our tag or made of our file, oldest first. More than one: it was submitted twice."""
    return sorted((state for state in listed if _marked(batch, state)), key=_born)


def _marked(batch: Batch, state: BatchState) -> bool:
    if state.tag is not None:
        return state.tag == batch.tag
    return state.input_file_id is not None and state.input_file_id == batch.input_file_id


def _alike(batch: Batch, state: BatchState) -> bool:
    since = (batch.sent_at or batch.planned_at) - CLOCKS_DIFFER_S
    return state.tag is None and state.rows == batch.rows and _born(state) >= since


def _born(state: BatchState) -> float:
    return state.created_at or 0.0


def surely_absent(sent_at: float, asked_at: float, wait_s: float) -> bool:
    """Whether a listing without it is believed: asked for `wait_s` after it was sent, when even a slow one shows it."""
    return asked_at - sent_at >= wait_s


def lost_by(batch: Batch) -> Lost:
    """Why lines have no result in a batch that is over."""
    if batch.stage is Stage.ABANDONED:
        return "cancelled"
    phase = batch.state.phase if batch.state else Phase.FAILED
    return _LOST.get(phase, "missing")


def custom_id(tag: str, number: int) -> str:
    """Of line `number` of a batch, counted from 0."""
    return f"{tag}-{number}"


def number_of(batch: Batch, custom_id: str) -> int | None:
    """Which line of the batch it is; None where it is of another batch, or none at all."""
    head, _, tail = custom_id.rpartition("-")
    if head != batch.tag or len(tail) > _DIGITS or not (tail.isdecimal() and tail.isascii()):
        return None
    return number if (number := int(tail)) < batch.rows else None


def with_state(batch: Batch, state: BatchState) -> Batch:
    """The batch with what the provider says of it now."""
    stage = Stage.ENDED if state.ended else Stage.SUBMITTED
    return replace(batch, stage=stage, batch_id=state.batch_id, state=state, ended_at=state.ended_at)
