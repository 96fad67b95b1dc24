"""Which gates stand round the rows of a run, and in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cottonpalm.engine.gates.cache import CacheGate
from cottonpalm.engine.gates.checkpoint import CheckpointGate
from cottonpalm.engine.gates.disk import DiskTier
from cottonpalm.request.row_account import ROW
from cottonpalm.runtime.threads import BLOCKS_A_LOOP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cottonpalm.engine.gates.cache import SharedCache
    from cottonpalm.engine.job import Job
    from cottonpalm.events import Event
    from cottonpalm.protocols import Gate
    from cottonpalm.stats import CacheCounts
    from cottonpalm.types import Item


def gates_of(
    job: Job,
    unpark: Callable[[Item], None],
    counts: CacheCounts,
    tell: Callable[[Event], None] | None,
    *,
    stored: bool,
) -> Iterator[Gate]:
    """Yield the gates, outermost first: a stored row is not looked up in the cache, a cached one not asked.

    Args:
        job: the run's.
        unpark: lets a row in that was set aside.
        counts: what the cache does is counted there.
        tell: gets events; None: nobody listens.
        stored: the run's store may hold rows of earlier processes.
    """
    if stored:
        yield CheckpointGate(job.types)
    if job.cache is not None:
        yield _cache_gate(job, job.cache, unpark, counts, tell)
    yield from job.gates


def _cache_gate(
    job: Job,
    memory: SharedCache,
    unpark: Callable[[Item], None],
    counts: CacheCounts,
    tell: Callable[[Event], None] | None,
) -> CacheGate:
    """Make the cache gate. It waits for no other run if this run could wait for itself or its reader delay it."""
    disk = None
    shared = not (job.streaming or ROW.get() or BLOCKS_A_LOOP.get())
    if memory.disk is not None and job.lasting is not None:
        disk = DiskTier(memory.disk, job.lasting, job.types, claims=shared)
    rounds = job.terms is not None and job.settings.mode != "live"
    return CacheGate(
        memory, job.digest, unpark, counts=counts, shared=shared, rounds=rounds, disk=disk, tell=tell
    )
