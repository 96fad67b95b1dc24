"""Reads what is left of the account's quotas from the headers of good answers and of errors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeAlias

from cottonpalm.providers.hints import number, until_reset_s
from cottonpalm.types import Quota, Unit

if TYPE_CHECKING:
    from collections.abc import Mapping

Names: TypeAlias = "tuple[Unit, str, str, str]"  # unit; the headers of limit, rest, reset


def _names(pattern: str, *units: tuple[Unit, str]) -> tuple[Names, ...]:
    return tuple(
        (unit, *(pattern.format(name=name, what=what) for what in ("limit", "remaining", "reset")))  # type: ignore[misc]
        for unit, name in units
    )


_SHOWN: Final = (
    *_names("x-ratelimit-{what}-{name}", ("requests", "requests"), ("tokens", "tokens")),
    *_names(
        "anthropic-ratelimit-{name}-{what}",
        ("requests", "requests"),
        ("tokens", "tokens"),
        ("input tokens", "input-tokens"),
        ("output tokens", "output-tokens"),
    ),
)
# Quotas that name their time (`tokens-minute`) are left: Mistral's have no reset, so that nobody knows when the minute
# ends, and while they leave room what it rejects by the second would pass for a limit on requests at once; Cerebras
# counts the longest answer that a request allows, so that what is left does not tell how many fit.
_LIMITS: Final = frozenset(limit for _, limit, _, _ in _SHOWN)


def read_quotas(headers: Mapping[str, str]) -> tuple[Quota, ...]:
    """Return the quotas that the headers show, at most one per unit; leave out quotas whose numbers make no sense.

    Anthropic's `tokens` repeats the numbers of its most used-up quota. So it counts only if the headers do not show
    input and output tokens separately.
    """
    told = dict(headers.items())  # the HTTP libraries look through all headers for each name that is asked
    if _LIMITS.isdisjoint(told):
        return ()
    found = {quota.unit: quota for names in _SHOWN if (quota := _quota(told, *names)) is not None}
    if "input tokens" in found or "output tokens" in found:
        found.pop("tokens", None)
    return tuple(found.values())


def allows_nothing(headers: Mapping[str, str]) -> bool:
    """Whether the account has no requests at all of this model, as Mistral shows it where a plan leaves a model out."""
    return number(headers.get("x-ratelimit-limit-req-minute")) == 0


def _quota(headers: Mapping[str, str], unit: Unit, limit: str, remaining: str, reset: str) -> Quota | None:
    if limit not in headers:
        return None
    most, left = number(headers[limit]), number(headers.get(remaining))
    if most is None or left is None or not 1 <= most < math.inf:  # a quota below 1 makes no sense
        return None
    return Quota(unit, most, min(most, left), until_reset_s(headers.get(reset), headers))
