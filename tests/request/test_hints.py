"""The provider's waits: read from everywhere they are named; bad text is no hint."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm import clock
from cottonpalm.providers import retry_after_s
from cottonpalm.providers.hints import (
    LONGEST_HINT_S,
    duration_s,
    reset_s,
    retry_info_s,
    said_s,
    until_reset_s,
    wait_s,
)

pytestmark = pytest.mark.core


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "3600"}, 3600.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after-ms": "0", "retry-after": "9"}, 9.0),
        ({"retry-after": "5s"}, 5.0),
        ({"retry-after": "1m30s"}, 90.0),
        ({"retry-after": "0"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1_000"}, None),
        ({"retry-after": "1e400"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "1790000000"}, None),
        ({"retry-after": str(LONGEST_HINT_S)}, LONGEST_HINT_S),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


def test_a_date_is_a_wait_until_then() -> None:
    wait = retry_after_s({"retry-after": formatdate(clock.wall() + 90, usegmt=True)})
    assert wait is not None
    assert 80 < wait <= 90
    assert retry_after_s({"retry-after": formatdate(clock.wall() - 90, usegmt=True)}) is None


@pytest.mark.parametrize("ahead_s", [-3600, -60, 60, 3600])
def test_a_date_is_read_by_the_clock_that_dated_the_answer(ahead_s: int) -> None:
    theirs = clock.wall() + ahead_s
    headers = {"date": formatdate(theirs, usegmt=True), "retry-after": formatdate(theirs + 90, usegmt=True)}
    wait = retry_after_s(headers)
    assert wait is not None
    assert 88 < wait <= 91


def test_a_second_between_two_clocks_is_none() -> None:
    """A date has whole seconds, so one that seems a second behind tells nothing of a time to the millisecond."""
    soon = datetime.fromtimestamp(clock.wall() + 0.4, UTC).isoformat()
    headers = {"date": formatdate(clock.wall() - 1, usegmt=True), "retry-after": soon}
    wait = retry_after_s(headers)
    assert wait is not None
    assert 0 < wait <= 0.4


@pytest.mark.parametrize("date", ["", "soon", "Thu, 99 Foo 2026 10:00:00 GMT"])
def test_a_date_of_no_sense_leaves_our_own_clock(date: str) -> None:
    wait = retry_after_s({"date": date, "retry-after": formatdate(clock.wall() + 90, usegmt=True)})
    assert wait is not None
    assert 80 < wait <= 90


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("120ms", 0.12),
        ("8.64s", 8.64),
        ("1h0m5s", 3605.0),
        ("2m59.56s", 179.56),
        ("34.5s", 34.5),
        ("", None),
        ("5", None),
        ("1d", None),
        ("ms", None),
        (None, None),
    ],
)
def test_durations(text: str | None, seconds: float | None) -> None:
    assert duration_s(text) == (None if seconds is None else pytest.approx(seconds))


def test_a_wait_in_words_is_the_last_but_one_resort() -> None:
    assert said_s("Rate limit reached. Please try again in 599ms. Visit ...") == pytest.approx(0.599)
    assert said_s("Please try again in 6m0s.") == 360.0
    assert said_s("Please try again in 1h2m") == 3720.0
    assert said_s("try again later") is None


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("have exceeded call rate limit. Please retry after 6 seconds. Please go here:", 6.0),
        ("Rate limit is exceeded. Try again in 1 second.", 1.0),
        ("Please retry after 500 milliseconds", 0.5),
        ("please try again in 20 minutes", 1200.0),
        ("Try again in 2 minutes and 5 seconds", 125.0),
        ("Try again in 1 hour, 2 min", 3720.0),
        ("retry after 1 day", 86_400.0),
        ("Try again in 1.5s, 3 requests are left", 1.5),
        ("Try again in 20 minuets", None),
        ("Try again in 3 models", None),
        ("Try again in 99 days", None),
    ],
)
def test_a_wait_that_is_written_out_is_read(words: str, seconds: float | None) -> None:
    assert said_s(words) == (None if seconds is None else pytest.approx(seconds))


def test_the_reset_of_a_used_up_quota_is_the_last_resort() -> None:
    used_up = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}
    assert (
        reset_s(used_up | {"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "9h"})
        == 360.0
    )
    assert reset_s({"x-ratelimit-reset-requests": "9h"}) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12ms", 0.012),
        ("2026-01-01T00:00:09Z", 9.0),
        ("11.38", 11.38),
        ("1767225660", 60.0),
        ("1767225660000", 60.0),
        ("1767225600", None),  # now
        ("1767139200000", None),  # a day ago
        ("99999999999999", None),
        ("0", None),
        ("soon", None),
        (None, None),
    ],
)
def test_a_reset_is_a_duration_a_date_seconds_or_a_unix_time(text: str | None, seconds: float | None) -> None:
    clock.replace(None, lambda: 1_767_225_600.0)  # 2026-01-01T00:00:00Z
    try:
        assert until_reset_s(text, {}) == (None if seconds is None else pytest.approx(seconds))
    finally:
        clock.replace()


def test_a_provider_with_one_quota_names_its_reset_without_its_unit() -> None:
    """As OpenRouter does for its free models."""
    resets = {"x-ratelimit-reset": str(int((clock.wall() + 40) * 1000)), "x-ratelimit-limit": "20"}
    wait = reset_s(resets | {"x-ratelimit-remaining": "0"})
    assert wait is not None
    assert 39 < wait <= 40
    assert reset_s(resets | {"x-ratelimit-remaining": "1"}) is None
    assert reset_s({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"}) is None, "of Together's bucket"


@pytest.mark.parametrize("headers", [{}, {"date": "soon"}, {"x-ratelimit-remaining": "7"}])
def test_headers_that_an_error_repeats_are_read(headers: dict[str, str]) -> None:
    at = str(int((clock.wall() + 40) * 1000))
    details = {"headers": {"X-RateLimit-Limit": "20", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": at}}
    wait = wait_s(headers, "Rate limit exceeded: free-models-per-min. ", details)
    assert wait is not None
    assert 39 < wait <= 40
    assert wait_s(headers, "no", {"headers": ["X-RateLimit-Remaining"]}) is None
    assert wait_s(headers, "no", {"headers": {"X-RateLimit-Remaining": 0}}) is None


def test_the_nearer_source_wins() -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}]
    used_up = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}
    words = "Please try again in 2s"
    assert wait_s({"retry-after": "1", **used_up}, words, details) == 1.0
    assert wait_s(used_up, words, details) == 34.5
    assert wait_s(used_up, words) == 2.0
    assert wait_s(used_up, "") == 360.0
    assert wait_s({}, "") is None


@given(st.text(max_size=40))
def test_any_text_gives_a_sane_wait_or_none(text: str) -> None:
    waits = [retry_after_s({"retry-after": text}), retry_after_s({"retry-after-ms": text}), duration_s(text)]
    waits += [said_s(text), retry_info_s([{"@type": "RetryInfo", "retryDelay": text}])]
    waits.append(reset_s({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": text}))
    assert all(wait is None or 0 < wait <= LONGEST_HINT_S for wait in waits)
