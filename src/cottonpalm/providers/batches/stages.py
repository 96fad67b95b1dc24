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
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from cottonpalm.providers.batches.lanes import Lane
    from cottonpalm.providers.batches.lines import BatchState, Lost, Result

Step: TypeAlias = Literal["upload", "create", "find", "look", "collect", "abandon", "nothing"]
CLOCKS_DIFFER_S: Final = 600.0  # by how much a provider's clock may be behind ours


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
FINAL: Final = frozenset({Stage.COLLECTED, Stage.LOST, Stage.ABANDONED})


class Member(NamedTuple):
    """Which request a line is: of which row, and its key there. Member n of a batch has the custom_id `tag-n`."""

    row: int
    key: bytes


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
        cancelling: it was asked to stop.
        why: it is lost, abandoned or failed.
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
    cancelling: bool = False
    why: str = ""

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
            StoreError: one of the members is out already, or answered.
        """

    def put(self, batch: Batch) -> None:
        """Write down where a batch stands."""

    def batches(self) -> list[Batch]:
        """All of the run, oldest first."""

    def members(self, tag: str) -> list[Member]:
        """Of one batch, by line number."""

    def keep(self, tag: str, results: Iterable[tuple[int, Result]]) -> None:
        """Store results by line number. Final ones stay: a second result of a line changes only one that is not."""

    def close(self, batch: Batch, lost: Lost = "missing") -> int:
        """Write down a final stage; lines still without a result are `lost`. Returns how many those are."""

    def asked(self, row: int) -> Mapping[bytes, Result | None]:
        """The requests of a row by key: its final result, or None while it is out; not there: to be asked (again)."""

    def forget(self, rows: Iterable[int]) -> None:
        """Drop the results of rows that are done. Lines that are out stay."""

    def known(self) -> Collection[str]:
        """The provider's ids of all batches in this store, of every run."""


def next_step(batch: Batch, *, file_here: bool, uploads: bool) -> Step:
    """What to do now.

    Args:
        batch: as it was written down last.
        file_here: this process still has the file of lines.
        uploads: the provider takes a file; otherwise the lines travel in the request that creates the batch.
    """
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
        twins: more batches with our tag or file: a second submission, to be cancelled. Their results count as well.
    """

    found: BatchState | None = None
    proven: bool = False
    twins: tuple[BatchState, ...] = ()


def search(batch: Batch, listed: Iterable[BatchState], known: Collection[str]) -> Search:
    """Look for `batch` in a listing.

    By tag or input file where the provider keeps them. Where it keeps neither: created since we sent it, with as many
    rows, and not known to be another one. The oldest such comes first.
    """
    ours = [state for state in listed if _marked(batch, state)]
    if ours:
        first, *twins = sorted(ours, key=_born)
        return Search(first, proven=True, twins=tuple(twins))
    if batch.input_file_id is not None:
        return Search()
    passed = {*known, *batch.strangers}
    like = [state for state in listed if state.batch_id not in passed and _alike(batch, state)]
    return Search(min(like, key=_born)) if like else Search()


def _marked(batch: Batch, state: BatchState) -> bool:
    if state.tag is not None:
        return state.tag == batch.tag
    return state.input_file_id is not None and state.input_file_id == batch.input_file_id


def _alike(batch: Batch, state: BatchState) -> bool:
    since = (batch.sent_at or batch.planned_at) - CLOCKS_DIFFER_S
    return state.tag is None and state.rows == batch.rows and _born(state) >= since


def _born(state: BatchState) -> float:
    return state.created_at or 0.0


def surely_absent(batch: Batch, now: float, wait_s: float) -> bool:
    """Whether a listing without it is believed: `wait_s` after it was sent, when even a slow listing shows it."""
    return batch.sent_at is not None and now - batch.sent_at >= wait_s


def with_state(batch: Batch, state: BatchState) -> Batch:
    """The batch with what the provider says of it now."""
    stage = Stage.ENDED if state.ended else Stage.SUBMITTED
    return replace(batch, stage=stage, batch_id=state.batch_id, state=state, ended_at=state.ended_at)
