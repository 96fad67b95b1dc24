"""`BatchProcessor`: the Runnable that users hold. It stands wherever the chain stood.

Its calls, from the narrowest: one row (`single.py`), a list of rows (`batches.py`), any rows (`starts.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from cottonpalm import settings as checked
from cottonpalm.config import Budget, Cache, RateLimit
from cottonpalm.starts import StartCalls

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from langchain_core.runnables import Runnable

    from cottonpalm.config import AdaptiveConcurrency, RetryPolicy
    from cottonpalm.protocols import Observer, Store
    from cottonpalm.request.limiter.limiters import Limits


class BatchProcessor(StartCalls):
    """Runs a chain over many rows: as fast as the provider allows, within its budget, losing nothing.

    Args:
        chain: any Runnable. It is never copied and never changed.
        concurrency: "auto" finds how many model requests may be in flight; a number is the most; or
            `AdaptiveConcurrency(initial, minimum, maximum)`.
        retry: retries after the first try, or a `RetryPolicy`. The SDK's own retries do not happen.
        fallbacks: chains tried in order when a row's fault says that another model could do it.
        replicas: equal chains with another base URL, key, region or deployment. Each row is answered by whichever has
            room, and goes to another one where that fails; each has a limit of its own.
        validate: gets each output; raising ValueError asks again.
        timeout: seconds for one model request after it got its permit; for a stream, between two chunks.
        item_timeout: seconds for a row in all, or None.
        rate_limit: `RateLimit(requests_per_minute, tokens_per_minute)`: never more than that is sent per host, model
            and account, whatever the provider allows.
        stall_timeout: seconds without one accepted request, beyond the waits a provider announced, after which the
            run stops (or `timeout`, if that is longer).
        limits: a `Limits` to learn the providers' limits in, apart from other processors; by default all of the
            process with the same `concurrency` ("auto" or an equal `AdaptiveConcurrency`) share them.
        budget: a ceiling in US dollars. Requests that could take the sum above it are not sent.
        prices: `{model: (dollars in, dollars out per million tokens)}`, or a function (model, usage) -> dollars.
        cache: equal rows are answered once; equal rows in flight share one call.
        store: a path or `sqlite:///...`: results are durable there before you see them. Needs `run`.
        run: the name of this run in the store. The same name again does only what is not done.
        priority: a function of the row; higher starts first. `batch(rows, priorities=[...])` goes before it.
        chunk_size: count rows by chunks of so many, in input order, for progress and `ChunkFinished` events.
        chunk_pause: seconds between the last row of a chunk and the first of the next; 0: chunks overlap freely.
        max_failures: stop after this many failed rows, or above this share of them (below 1, from 100 rows on).
        accept_truncated: an answer cut by its length limit counts as an answer.
        classify: your own word on an exception: a kind ("throttle", "transient", "reask", "degrade", "fail_row",
            "stop_run"), or None to leave it to us.
        output_type: Pydantic class or classes of the outputs, where the chain does not show them.
        store_inputs: False keeps only hashes of the rows; `retry` then needs the rows again.
        fingerprint: your own version string of the chain, in place of the one worked out from its parts.
        request_hook: False leaves the HTTP clients alone; permits then count rows or model calls.
        progress: show a progress line on stderr.
        observers: see the events of each run.

    Raises:
        ConfigError: a setting that cannot work (it is a ValueError).
    """

    def __init__(
        self,
        chain: Runnable[Any, Any],
        *,
        concurrency: Literal["auto"] | int | AdaptiveConcurrency = "auto",
        retry: int | RetryPolicy = 3,
        fallbacks: Sequence[Runnable[Any, Any]] = (),
        replicas: Sequence[Runnable[Any, Any]] = (),
        validate: Callable[[Any], object] | None = None,
        timeout: float = 600,
        item_timeout: float | None = None,
        stall_timeout: float = 900,
        rate_limit: RateLimit | None = None,
        limits: Limits | None = None,
        budget: Budget | None = None,
        prices: checked.Prices | None = None,
        cache: Cache | None = None,
        store: str | Path | Store | None = None,
        run: str | None = None,
        priority: Callable[[Any], float] | None = None,
        chunk_size: int | None = None,
        chunk_pause: float = 0,
        max_failures: float | None = None,
        accept_truncated: bool = False,
        classify: checked.Classify | None = None,
        output_type: type | Sequence[type] | None = None,
        store_inputs: bool = True,
        fingerprint: str | None = None,
        request_hook: bool = True,
        progress: bool = False,
        observers: Sequence[Observer] = (),
    ) -> None:
        checked.runnable(chain, "chain")
        bounds, cap = checked.concurrency_of(concurrency)
        settings = checked.Settings(
            concurrency=bounds,
            cap=cap,
            retry=checked.retry_of(retry),
            fallbacks=checked.chains_of(fallbacks, "fallbacks"),
            replicas=checked.replicas_of(replicas, chain),
            validate=checked.function(validate, "validate"),
            timeout_s=checked.positive(timeout, "timeout") or 600,
            item_timeout_s=checked.positive(item_timeout, "item_timeout"),
            rate_limit=checked.made_as(rate_limit, RateLimit, "rate_limit"),
            stall_timeout_s=checked.positive(stall_timeout, "stall_timeout") or 900,
            limits=checked.limits_of(limits),
            budget=checked.made_as(budget, Budget, "budget"),
            prices=checked.prices_of(prices),
            cache=checked.made_as(cache, Cache, "cache"),
            store=store,
            run=checked.name_of(run, "run"),
            priority=checked.function(priority, "priority"),
            chunk_size=checked.chunk_size_of(chunk_size),
            chunk_pause_s=checked.chunk_pause_of(chunk_pause, chunk_size),
            max_failures=checked.failures_of(max_failures),
            accept_truncated=checked.yes_or_no(accept_truncated, "accept_truncated"),
            classify=checked.function(classify, "classify"),
            output_type=checked.classes_of(output_type),
            store_inputs=checked.yes_or_no(store_inputs, "store_inputs"),
            fingerprint=checked.name_of(fingerprint, "fingerprint"),
            request_hook=checked.yes_or_no(request_hook, "request_hook"),
            progress=checked.yes_or_no(progress, "progress"),
            observers=checked.observers_of(observers),
        )
        super().__init__(chain, settings)
