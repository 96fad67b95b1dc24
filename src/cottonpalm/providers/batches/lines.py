"""The values of the batch lane: lines that go out, results that come back, what a provider says of a batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal, TypeAlias

QUEUE_FULL: Final = ("token_limit_exceeded", "RESOURCE_EXHAUSTED")  # as OpenAI's and Google's batches fail
AGAIN: Final = frozenset({408, 409, 425, 429})  # like 5xx: the same request may be answered another time
Lost: TypeAlias = Literal["expired", "cancelled", "failed", "missing"]


@dataclass(frozen=True, slots=True)
class Line:
    """One request of a batch. `body` is the live request's, unchanged: the adapter drops what a line must not say."""

    custom_id: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one line.

    Attributes:
        custom_id: whose it is; the order of results means nothing.
        status: what a live request would have been answered with; 0 where the line was not executed.
        body: the answer, or the error as the live endpoint words it; None where the line was not executed.
        lost: why it was not executed: its batch expired, was cancelled or failed, or nothing came for it.
        why: what the provider said of a lost line.
    """

    custom_id: str
    status: int
    body: dict[str, Any] | None = None
    lost: Lost | None = None
    why: str = ""

    @property
    def good(self) -> bool:
        """It holds an answer, which was paid for."""
        return self.status == 200

    @property
    def final(self) -> bool:
        """Answered or refused for good: to be replayed. Otherwise the request is still to be asked."""
        return self.good or (400 <= self.status < 500 and self.status not in AGAIN)


class Phase(StrEnum):
    """Where a provider's batch stands. The last four are its end."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    FAILED = "failed"


ENDED: Final = frozenset({Phase.COMPLETED, Phase.EXPIRED, Phase.CANCELLED, Phase.FAILED})


@dataclass(frozen=True, slots=True)
class BatchFault:
    """Why a provider did not accept a batch; `line` counts from 1, None where it means the whole."""

    code: str
    message: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class BatchState:
    """What a provider says of a batch.

    Attributes:
        batch_id: the provider's.
        phase: where it stands.
        rows: in all; None where the provider does not say (yet).
        done: rows with an answer; 0 until the end where the provider counts no earlier (Anthropic).
        failed: rows with an error.
        share: how much of it is done, from 0 to 1, where the provider counts no rows (Together).
        created_at: Unix seconds; so is `ended_at`.
        tag: ours, where the provider keeps one.
        input_file_id: what it was made of, where it was made of a file.
        results: where its results are: file ids or addresses. A batch may end without any.
        faults: why it failed as a whole.
        gone: it ended, but its results are no longer kept.
    """

    batch_id: str
    phase: Phase
    rows: int | None = None
    done: int = 0
    failed: int = 0
    created_at: float | None = None
    ended_at: float | None = None
    tag: str | None = None
    input_file_id: str | None = None
    results: tuple[str, ...] = ()
    faults: tuple[BatchFault, ...] = ()
    gone: bool = False
    share: float = 0.0

    @property
    def ended(self) -> bool:
        """Nothing more will happen to it; its results, if any, can be fetched."""
        return self.phase in ENDED

    @property
    def queue_full(self) -> bool:
        """It failed because too many tokens were waiting: to be tried again once others are through."""
        return any(fault.code in QUEUE_FULL for fault in self.faults)


def full(message: str) -> BatchState:
    """The state of a batch that was not made, as too many tokens were waiting."""
    return BatchState("", Phase.FAILED, faults=(BatchFault(QUEUE_FULL[0], message),))


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much a provider takes. None: no limit is known.

    Attributes:
        rows: in one batch.
        file_bytes: of one batch's file, or of the request that holds all lines.
        line_bytes: of one line.
        queued_tokens: input tokens waiting in all batches of a model together; the account's tier decides.
        queued_rows: rows waiting in all batches together.
    """

    rows: int | None
    file_bytes: int
    line_bytes: int | None = None
    queued_tokens: int | None = None
    queued_rows: int | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """One HTTP request to a batch API, without credentials.

    Its body is `head`, and where `joint` is set, then the lines of the batch with `joint` between them, and `tail`.
    """

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    head: bytes = b""
    joint: bytes | None = None
    tail: bytes = b""


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a listing; `more` asks for the next part, None after the last."""

    states: tuple[BatchState, ...]
    more: Ask | None = None
