"""chain.batch() that is fast, stays within its budget, and loses nothing."""

import gc
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cottonpalm.config import AdaptiveConcurrency, BatchLane, Budget, Cache, RateLimit, RetryPolicy
    from cottonpalm.engine.output.outbox import RESTARTED
    from cottonpalm.engine.output.stream_events import RowChunk
    from cottonpalm.errors import (
        CannotStore,
        ChainChanged,
        ConfigError,
        CottonpalmError,
        RowFailed,
        RowTimeout,
        RunBusy,
        RunStopped,
        StoredError,
        StoreError,
    )
    from cottonpalm.events import (
        Binding,
        BudgetShare,
        CacheHit,
        ChunkFinished,
        CostSpike,
        EndpointRests,
        Event,
        LimitChanged,
        Paused,
        RequestFinished,
        RowFinished,
        RowRestarted,
        RowStarted,
        RunEnded,
        RunStarted,
        Unreachable,
    )
    from cottonpalm.live.server import Dashboard
    from cottonpalm.observers.report import Report
    from cottonpalm.planning.plan import Plan
    from cottonpalm.presets import (
        AdaptiveBatchProcessor,
        CachedBatchProcessor,
        ChunkedBatchProcessor,
        CostAwareBatchProcessor,
        HybridBatchProcessor,
        PriorityBatchProcessor,
        PriorityTask,
        ProfilingBatchProcessor,
        ResumableBatchProcessor,
        SmartRetryBatch,
        StreamingBatchProcessor,
    )
    from cottonpalm.processor import BatchProcessor
    from cottonpalm.protocols import Observer, Store
    from cottonpalm.request.limiter.limiters import Limits
    from cottonpalm.run import AsyncRun, Run
    from cottonpalm.stats import Stats
    from cottonpalm.stores import open_store
    from cottonpalm.types import ErrorRecord, Fault, Kind, Outcome, Usage

__version__ = "0.1.0"
__all__ = [
    "RESTARTED",
    "AdaptiveBatchProcessor",
    "AdaptiveConcurrency",
    "AsyncRun",
    "BatchLane",
    "BatchProcessor",
    "Binding",
    "Budget",
    "BudgetShare",
    "Cache",
    "CacheHit",
    "CachedBatchProcessor",
    "CannotStore",
    "ChainChanged",
    "ChunkFinished",
    "ChunkedBatchProcessor",
    "ConfigError",
    "CostAwareBatchProcessor",
    "CostSpike",
    "CottonpalmError",
    "Dashboard",
    "EndpointRests",
    "ErrorRecord",
    "Event",
    "Fault",
    "HybridBatchProcessor",
    "Kind",
    "LimitChanged",
    "Limits",
    "Observer",
    "Outcome",
    "Paused",
    "Plan",
    "PriorityBatchProcessor",
    "PriorityTask",
    "ProfilingBatchProcessor",
    "RateLimit",
    "Report",
    "RequestFinished",
    "ResumableBatchProcessor",
    "RetryPolicy",
    "RowChunk",
    "RowFailed",
    "RowFinished",
    "RowRestarted",
    "RowStarted",
    "RowTimeout",
    "Run",
    "RunBusy",
    "RunEnded",
    "RunStarted",
    "RunStopped",
    "SmartRetryBatch",
    "Stats",
    "Store",
    "StoreError",
    "StoredError",
    "StreamingBatchProcessor",
    "Unreachable",
    "Usage",
    "open_store",
]

_HOMES = {
    "config": ("AdaptiveConcurrency", "BatchLane", "Budget", "Cache", "RateLimit", "RetryPolicy"),
    "engine.output.outbox": ("RESTARTED",),
    "engine.output.stream_events": ("RowChunk",),
    "events": (
        "Binding",
        "BudgetShare",
        "CacheHit",
        "ChunkFinished",
        "CostSpike",
        "EndpointRests",
        "Event",
        "LimitChanged",
        "Paused",
        "RequestFinished",
        "RowFinished",
        "RowRestarted",
        "RowStarted",
        "RunEnded",
        "RunStarted",
        "Unreachable",
    ),
    "live.server": ("Dashboard",),
    "observers.report": ("Report",),
    "planning.plan": ("Plan",),
    "presets": (
        "AdaptiveBatchProcessor",
        "CachedBatchProcessor",
        "ChunkedBatchProcessor",
        "CostAwareBatchProcessor",
        "HybridBatchProcessor",
        "PriorityBatchProcessor",
        "PriorityTask",
        "ProfilingBatchProcessor",
        "ResumableBatchProcessor",
        "SmartRetryBatch",
        "StreamingBatchProcessor",
    ),
    "processor": ("BatchProcessor",),
    "protocols": ("Observer", "Store"),
    "request.limiter.limiters": ("Limits",),
    "run": ("AsyncRun", "Run"),
    "stats": ("Stats",),
    "stores": ("open_store",),
    "types": ("ErrorRecord", "Fault", "Kind", "Outcome", "Usage"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def _age() -> None:
    """Count what is loaded as old at once: else the next collection of young objects would look through all of it."""
    if not gc.get_freeze_count():  # what a user has frozen stays so
        gc.freeze()
        gc.unfreeze()


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: importing cottonpalm itself costs next to nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'cottonpalm' has no attribute {name!r}")
    collects = gc.isenabled()
    gc.disable()  # what is loaded stays: to look for garbage in it meanwhile costs a tenth of loading it
    try:
        value = getattr(import_module(f"cottonpalm.{_HOME.get(name, 'errors')}"), name)
    finally:
        if collects:
            _age()
            gc.enable()
    globals()[name] = value
    return value
