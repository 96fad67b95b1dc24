"""What is said of batches: of one that is over and did not answer everything, of those that are out. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cottonpalm.observers.words.formatting import count
from cottonpalm.providers.batches.lines import Phase
from cottonpalm.providers.batches.queue import is_full
from cottonpalm.providers.batches.stages import Stage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from cottonpalm.providers.batches.lines import Result
    from cottonpalm.providers.batches.stages import Batch


_DOING: Final = {
    Stage.CREATING: "is looked for at the provider",
    Stage.SUBMITTED: "cannot be looked at",
    Stage.ENDED: "has ended, but its results cannot be fetched",
}


class Said(NamedTuple):
    """A warning: each topic is told once in a run."""

    topic: str
    text: str


def out_words(batches: Collection[Batch]) -> str:
    """Say how much is at providers."""
    requests = sum(batch.rows for batch in batches)
    are = "request is" if requests == 1 else "requests are"
    return f"{requests:,} {are} out in {len(batches):,} {'batch' if len(batches) == 1 else 'batches'}"


def trouble_words(batch: Batch, trouble: str) -> str:
    """Say what a batch has waited for so long that somebody should know."""
    doing = _DOING.get(batch.stage, f"of {count(batch.rows, 'request')} cannot be submitted")
    return (
        f"batch {batch.batch_id or batch.tag} of {batch.lane.label} {doing}: {trouble.rstrip('.')}. It is tried again"
        " until that works. The run may be left meanwhile: what is out stays out, and the same call again goes on"
    )


def said_of(batch: Batch, unanswered: int) -> Iterator[Said]:
    """What whoever pays should know of it.

    Args:
        batch: in its final stage.
        unanswered: how many of its requests are to be asked again.
    """
    name = f"batch {batch.batch_id or batch.tag} of {batch.lane.label}"
    if batch.twins:
        twins = ", ".join(batch.twins)
        yield Said("twins", f"{name} was made twice at the provider ({twins} too): both may have to be paid")
    phase = batch.state.phase if batch.state else None
    why = f": {batch.why.rstrip('.')}" if batch.why else ""
    some = f"{unanswered:,} of {count(batch.rows, 'request')}"
    if batch.stage is Stage.LOST:
        yield Said(
            "lost batch",
            f"{name} is lost{why}. What it did may have to be paid all the same; {some} had no answer and are asked"
            " again",
        )
    elif is_full(batch):
        yield Said(
            "queue full",
            f"{name} was not taken{why}. Its rows wait for room at the provider, in smaller batches where that helps",
        )
    elif unanswered and phase is Phase.FAILED:
        yield Said(
            "failed batch", f"{name}, with {count(batch.rows, 'request')}, failed{why}. They are asked again"
        )
    elif unanswered and phase is Phase.EXPIRED:
        yield Said("expired batch", f"{name} expired: {some} had no answer and are asked again")
    elif unanswered and phase is Phase.CANCELLED and not batch.cancelling:
        yield Said(
            "cancelled batch",
            f"{name} was cancelled at the provider: {some} had no answer and are asked again",
        )
    elif unanswered and phase is Phase.COMPLETED:
        yield Said("unanswered", f"{name} came back with {some} unanswered: they are asked again")


def innocent(batch: Batch, result: Result) -> bool:
    """Whether a batch that was not taken says nothing against this line of it; a line alone may be too much itself."""
    failed = batch.state is not None and batch.state.phase is Phase.FAILED
    return failed and result.lost == "cancelled" and batch.rows > 1
