"""The ten techniques as plain classes: the source document's names and signatures, the engine's behaviour.

Each holds a `.processor` (a `BatchProcessor`), and takes every keyword of it besides its own; where both say the same,
its own argument wins. So each technique goes with every other one.
"""

from cottonpalm.presets.adaptive import AdaptiveBatchProcessor
from cottonpalm.presets.cached import CachedBatchProcessor
from cottonpalm.presets.chunked import ChunkedBatchProcessor
from cottonpalm.presets.cost import CostAwareBatchProcessor
from cottonpalm.presets.hybrid import HybridBatchProcessor
from cottonpalm.presets.priority import PriorityBatchProcessor, PriorityTask
from cottonpalm.presets.profiling import ProfilingBatchProcessor
from cottonpalm.presets.resumable import ResumableBatchProcessor
from cottonpalm.presets.smart_retry import SmartRetryBatch
from cottonpalm.presets.streaming import StreamingBatchProcessor

__all__ = [
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
]
