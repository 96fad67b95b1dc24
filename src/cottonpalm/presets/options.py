"""The keywords of `BatchProcessor`, as the ten classes take them: for editors and type checkers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from langchain_core.runnables import Runnable

    from cottonpalm import settings as checked
    from cottonpalm.config import AdaptiveConcurrency, BatchLane, Budget, Cache, RateLimit, RetryPolicy
    from cottonpalm.protocols import Observer, Store
    from cottonpalm.request.limiter.limiters import Limits
    from cottonpalm.request.transports import Transport


class ChunkedOptions(TypedDict, total=False):
    """All but `chunk_size`."""

    # how fast
    concurrency: Literal["auto"] | int | AdaptiveConcurrency
    rate_limit: RateLimit | None
    limits: Limits | None
    replicas: Sequence[Runnable[Any, Any]]
    priority: Callable[[Any], float] | None
    chunk_pause: float
    transport: Transport
    request_hook: bool
    # what happens when something fails
    retry: int | RetryPolicy
    fallbacks: Sequence[Runnable[Any, Any]]
    validate: Callable[[Any], object] | None
    classify: checked.Classify | None
    accept_truncated: bool
    timeout: float
    hedge: bool
    item_timeout: float | None
    stall_timeout: float
    max_failures: float | None
    # money
    budget: float | Budget | None
    prices: checked.Prices | None
    prompt_cache: checked.PromptCache
    cache: Cache | None
    # what is kept
    store: str | Path | Store | None
    run: str | None
    store_inputs: bool
    fingerprint: str | None
    output_type: type | Sequence[type] | None
    # when and where rows run
    mode: checked.Mode
    deadline: float | None
    detach: bool
    lane: BatchLane | None
    executor: checked.Executing
    workers: int | None
    ray_address: str | None
    # what is seen
    progress: bool
    observers: Sequence[Observer]


class Options(ChunkedOptions, total=False):
    """All of them; `BatchProcessor` says what each one means."""

    chunk_size: int | None
