"""What is left of the account's quotas, as the headers of good answers and of errors alike say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cottonpalm.providers.hints import number, time_until_s
from cottonpalm.pure.quotas import Quota, Unit

if TYPE_CHECKING:
    from collections.abc import Mapping

_MARK: Final = "ratelimit"
_SHOWN: Final[tuple[tuple[Unit, str, str, str], ...]] = (
    (
        "requests",
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
    ),
    ("tokens", "x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    (
        "requests",
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
    ),
    (
        "tokens",
        "anthropic-ratelimit-tokens-limit",
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-tokens-reset",
    ),
)


def read_quotas(headers: Mapping[str, str]) -> tuple[Quota, ...]:
    """The quotas shown, at most one per unit; none where a limit or what is left of it is no number."""
    return tuple(quota for names in _SHOWN if (quota := _quota(headers, *names)) is not None)


def _quota(headers: Mapping[str, str], unit: Unit, limit: str, remaining: str, reset: str) -> Quota | None:
    most, left = number(headers.get(limit)), number(headers.get(remaining))
    if most is None or left is None or most <= 0:
        return None
    return Quota(unit, most, min(most, left), time_until_s(headers.get(reset)))
