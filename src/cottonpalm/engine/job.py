"""What a run does with each row, as the processor made and validated it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cottonpalm.config import Budget, RetryPolicy
    from cottonpalm.engine.executors.caller import Caller, Replicas
    from cottonpalm.engine.gates.cache import SharedCache


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The job of one run."""

    callers: Sequence[Caller | Replicas]  # the chain (or several equal ones) and its fallbacks
    many: bool = True  # False for `invoke` and `stream` of one input
    streaming: bool = False  # chunks go to the reader as they come
    retry: RetryPolicy
    validate: Callable[[Any], object] | None = None
    none_is_no_answer: bool = False
    item_timeout_s: float | None = None
    stall_timeout_s: float = 900.0
    max_failures: float | None = None
    budget: Budget | None = None
    cap: int | None = None  # rows at once, whatever the limits say
    types: Mapping[str, type] = field(default_factory=dict)
    keep_input: bool = True
    cache: SharedCache | None = None
    digest: bytes = b""  # of all that shapes an answer besides the row, in this process
    lasting: bytes | None = None  # the same in every process, where that can be told
    name: str | None = None
    total: int | None = None
    ordered: bool = False  # there are priorities
    chunk_size: int | None = None
    chunk_pause_s: float = 0.0
    chunks_total: int | None = None
    go_on: str = "Call it again with the rows that are not done."  # how to resume, for messages
