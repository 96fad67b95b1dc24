"""All that a `BatchProcessor` was told, checked once, before any call is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from langchain_core.runnables import Runnable

from cottonpalm.config import AdaptiveConcurrency, Budget, Cache, RateLimit, RetryPolicy
from cottonpalm.errors import ConfigError
from cottonpalm.request.limiter.limiters import SHARED, Limits
from cottonpalm.types import Fault, Kind, Usage

if TYPE_CHECKING:
    from pathlib import Path

    from cottonpalm.protocols import Observer, Store

Prices: TypeAlias = Mapping[str, tuple[float, float]] | Callable[[str, Usage], float]
Classify: TypeAlias = Callable[[BaseException], Fault | Kind | str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """See `BatchProcessor` for what each one means."""

    concurrency: AdaptiveConcurrency
    limits: Limits
    cap: int | None
    retry: RetryPolicy
    fallbacks: tuple[Runnable[Any, Any], ...]
    replicas: tuple[Runnable[Any, Any], ...]
    validate: Callable[[Any], object] | None
    timeout_s: float
    item_timeout_s: float | None
    stall_timeout_s: float
    rate_limit: RateLimit | None
    budget: Budget | None
    prices: Prices | None
    cache: Cache | None
    store: str | Path | Store | None
    run: str | None
    priority: Callable[[Any], float] | None
    chunk_size: int | None
    chunk_pause_s: float
    max_failures: float | None
    accept_truncated: bool
    classify: Classify | None
    output_type: type | Sequence[type] | None
    store_inputs: bool
    fingerprint: str | None
    request_hook: bool
    progress: bool
    observers: tuple[Observer, ...]


def concurrency_of(given: str | int | AdaptiveConcurrency) -> tuple[AdaptiveConcurrency, int | None]:
    """Where the limit starts and may move, and the bound on rows at once (for a plain number)."""
    if given == "auto":
        return AdaptiveConcurrency(), None
    if isinstance(given, AdaptiveConcurrency):
        return given, None
    if isinstance(given, int) and not isinstance(given, bool) and given >= 1:
        return AdaptiveConcurrency(initial=given, minimum=1, maximum=given), given
    raise ConfigError(f'concurrency={given!r}: say "auto", a number from 1 on, or AdaptiveConcurrency(...)')


def most_rows(given: int | None) -> int | None:
    """A cap on rows at once, or None."""
    if given is None or (isinstance(given, int) and not isinstance(given, bool) and given >= 1):
        return given
    raise ConfigError(f"limit={given!r}: say how many rows may be in flight at most, from 1 on, or None")


def limits_of(given: Limits | None) -> Limits:
    """The limits to learn in: those of the whole process, unless others are given."""
    if given is None:
        return SHARED
    if isinstance(given, Limits):
        return given
    raise ConfigError(f"limits={given!r} must be a Limits, as in limits=Limits()")


def capped(limits: AdaptiveConcurrency, most: int) -> AdaptiveConcurrency:
    """The same limits, never above `most`."""
    return AdaptiveConcurrency(
        initial=min(limits.initial, most),
        minimum=min(limits.minimum, most),
        maximum=min(limits.maximum, most),
    )


def retry_of(given: int | RetryPolicy) -> RetryPolicy:
    """A number of retries after the first try, or the policy itself."""
    if isinstance(given, RetryPolicy):
        return given
    if not isinstance(given, int) or isinstance(given, bool) or given < 0:
        raise ConfigError(
            f"retry={given!r}: say how many retries may follow the first try (0 for none), or RetryPolicy"
        )
    return RetryPolicy(transient_tries=given + 1, reask_tries=2 if given else 1)


def runnable(chain: object, what: str) -> Runnable[Any, Any]:
    """The chain, if it is one."""
    if isinstance(chain, Runnable):
        return chain
    raise ConfigError(
        f"{what} must be a LangChain Runnable, not {type(chain).__name__}; wrap a function in RunnableLambda"
    )


def positive(value: float | None, what: str) -> float | None:
    """A number of seconds above zero, or None."""
    if value is not None and not (_is_number(value) and value > 0):
        raise ConfigError(f"{what}={value!r} must be a positive number of seconds")
    return value


def chunk_size_of(value: int | None) -> int | None:
    """A number of rows, or None."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ConfigError(f"chunk_size={value!r}: say how many rows make a chunk, from 1 on")


