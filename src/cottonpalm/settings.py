"""The settings of a `BatchProcessor`, checked once, before any call is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self, TypeAlias, TypeGuard, TypeVar

from langchain_core.runnables.base import Runnable

from cottonpalm.config import AdaptiveConcurrency, BatchLane, Budget, Cache, RateLimit, RetryPolicy
from cottonpalm.errors import ConfigError
from cottonpalm.request.transports import DEFAULT_TRANSPORT, Transport
from cottonpalm.types import Fault, Kind, Usage

if TYPE_CHECKING:
    from pathlib import Path

    from cottonpalm.protocols import Observer, Store
    from cottonpalm.request.limiter.limiters import Limits

Mode: TypeAlias = Literal["live", "batch", "auto"]
PromptCache: TypeAlias = Literal["auto", "on", "off"]
Prices: TypeAlias = Mapping[str, tuple[float, float]] | Callable[[str, Usage], float]
Classify: TypeAlias = Callable[[BaseException], Fault | Kind | str | None]
Check: TypeAlias = Callable[
    [Any, str], Any
]  # (given value, its keyword) -> the setting; raises if it cannot work
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
Of = TypeVar("Of")


def concurrency_of(given: str | int | AdaptiveConcurrency, what: str = "concurrency") -> AdaptiveConcurrency:
    """Return the limit's start and its bounds."""
    if given == "auto":
        return AdaptiveConcurrency()
    if isinstance(given, AdaptiveConcurrency):
        return given
    if isinstance(given, int) and not isinstance(given, bool) and given >= 1:
        return AdaptiveConcurrency(initial=given, minimum=1, maximum=given)
    raise ConfigError(f'{what}={given!r}: say "auto", a number from 1 on, or AdaptiveConcurrency(...)')


def cap_of(given: str | int | AdaptiveConcurrency, what: str) -> int | None:
    """Return the most rows at once, if the concurrency is a plain number."""
    concurrency_of(given, what)
    return given if isinstance(given, int) else None


def most_rows(given: int | None) -> int | None:
    """Check a cap on rows at once, or None."""
    if given is None or (isinstance(given, int) and not isinstance(given, bool) and given >= 1):
        return given
    raise ConfigError(f"limit={given!r}: say how many rows may be in flight at most, from 1 on, or None")


def limits_of(given: Limits | None, what: str) -> Limits:
    """Return the limits to learn in: those of the whole process, unless others are given."""
    from cottonpalm.request.limiter.limiters import SHARED, Limits  # noqa: PLC0415 - its imports cost time

    if given is None:
        return SHARED
    if isinstance(given, Limits):
        return given
    raise ConfigError(f"{what}={given!r} must be a Limits, as in {what}=Limits()")


def capped(limits: AdaptiveConcurrency, most: int) -> AdaptiveConcurrency:
    """The same limits, never above `most`."""
    return AdaptiveConcurrency(
        initial=min(limits.initial, most),
        minimum=min(limits.minimum, most),
        maximum=min(limits.maximum, most),
    )


def retry_of(given: int | RetryPolicy, what: str) -> RetryPolicy:
    """A number of retries after the first try, or the policy itself."""
    if isinstance(given, RetryPolicy):
        return given
    if not isinstance(given, int) or isinstance(given, bool) or given < 0:
        raise ConfigError(
            f"{what}={given!r}: say how many retries may follow the first try (0 for none), or RetryPolicy"
        )
    return RetryPolicy(retries=given, reasks=1 if given else 0)


def runnable(chain: object, what: str) -> Runnable[Any, Any]:
    """The chain, if it is one."""
    if isinstance(chain, Runnable):
        return chain
    raise ConfigError(
        f"{what} must be a LangChain Runnable, not {type(chain).__name__}; wrap a function in RunnableLambda"
    )


def seconds(value: float | None, what: str, *, otherwise: float | None = None) -> float | None:
    """Check a number of seconds above zero; None becomes `otherwise`."""
    if value is None:
        return otherwise
    if _is_number(value) and value > 0:
        return value
    raise ConfigError(f"{what}={value!r} must be a positive number of seconds")


def pause(value: float, what: str) -> float:
    """A number of seconds; 0 for none."""
    if _is_number(value) and 0 <= value < math.inf:
        return value
    raise ConfigError(f"{what}={value!r} must be a number of seconds, 0 for no pause")


