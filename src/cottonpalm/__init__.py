"""chain.batch() that is fast, stays within its budget, and loses nothing."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cottonpalm.config import AdaptiveConcurrency, Budget, Cache, RateLimit, RetryPolicy
    from cottonpalm.faults import (
        CannotStore,
        ChainChanged,
        ConfigError,
        CottonpalmError,
        RowFailed,
        RowTimeout,
        RunBusy,
        RunStopped,
        StoreError,
    )
    from cottonpalm.limits import Limits
    from cottonpalm.model import ErrorRecord, Event, Fault, Kind, Outcome, Usage
    from cottonpalm.pieces import RESTARTED
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
    from cottonpalm.run import AsyncRun, Run
    from cottonpalm.tally import Stats

__version__ = "0.1.0"
__all__ = [
    "RESTARTED",
    "AdaptiveBatchProcessor",
    "AdaptiveConcurrency",
    "AsyncRun",
    "BatchProcessor",
    "Budget",
    "Cache",
    "CachedBatchProcessor",
    "CannotStore",
    "ChainChanged",
    "ChunkedBatchProcessor",
    "ConfigError",
    "CostAwareBatchProcessor",
    "CottonpalmError",
    "ErrorRecord",
    "Event",
    "Fault",
    "HybridBatchProcessor",
    "Kind",
    "Limits",
    "Observer",
    "Outcome",
    "PriorityBatchProcessor",
    "PriorityTask",
    "ProfilingBatchProcessor",
    "RateLimit",
    "ResumableBatchProcessor",
    "RetryPolicy",
    "RowFailed",
    "RowTimeout",
    "Run",
    "RunBusy",
    "RunStopped",
    "SmartRetryBatch",
    "Stats",
    "Store",
    "StoreError",
    "StreamingBatchProcessor",
    "Usage",
]

_HOMES = {
    "config": ("AdaptiveConcurrency", "Budget", "Cache", "RateLimit", "RetryPolicy"),
    "limits": ("Limits",),
    "model": ("ErrorRecord", "Event", "Fault", "Kind", "Outcome", "Usage"),
    "pieces": ("RESTARTED",),
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
    "run": ("AsyncRun", "Run"),
    "tally": ("Stats",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: importing cottonpalm itself costs next to nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'cottonpalm' has no attribute {name!r}")
    value = getattr(import_module(f"cottonpalm.{_HOME.get(name, 'faults')}"), name)
    globals()[name] = value
    return value