def chunk_pause_of(value: float, size: int | None) -> float:
    """Seconds between two chunks; 0 for none."""
    if not (_is_number(value) and 0 <= value < math.inf):
        raise ConfigError(f"chunk_pause={value!r} must be a number of seconds, 0 for no pause")
    if value and size is None:
        raise ConfigError(f"chunk_pause={value!r} needs chunk_size=..., the number of rows in a chunk")
    return value


def failures_of(value: float | None) -> float | None:
    """A number of rows, or a share below 1."""
    if value is not None and not (_is_number(value) and value >= 0):
        raise ConfigError(f"max_failures={value!r}: say a number of rows, or a share such as 0.1")
    return value


Of = TypeVar("Of")


def made_as(value: Of, cls: type, what: str) -> Of:
    """None, or an object of the class that is meant: an amount alone is no `Budget`."""
    if value is None or isinstance(value, cls):
        return value
    raise ConfigError(f"{what}={value!r} must be a {cls.__name__}, as in {what}={cls.__name__}(...)")


def function(value: Of, what: str) -> Of:
    """None, or something that can be called."""
    if value is None or callable(value):
        return value
    raise ConfigError(f"{what}={value!r} must be a function")


def prices_of(given: Prices | None) -> Prices | None:
    """None, a table by model (whose entries are checked where they are read), or a function."""
    if given is None or callable(given) or isinstance(given, Mapping):
        return given
    raise ConfigError(
        f"prices={given!r}: say {{model: (dollars in, dollars out per million tokens)}}, or a function (model, usage)"
    )


def classes_of(given: type | Sequence[type] | None) -> type | Sequence[type] | None:
    """None, a class, or several."""
    several = given if isinstance(given, Iterable) and not isinstance(given, type) else [given]
    if given is None or all(isinstance(one, type) for one in several):
        return given
    raise ConfigError(f"output_type={given!r} must be a class, or a list of classes")


def yes_or_no(value: bool, what: str) -> bool:
    """True or False: a text such as "no" would count as yes."""
    if isinstance(value, bool):
        return value
    raise ConfigError(f"{what}={value!r} must be True or False")


def name_of(value: str | None, what: str) -> str | None:
    """None, or text that is not empty."""
    if value is None or (isinstance(value, str) and value):
        return value
    raise ConfigError(f"{what}={value!r} must be a text that is not empty")


def observers_of(given: Sequence[Observer]) -> tuple[Observer, ...]:
    """Objects that can see."""
    if not isinstance(given, Iterable) or not all(callable(getattr(one, "see", None)) for one in given):
        raise ConfigError(f"observers={given!r}: give a list of objects with a method see(event)")
    return tuple(given)


def chains_of(given: Sequence[Runnable[Any, Any]], what: str) -> tuple[Runnable[Any, Any], ...]:
    """A list of chains."""
    if isinstance(given, Runnable) or not isinstance(given, Iterable):
        raise ConfigError(f"{what} must be a list of chains")
    return tuple(runnable(one, f"each of {what}") for one in given)


def replicas_of(
    given: Sequence[Runnable[Any, Any]], chain: Runnable[Any, Any]
) -> tuple[Runnable[Any, Any], ...]:
    """A list of chains, none of them twice."""
    chains = chains_of(given, "replicas")
    if len({id(one) for one in (chain, *chains)}) <= len(chains):
        raise ConfigError(
            "replicas holds the same chain twice, or the processor's own; give one chain for each further endpoint"
        )
    return chains


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
