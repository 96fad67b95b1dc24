"""Knows how providers say that an account has nothing left, where no code does. A pure table.

Such a refusal lasts until tomorrow, or until somebody pays: no other request of the run would be served.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cottonpalm.providers.answer import text_of

if TYPE_CHECKING:
    from cottonpalm.providers.answer import Complaint

_STATUSES: Final = (403, 429)
_WORDS: Final = (
    "used all available credits or reached its monthly spending limit",  # xAI
    "doesn't have any credits",  # xAI, of a new team
    "prepayment credits are depleted",  # Gemini
    "exceeded its monthly spending cap",  # Gemini
    "Key limit exceeded (",  # OpenRouter: what one key may spend in a day, or in all
    "free-models-per-day",  # OpenRouter
    "TPD rate limit",  # Moonshot: tokens per day
    "Too many tokens per day",  # Bedrock
)


def says_used_up(message: str) -> bool:
    """Whether a refusal's own words say it."""
    return any(words in message for words in _WORDS)


def is_used_up(complaint: Complaint) -> bool:
    """Whether money, or a quota of a day or longer, is used up, so that waiting during the run does not help."""
    if complaint.status not in _STATUSES:
        return False
    return says_used_up(complaint.message) or _per_day(complaint.details)


def _per_day(details: object) -> bool:
    """Whether it is Google's quota of a day, by the details that it gives at its OpenAI-compatible address too."""
    found = [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []
    quotas = [
        quota for detail in found for quota in detail.get("violations") or () if isinstance(quota, dict)
    ]
    return any("PerDay" in text_of(quota.get("quotaId")) for quota in quotas)
