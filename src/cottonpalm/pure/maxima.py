"""The most that known models write in one answer, as their makers document it (read November 2026).

A model that is not here is bounded by its context window, which is safe and looser.
"""

from __future__ import annotations

import re
from typing import Final

_FAMILIES: Final[tuple[tuple[re.Pattern[str], int], ...]] = tuple(
    (re.compile(pattern), tokens)
    for pattern, tokens in (
        (r"gpt-3\.5-turbo", 4_096),
        (r"gpt-4-turbo", 4_096),
        (r"gpt-4\.1", 32_768),
        (r"gpt-4o-2024-05-13", 4_096),
        (r"gpt-4o(-mini)?(-2024-\d\d-\d\d)?$", 16_384),
        (r"gpt-5(\.\d)?(-mini|-nano)?(-\d{4}-\d\d-\d\d)?$", 128_000),
        (r"o1(-\d{4}-\d\d-\d\d)?$", 100_000),
        (r"o(3|3-mini|4-mini)(-\d{4}-\d\d-\d\d)?$", 100_000),
        (r"gemini-2\.0-flash", 8_192),
        (r"gemini-2\.5-(pro|flash|flash-lite)$", 65_536),
    )
)


def most_output(model: str) -> int | None:
    """The documented maximum of tokens in one answer, or None for a model that is not listed here."""
    return next((tokens for pattern, tokens in _FAMILIES if pattern.match(model)), None)