def chunk_size_of(value: int | None, what: str) -> int | None:
    """A number of rows, or None."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ConfigError(f"{what}={value!r}: say how many rows make a chunk, from 1 on")


def failures_of(value: float | None, what: str) -> float | None:
    """A number of rows, or a share below 1."""
    if value is not None and not (_is_number(value) and value >= 0):
        raise ConfigError(f"{what}={value!r}: say a number of rows, or a share such as 0.1")
    return value


def made_as(value: Of, what: str, cls: type) -> Of:
    """Check that it is None or an object of this class: a plain amount, for instance, is not a `Budget`."""
    if value is None or isinstance(value, cls):
        return value
    raise ConfigError(f"{what}={value!r} must be a {cls.__name__}, as in {what}={cls.__name__}(...)")


def made(cls: type) -> Check:
    """The check of a setting that is an object of this class."""
    return partial(made_as, cls=cls)


def budget_of(given: Budget | float | None, what: str) -> Budget | None:
    """A budget; a plain number is one of so many dollars in all."""
    if _is_number(given):
        return Budget(total=given)
    if given is None or isinstance(given, Budget):
        return given
    raise ConfigError(f"{what}={given!r} must be a number of dollars or a Budget, as in {what}=Budget(...)")


def function(value: Of, what: str) -> Of:
    """None, or something that can be called."""
    if value is None or callable(value):
        return value
    raise ConfigError(f"{what}={value!r} must be a function")


def prices_of(given: Prices | None, what: str) -> Prices | None:
    """None, a table by model (whose entries are checked where they are read), or a function."""
    if given is None or callable(given) or isinstance(given, Mapping):
        return given
    raise ConfigError(
        f"{what}={given!r}: say {{model: (dollars in, dollars out per million tokens)}}, or a function (model, usage)"
    )


def classes_of(given: type | Sequence[type] | None, what: str) -> type | Sequence[type] | None:
    """None, a class, or several."""
    several = given if isinstance(given, Iterable) and not isinstance(given, type) else [given]
    if given is None or all(isinstance(one, type) for one in several):
        return given
    raise ConfigError(f"{what}={given!r} must be a class, or a list of classes")


def yes_or_no(value: bool, what: str) -> bool:
    """Check that it is True or False, since a text such as "no" would count as true."""
    if isinstance(value, bool):
        return value
    raise ConfigError(f"{what}={value!r} must be True or False")


def name_of(value: str | None, what: str) -> str | None:
    """None, or text that is not empty."""
    if value is None or (isinstance(value, str) and value):
        return value
    raise ConfigError(f"{what}={value!r} must be a text that is not empty")


def observers_of(given: Sequence[Observer], what: str = "observers") -> tuple[Observer, ...]:
    """Objects that can see."""
    if not isinstance(given, Iterable) or not all(callable(getattr(one, "see", None)) for one in given):
        raise ConfigError(f"{what}={given!r}: give a list of objects with a method see(event)")
    return tuple(given)


def chains_of(given: Sequence[Runnable[Any, Any]], what: str) -> tuple[Runnable[Any, Any], ...]:
    """A list of chains."""
    if isinstance(given, Runnable) or not isinstance(given, Iterable):
        raise ConfigError(f"{what} must be a list of chains")
    return tuple(runnable(one, f"each of {what}") for one in given)


def mode_of(given: str, what: str) -> str:
    """How rows are answered."""
    if given in ("live", "batch", "auto"):
        return given
    raise ConfigError(f'{what}={given!r}: say "live", "batch" or "auto"')


def executor_of(given: str, what: str) -> str:
    """Where rows run."""
    if given in ("local", "processes", "ray"):
        return given
    raise ConfigError(f'{what}={given!r}: say "local", "processes" or "ray"')


def workers_of(given: int | None, what: str) -> int | None:
    """How many workers there are; None: one for each core."""
    if given is None or (isinstance(given, int) and not isinstance(given, bool) and given >= 1):
        return given
    raise ConfigError(f"{what}={given!r}: say how many, from 1 on")


def prompt_cache_of(given: str, what: str) -> str:
    """Whether requests make use of the providers' prompt caches."""
    if given in ("auto", "on", "off"):
        return given
    raise ConfigError(f'{what}={given!r}: say "auto", "on" or "off"')


def transport_of(given: str, what: str) -> str:
    """By which way requests go."""
    if given in ("fast", "stock"):
        return given
    raise ConfigError(f'{what}={given!r}: say "fast" or "stock"')


def lane_of(given: BatchLane | None, what: str) -> BatchLane:
    """How requests go through a Batch API."""
    return made_as(given, what, BatchLane) or BatchLane()


def as_given(value: Of, what: str) -> Of:  # noqa: ARG001 - a check like the others
    """Return the value unchanged; the code that uses it checks it."""
    return value


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


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
    store: str | Path | Store | None = setting(None, as_given)
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
        found.check_lane()
        found.check_workers()
        return found

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
