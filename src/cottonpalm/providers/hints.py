"""Reads how long the provider asks us to wait. The functions never raise: text that makes no sense gives None."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from cottonpalm import clock

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_HINT_S: Final = 31 * 86_400.0  # a larger number is not a wait, but a date or garbage
AGREE_S: Final = 5.0  # two clocks that show less between them
_NUMBER: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|h|m|s)")
_DURATION: Final = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|h|m|s))+")
# "6m0s", and as people write it: "6 seconds" (Azure), "2 minutes and 5 seconds".
_SAID_UNIT: Final = r"milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|h|days?"
_SAID_PART: Final = re.compile(rf"([0-9]+(?:\.[0-9]+)?) ?({_SAID_UNIT})(?![a-z])")
_SAID: Final = re.compile(
    rf"(?:try again|retry) (?:in|after) ((?:{_SAID_PART.pattern}(?:,? and |,? )?)+)", re.IGNORECASE
)
_UNIT_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_RESETS: Final = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
    ("x-ratelimit-remaining-tokens-minute", "x-ratelimit-reset-tokens-minute"),  # Cerebras
    ("x-ratelimit-remaining-requests-minute", "x-ratelimit-reset-requests-minute"),
    ("x-ratelimit-remaining-requests-day", "x-ratelimit-reset-requests-day"),
)
_MILLISECONDS: Final = 1e11  # a Unix time above is in milliseconds


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the wait in `retry-after-ms` or `retry-after`: seconds, a duration ("5s") or a date; or None."""
    if ms := number(headers.get("retry-after-ms")):  # of 0, the other may know more
        return _sane(ms / 1000)
    text = headers.get("retry-after")
    if (seconds := number(text)) is not None:
        return _sane(seconds)
    return time_until_s(text, headers)


def duration_s(text: object) -> float | None:
    """A duration such as "6m0s", "120ms" or "1h0m5s" in seconds, or None."""
    if not isinstance(text, str) or not _DURATION.fullmatch(text.strip()):
        return None
    return _sane(sum(float(number) * _UNIT_S[unit] for number, unit in _PART.findall(text)))


def said_s(message: str) -> float | None:
    """The wait named in words ("Please try again in 6m0s", "Please retry after 6 seconds"), or None."""
    found = _SAID.search(message[:2000])
    if found is None:
        return None
    return _sane(
        sum(float(number) * _said_unit_s(unit) for number, unit in _SAID_PART.findall(found[1].lower()))
    )


def reset_s(headers: Mapping[str, str]) -> float | None:
    """The longest time until a used-up quota is full again, from the rate limit headers, or None."""
    waits = [
        until_reset_s(headers.get(reset), headers)
        for remaining, reset in _RESETS
        if number(headers.get(remaining)) == 0
    ]
    if number(headers.get("x-ratelimit-remaining")) == 0:
        waits.append(_moment_s(headers))
    return max((wait for wait in waits if wait is not None), default=None)


def _moment_s(headers: Mapping[str, str]) -> float | None:
    """The time until `x-ratelimit-reset` where it is a Unix time (OpenRouter), or None.

    Where it is plain seconds, they are of a bucket that holds a second's worth (Together: always 1), and what comes
    back of it comes sooner.
    """
    text = headers.get("x-ratelimit-reset")
    value = number(text)
    return None if value is None or value <= LONGEST_HINT_S else until_reset_s(text, headers)


def retry_info_s(details: object) -> float | None:
    """The `retryDelay` of a Google error's details, or None."""
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and str(detail.get("@type", "")).endswith("RetryInfo"):
            return duration_s(detail.get("retryDelay"))
    return None


def wait_s(headers: Mapping[str, str], message: str, details: Any = None) -> float | None:
    """Return the provider's wait from the first source that names it: header, details, words, the quota's reset."""
    named = retry_after_s(headers), retry_info_s(details), said_s(message), reset_s(headers)
    return next((wait for wait in (*named, _repeated_s(headers, details)) if wait is not None), None)


def _repeated_s(headers: Mapping[str, str], details: object) -> float | None:
    """The reset by the headers that OpenRouter repeats in the error: those of the answer may be an upstream's."""
    told = details.get("headers") if isinstance(details, dict) else None
    if not isinstance(told, dict):
        return None
    named = {str(name).lower(): str(value) for name, value in told.items()}
    return reset_s({"date": headers.get("date", ""), **named})


def until_reset_s(text: str | None, headers: Mapping[str, str]) -> float | None:
    """Return the seconds until a quota's reset, or None.

    It is written as a duration (OpenAI), a date (Anthropic), plain seconds (Azure, Cerebras), or a Unix time in seconds
    or milliseconds (OpenRouter).
    """
    if (value := number(text)) is None:
        return time_until_s(text, headers)
    if value <= LONGEST_HINT_S:
        return _sane(value)
    return _from_now(value / 1000 if value > _MILLISECONDS else value, headers)


def time_until_s(text: str | None, headers: Mapping[str, str]) -> float | None:
    """Return the seconds until a time that one of these headers gives as a duration or as a date, or None."""
    return duration_s(text) or _until(text, headers)


def ahead_s(headers: Mapping[str, str]) -> float:
    """By how many seconds the clock that these were dated by is ahead of ours; 0 where they have no date."""
    dated = _stamp(headers.get("date"))
    return 0.0 if dated is None else dated - clock.wall()


def number(text: object) -> float | None:
    """Return a plain decimal number of 0 or more, or None."""
    if not isinstance(text, str):
        return None
    text = text.strip()
    whole = text.isascii() and text.isdigit()  # most are, and each answer may show eight
    return float(text) if whole or _NUMBER.fullmatch(text) else None


def _said_unit_s(name: str) -> float:
    """The seconds of a unit that is written out or not: "ms", "s", "minutes"."""
    return _UNIT_S["ms" if name.startswith(("ms", "milli")) else name[0]]


def _sane(seconds: float) -> float | None:
    """Drop a hint of zero or of too many seconds; our own backoff is used instead."""
    return seconds if 0 < seconds <= LONGEST_HINT_S else None


def _until(text: str | None, headers: Mapping[str, str]) -> float | None:
    """Return the seconds until an HTTP date or an RFC 3339 time, by the clock that dated the headers."""
    stamp = _stamp(text)
    return None if stamp is None else _from_now(stamp, headers)


def _from_now(stamp: float, headers: Mapping[str, str]) -> float | None:
    """Return the seconds until this moment by the clock that dated the headers."""
    ahead = ahead_s(headers)
    # A date has whole seconds and took some time to come, so clocks that seem to agree are taken to agree.
    return _sane(stamp - clock.wall() - (ahead if abs(ahead) > AGREE_S else 0.0))


@lru_cache(maxsize=64)  # all answers of one second have the same date
def _stamp(text: str | None) -> float | None:
    """Return the Unix seconds of an HTTP date or an RFC 3339 time, or None."""
    if text is None:
        return None
    parsers = datetime.fromisoformat, parsedate_to_datetime  # the quicker one first: an answer may name four
    for parse in parsers:
        try:
            moment = parse(text.strip())
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
    return None
