"""Rate limit headers, as the providers write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm import clock
from cottonpalm.providers.quotas import read_quotas
from cottonpalm.types import Quota

pytestmark = pytest.mark.core


def test_openai_shows_requests_and_tokens_with_durations() -> None:
    headers = {
        "x-ratelimit-limit-requests": "5000",
        "x-ratelimit-remaining-requests": "4999",
        "x-ratelimit-reset-requests": "12ms",
        "x-ratelimit-limit-tokens": "800000",
        "x-ratelimit-remaining-tokens": "799,000".replace(",", ""),
        "x-ratelimit-reset-tokens": "1m0.5s",
    }
    assert read_quotas(headers) == (
        Quota("requests", 5000, 4999, 0.012),
        Quota("tokens", 800_000, 799_000, 60.5),
    )


def test_anthropic_shows_moments() -> None:
    clock.replace(None, lambda: 1_767_225_600.0)  # 2026-01-01T00:00:00Z
    try:
        found = read_quotas(
            {
                "anthropic-ratelimit-requests-limit": "4000",
                "anthropic-ratelimit-requests-remaining": "3990",
                "anthropic-ratelimit-requests-reset": "2026-01-01T00:00:09Z",
                "anthropic-ratelimit-tokens-limit": "400000",
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-tokens-reset": "2026-01-01T00:01:00Z",
            }
        )
    finally:
        clock.replace()
    assert found == (Quota("requests", 4000, 3990, 9.0), Quota("tokens", 400_000, 0, 60.0))


def anthropic_header(name: str, limit: int, remaining: int) -> dict[str, str]:
    start = f"anthropic-ratelimit-{name}"
    return {f"{start}-limit": str(limit), f"{start}-remaining": str(remaining)}


def test_anthropics_input_and_output_tokens_are_quotas_of_their_own() -> None:
    headers = anthropic_header("input-tokens", 50_000, 49_000) | anthropic_header(
        "output-tokens", 10_000, 500
    )
    repeated = anthropic_header("tokens", 10_000, 500)
    assert read_quotas(headers | repeated) == (
        Quota("input tokens", 50_000, 49_000, None),
        Quota("output tokens", 10_000, 500, None),
    )


def test_quotas_that_name_their_time_are_left() -> None:
    mistral = {"x-ratelimit-limit-req-minute": "720", "x-ratelimit-remaining-req-minute": "717"}
    cerebras = {
        "x-ratelimit-limit-tokens-minute": "60000",
        "x-ratelimit-remaining-tokens-minute": "48000",
        "x-ratelimit-reset-tokens-minute": "11.382867",
    }
    assert read_quotas(mistral) == read_quotas(cerebras) == ()


def test_a_reset_may_be_plain_seconds() -> None:
    """As Azure writes it."""
    headers = {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "0"}
    found = read_quotas(headers | {"x-ratelimit-reset-requests": "7"})
    assert found == (Quota("requests", 60, 0, 7.0),)


def test_a_provider_that_says_no_reset_still_shows_its_quota() -> None:
    headers = {"x-ratelimit-limit-tokens": "1000", "x-ratelimit-remaining-tokens": "10"}
    assert read_quotas(headers) == (Quota("tokens", 1000, 10, None),)


@pytest.mark.parametrize("limit", ["9" * 400, "0.0000001", "0", "-1"])
def test_a_limit_that_no_account_has_is_no_quota(limit: str) -> None:
    """An endless one would make all that is worked out from it no number; below one, no request would ever fit."""
    assert read_quotas({"x-ratelimit-limit-requests": limit, "x-ratelimit-remaining-requests": limit}) == ()


NAMES = st.sampled_from(
    [
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
        "anthropic-ratelimit-tokens-limit",
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-tokens-reset",
        "anthropic-ratelimit-input-tokens-limit",
        "anthropic-ratelimit-input-tokens-remaining",
    ]
)


@given(st.dictionaries(NAMES, st.text(max_size=30) | st.integers().map(str) | st.just("9" * 400)))
def test_text_that_makes_no_sense_is_no_quota(headers: dict[str, str]) -> None:
    for quota in read_quotas(headers):
        assert 1 <= quota.limit < math.inf
        assert 0 <= quota.remaining <= quota.limit
