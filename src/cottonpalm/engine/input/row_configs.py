"""Turns the `config` of a call into a config for each row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config, get_config_list, var_child_runnable_config

from cottonpalm.errors import ConfigError
from cottonpalm.types import numbered

Configs: TypeAlias = RunnableConfig | Sequence[RunnableConfig] | None

# What each field of a config may be, and in words.
_FIELDS: Final[dict[str, tuple[type | tuple[type, ...], str]]] = {
    "tags": (list, "a list of texts"),
    "metadata": (dict, "a dict"),
    "configurable": (dict, "a dict"),
    "callbacks": ((list, BaseCallbackManager), "a list of callback handlers, or a callback manager"),
    "recursion_limit": (int, "a whole number"),
}


def one_each(config: Configs, rows: int) -> list[RunnableConfig] | None:
    """Return one config per row, or None if none says anything. They include what an outer chain's config sets."""
    _check(config)
    return None if config is None and not _surrounding() else get_config_list(config, rows)


def for_rows(config: Configs, rows: Any) -> list[RunnableConfig] | Callable[[Any], RunnableConfig] | None:
    """Return one config per row of a list, or the same config for all rows of an iterator."""
    if isinstance(rows, Sequence):
        return one_each(config, len(rows))
    if config is None or isinstance(config, dict):
        return same_for_all(config)
    raise ConfigError("a list of configs needs a list of rows")


def _check(config: object) -> None:
    ones = config if isinstance(config, Sequence) and not isinstance(config, str | bytes) else [config]
    if not all(one is None or isinstance(one, dict) for one in ones):
        raise ConfigError(
            f"config={config!r} must be a dict, as LangChain has it, or a list with one for each row"
        )
    for index, one in enumerate(ones):
        if one:
            _check_fields(one, "the config" if one is config else f"the config of {numbered(index)}")


def _check_fields(config: dict[str, Any], where: str) -> None:
    """Refuse what LangChain would copy or iterate without a look, and fail for with a word about neither."""
    for name, (kinds, words) in _FIELDS.items():
        value = config.get(name)
        if value is not None and not isinstance(value, kinds):
            raise ConfigError(f"{name}={value!r} in {where} must be {words}")
    handlers = config.get("callbacks")
    if isinstance(handlers, list):
        for handler in handlers:
            if not isinstance(handler, BaseCallbackHandler):
                raise ConfigError(
                    f"callbacks in {where} must be LangChain's callback handlers, got {handler!r}"
                )


def _surrounding() -> bool:
    """Whether an outer chain calls us with a config that reaches the rows: its `configurable` shapes their answers."""
    return bool((var_child_runnable_config.get() or {}).get("configurable"))


def most_at_once(config: Configs, given: int | None = None) -> int | None:
    """Return the cap on rows at once: the config's, or the call's own if that is lower; None for neither.

    Of several configs only the first one's counts, as in LangChain.

    Raises:
        ConfigError: one of them is no number of rows.
    """
    first = config if config is None or isinstance(config, dict) else next(iter(config), None)
    caps = {" in the config": (first or {}).get("max_concurrency"), "": given}
    for where, most in caps.items():
        if most is not None and not (isinstance(most, int) and not isinstance(most, bool) and most >= 1):
            raise ConfigError(f"max_concurrency={most!r}{where} must be a whole number, at least 1")
    return min((most for most in caps.values() if most is not None), default=None)


def same_for_all(config: RunnableConfig | None) -> Callable[[Any], RunnableConfig] | None:
    """Return a function that gives every row this config, or None if the config says nothing.

    Raises:
        ConfigError: it is not one config, or a field of it is none that LangChain takes.
    """
    if config is None and not _surrounding():
        return None
    if config is not None and not isinstance(config, dict):
        raise ConfigError(
            "config must be one config here, for every row; batch and its forms take a list of them"
        )
    _check(config)
    whole = ensure_config(config)
    return lambda _row: whole
