"""The check of each setting: makes it from what the user gave, or says in one line why it cannot work.

All raise ConfigError, and take the value and the keyword by which it was given.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from inspect import iscoroutinefunction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from langchain_core.runnables.base import Runnable

from cottonpalm.config import AdaptiveConcurrency, BatchLane, Budget, RetryPolicy, is_number
from cottonpalm.errors import ConfigError

if TYPE_CHECKING:
    from cottonpalm.protocols import Observer, Store
    from cottonpalm.request.limiter.limiters import Limits

# (given value, its keyword) -> the setting; raises if it cannot work
Check: TypeAlias = Callable[[Any, str], Any]
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
    if is_number(value) and value > 0:
        return value
    raise ConfigError(f"{what}={value!r} must be a positive number of seconds")


def pause(value: float, what: str) -> float:
    """A number of seconds; 0 for none."""
    if is_number(value) and 0 <= value < math.inf:
        return value
    raise ConfigError(f"{what}={value!r} must be a number of seconds, 0 for no pause")


def chunk_size_of(value: int | None, what: str) -> int | None:
    """A number of rows, or None."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ConfigError(f"{what}={value!r}: say how many rows make a chunk, from 1 on")


def failures_of(value: float | None, what: str) -> float | None:
    """A number of rows, or a share below 1."""
    if value is None:
        return value
    if not (is_number(value) and value >= 0) or (1 < value < math.inf and value % 1):
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
    if is_number(given):
        return Budget(total=given)
    if given is None or isinstance(given, Budget):
        return given
    raise ConfigError(f"{what}={given!r} must be a number of dollars or a Budget, as in {what}=Budget(...)")


def function(value: Of, what: str) -> Of:
    """None, or something that can be called, and whose word is there when it returns."""
    if value is not None and not callable(value):
        raise ConfigError(f"{what}={value!r} must be a function")
    # what an async function says is lost, as nobody awaits it: each answer would count as valid
    if iscoroutinefunction(value) or iscoroutinefunction(getattr(value, "__call__", None)):  # noqa: B004
        raise ConfigError(f"{what}={value!r} must be a function without async: nobody awaits what it says")
    return value


def prices_of(given: Of, what: str) -> Of:
    """None, a table by model (whose entries are checked where they are read), or a function."""
    if callable(given):
        return function(given, what)
    if given is None or isinstance(given, Mapping):
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
    """None, or text that is not empty and that every store can hold."""
    if value is not None and not (isinstance(value, str) and value):
        raise ConfigError(f"{what}={value!r} must be a text that is not empty")
    if value is not None and ("\0" in value or value.encode(errors="ignore").decode() != value):
        raise ConfigError(f"{what}={value!r} has a character that no store holds: a NUL, or half of a pair")
    return value


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
    if given == "processes" and getattr(sys, "frozen", False):
        # each worker would be the user's whole program once more, which asks for all rows and has workers in turn
        raise ConfigError(
            f'{what}="processes" starts workers by a Python interpreter, and a frozen program (PyInstaller) has none: '
            "leave it out"
        )
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


def store_of(given: str | Path | Store | None, what: str) -> str | Path | Store | None:
    """Where the store is, a file by its whole path: the process may go to another folder before it is opened.

    One in memory is made here, so that it lasts as long as its processor.
    """
    if given is None:
        return None
    if given == "":
        raise ConfigError(f"{what}='' names no file; leave {what}= and run= out to keep nothing")
    from cottonpalm.stores import database_of, open_store  # noqa: PLC0415 - its imports cost time

    # A file is opened, or a database reached, when a run begins; its address is read now.
    database = database_of(given) if isinstance(given, str | Path) else None
    return open_store(given) if database is None else database.url
