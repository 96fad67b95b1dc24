"""What a run does with each row, as the processor made and validated it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cottonpalm.engine.executors.caller import Caller, Replicas
    from cottonpalm.engine.gates.cache import SharedCache
    from cottonpalm.protocols import Gate
    from cottonpalm.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The job of one run: what its processor was told, and what this run adds."""

    settings: Settings
    callers: Sequence[Caller | Replicas]  # the chain (or several equal ones) and its fallbacks
    many: bool = True  # False for `invoke` and `stream` of one input
    streaming: bool = False  # chunks go to the reader as they come
    none_is_no_answer: bool = False
    cap: int | None = None  # rows at once, whatever the limits say
    types: Mapping[str, type] = field(default_factory=dict)
    cache: SharedCache | None = None
    digest: bytes = b""  # of all that shapes an answer besides the row, in this process
    lasting: bytes | None = None  # the same in every process, where that can be told
    name: str | None = None
    total: int | None = None
    ordered: bool = False  # there are priorities
    chunks_total: int | None = None
    gates: Sequence[Gate] = ()  # innermost, round each row that is asked
    go_on: str = "Call it again with the rows that are not done."  # how to resume, for messages

    @property
    def chunk_size(self) -> int | None:
        """Rows in a chunk; None where rows are not counted by chunks."""
        return self.settings.chunk_size if self.many else None
