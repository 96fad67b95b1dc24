"""What a run does with each row. The processor has made and validated it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cottonpalm.engine.chain_call.caller import Caller
    from cottonpalm.engine.chain_call.replicas import Replicas
    from cottonpalm.engine.executors.batch.terms import BatchTerms
    from cottonpalm.engine.executors.workers.links import Begin, WorkerPool
    from cottonpalm.engine.gates.cache import SharedCache
    from cottonpalm.engine.run_asked import SampleOf
    from cottonpalm.protocols import Gate
    from cottonpalm.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The job of one run: what its processor was told, and what this run adds."""

    settings: Settings
    callers: Sequence[Caller | Replicas]  # the chain (or several equal ones) and its fallbacks
    many: bool = True  # False for `invoke` and `stream`, which have one input
    streaming: bool = False  # True: the reader gets the chunks of an answer as they come
    none_is_no_answer: bool = False
    terms: BatchTerms | None = None  # how rows go through batches; None: they do not
    # makes the workers; None: this process runs the rows itself
    workers: Callable[[], tuple[WorkerPool, Begin]] | None = None
    cap: int | None = None  # the most rows at once, even if the limits allow more
    types: Mapping[str, type] = field(default_factory=dict)
    cache: SharedCache | None = None
    digest: bytes = b""  # a digest of everything besides the row that shapes an answer, for this process
    lasting: bytes | None = None  # such a digest that is the same in every process; None: it cannot be made
    name: str | None = None
    total: int | None = None
    sample_of: SampleOf | None = None  # these rows are a sample for a plan, and not all that are left
    ordered: bool = False  # True: rows have priorities
    chunks_total: int | None = None
    gates: Sequence[Gate] = ()  # innermost, round each row that is asked
    go_on: str = "Call it again with the rows that are not done."  # tells the user how to resume

    @property
    def chunk_size(self) -> int | None:
        """Rows in a chunk; None if the run has no chunks."""
        return self.settings.chunk_size if self.many else None
