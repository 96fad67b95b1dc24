"""The settings of a `BatchProcessor`, checked once, before any call is made; what goes together, and what does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self, TypeAlias

from cottonpalm.config import AdaptiveConcurrency, BatchLane, Budget, Cache, RateLimit, RetryPolicy
from cottonpalm.errors import ConfigError
from cottonpalm.request.transports import DEFAULT_TRANSPORT, Transport
from cottonpalm.setting_checks import (
    Check,
    budget_of,
    cap_of,
    chains_of,
    chunk_size_of,
    classes_of,
    concurrency_of,
    executor_of,
    failures_of,
    function,
    lane_of,
    limits_of,
    made,
    mode_of,
    name_of,
    observers_of,
    pause,
    prices_of,
    prompt_cache_of,
    retry_of,
    runnable,
    seconds,
    store_of,
    transport_of,
    workers_of,
    yes_or_no,
)
from cottonpalm.stores import shown
from cottonpalm.types import Fault, Kind, Usage

if TYPE_CHECKING:
    from langchain_core.runnables.base import Runnable

    from cottonpalm.protocols import Observer, Store
    from cottonpalm.request.limiter.limiters import Limits

Mode: TypeAlias = Literal["live", "batch", "auto"]
PromptCache: TypeAlias = Literal["auto", "on", "off"]
Prices: TypeAlias = Mapping[str, tuple[float, float]] | Callable[[str, Usage], float]
Classify: TypeAlias = Callable[[BaseException], Fault | Kind | str | None]
Executing: TypeAlias = Literal["local", "processes", "ray"]
TRAVELS: Final = frozenset(  # to the workers of a run; what is left out is done by the run itself
    {
        "concurrency",
        "retry",
        "fallbacks",
        "replicas",
        "validate",
        "timeout_s",
        "hedge",
        "item_timeout_s",
        "stall_timeout_s",
        "rate_limit",
        "prices",
        "accept_truncated",
        "classify",
        "output_type",
        "request_hook",
        "transport",
        "prompt_cache",
    }
)
PLENTY: Final = 1e6  # dollars: a worker is bounded by what its run grants it
HOW: Final = "how"  # in the metadata of a field


class How(NamedTuple):
    """How a setting is given, and how it is checked."""

    default: Any
    check: Check
    keyword: str  # its keyword of `BatchProcessor`; empty: the setting's own name

    def setting(self, given: Mapping[str, Any]) -> Any:
        """The setting, checked."""
        return self.check(given.get(self.keyword, self.default), self.keyword)


def setting(default: Any, check: Check, *, keyword: str = "") -> Any:
    """Declare a setting.

    Args:
        default: the value if nothing is given.
        check: makes the setting from the given value.
        keyword: its keyword of `BatchProcessor`, if this is not the setting's name.
    """
    return field(metadata={HOW: How(default, check, keyword)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a processor, each of them once. `BatchProcessor` says what each one means."""

    concurrency: AdaptiveConcurrency = setting("auto", concurrency_of)
    cap: int | None = setting("auto", cap_of, keyword="concurrency")
    rate_limit: RateLimit | None = setting(None, made(RateLimit))
    limits: Limits = setting(None, limits_of)
    replicas: tuple[Runnable[Any, Any], ...] = setting((), chains_of)
    priority: Callable[[Any], float] | None = setting(None, function)
    chunk_size: int | None = setting(None, chunk_size_of)
    chunk_pause_s: float = setting(0, pause, keyword="chunk_pause")
    transport: Transport = setting(DEFAULT_TRANSPORT, transport_of)
    request_hook: bool = setting(True, yes_or_no)
    retry: RetryPolicy = setting(3, retry_of)
    fallbacks: tuple[Runnable[Any, Any], ...] = setting((), chains_of)
    validate: Callable[[Any], object] | None = setting(None, function)
    classify: Classify | None = setting(None, function)
    accept_truncated: bool = setting(False, yes_or_no)
    timeout_s: float = setting(600, partial(seconds, otherwise=600), keyword="timeout")
    hedge: bool = setting(True, yes_or_no)
    item_timeout_s: float | None = setting(None, seconds, keyword="item_timeout")
    stall_timeout_s: float = setting(900, partial(seconds, otherwise=900), keyword="stall_timeout")
    max_failures: float | None = setting(None, failures_of)
    budget: Budget | None = setting(None, budget_of)
    prices: Prices | None = setting(None, prices_of)
    prompt_cache: PromptCache = setting("auto", prompt_cache_of)
    cache: Cache | None = setting(None, made(Cache))
    store: str | Path | Store | None = setting(None, store_of)
    run: str | None = setting(None, name_of)
    store_inputs: bool = setting(True, yes_or_no)
    fingerprint: str | None = setting(None, name_of)
    output_type: type | Sequence[type] | None = setting(None, classes_of)
    mode: Mode = setting("live", mode_of)
    deadline_s: float | None = setting(None, seconds, keyword="deadline")
    detach: bool = setting(False, yes_or_no)
    lane: BatchLane = setting(None, lane_of)
    executor: Executing = setting("local", executor_of)
    workers: int | None = setting(None, workers_of)
    ray_address: str | None = setting(None, name_of)
    progress: bool = setting(False, yes_or_no)
    observers: tuple[Observer, ...] = setting((), observers_of)

    @classmethod
    def of(cls, chain: object, given: Mapping[str, Any]) -> Self:
        """Make the settings of a processor: check each one, then those that depend on each other.

        Args:
            chain: the processor's chain.
            given: values by the keywords of `BatchProcessor`. A missing one has its default; other names are ignored.

        Raises:
            ConfigError: the chain is not a Runnable, or a setting cannot work.
        """
        runnable(chain, "chain")
        found = cls(**{name: how.setting(given) for name, how in hows().items()})
        if found.chunk_pause_s and found.chunk_size is None:
            raise ConfigError(
                f"chunk_pause={found.chunk_pause_s!r} needs chunk_size=..., the number of rows in a chunk"
            )
        if len({id(one) for one in (chain, *found.replicas)}) <= len(found.replicas):
            raise ConfigError(
                "replicas holds the same chain twice, or the processor's own; give one chain for each further endpoint"
            )
        found.check_store()
        found.check_lane()
        found.check_workers()
        return found

    def check_store(self) -> None:
        """A store and the name of a run in it go together.

        Raises:
            ConfigError: one of them is missing.
        """
        if self.store is None and self.run is not None:
            raise ConfigError(f"run={self.run!r} needs store=..., the file where its results are kept")
        if self.store is not None and self.run is None:
            where = repr(shown(self.store)) if isinstance(self.store, str | Path) else repr(self.store)
            raise ConfigError(f"store={where} needs run=..., the name of this run in the store")

    def check_workers(self) -> None:
        """What goes together with workers.

        Raises:
            ConfigError: a setting is of no use, or cannot work.
        """
        if self.executor == "local":
            given = "workers" if self.workers is not None else "ray_address" if self.ray_address else ""
            if given:
                raise ConfigError(f'{given}=... needs executor="processes" or executor="ray"')
        elif self.mode != "live":
            raise ConfigError(f'mode={self.mode!r} needs executor="local": batches are work of one process')
        elif self.ray_address and self.executor != "ray":
            raise ConfigError('ray_address=... needs executor="ray"')

    def check_lane(self) -> None:
        """What a batch lane needs, and what is of no use without one.

        Raises:
            ConfigError: a setting of the lane cannot work.
        """
        if self.mode == "live":
            given = "deadline" if self.deadline_s is not None else "detach" if self.detach else ""
            if given:
                raise ConfigError(
                    f'{given}=... needs mode="batch" or mode="auto": live rows are answered now'
                )
            return
        if self.deadline_s is not None and (self.mode == "batch" or self.detach):
            what = "detach=True" if self.detach else 'mode="batch"'
            raise ConfigError(
                f'deadline=... does not go with {what}: only a run with mode="auto" that stays can finish live what'
                " would be late"
            )
        if self.store is None:
            raise ConfigError(
                f"mode={self.mode!r} needs store= and run=: a batch may be out for a day, and its answers are paid for"
            )
        if not self.request_hook:
            raise ConfigError(
                f"mode={self.mode!r} needs the request hook, which request_hook=False switches off"
            )
        if self.replicas:
            raise ConfigError(f"mode={self.mode!r} goes with one endpoint: leave replicas= out")


def travelling(settings: Settings) -> dict[str, Any]:
    """Return the settings that a worker needs, by the keywords of `BatchProcessor`."""
    found = {how.keyword: getattr(settings, name) for name, how in hows().items() if name in TRAVELS}
    budget = settings.budget
    if settings.cap is not None:
        found["concurrency"] = settings.cap
    if budget is not None:  # how much there is, is the business of the run
        found["budget"] = Budget(total=PLENTY, max_output_tokens=budget.max_output_tokens, tighten=False)
    return found


def hows() -> dict[str, How]:
    """Return how each setting is given, by its name."""
    found = {one.name: one.metadata[HOW] for one in fields(Settings)}
    return {name: how._replace(keyword=how.keyword or name) for name, how in found.items()}
