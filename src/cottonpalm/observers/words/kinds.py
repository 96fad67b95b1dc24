"""What each kind of failure is called where people read it; the stored name stands beside it."""

from __future__ import annotations

from typing import Final

from cottonpalm.types import Kind

_WORDS: Final[dict[str, str]] = {
    Kind.THROTTLE: "the provider asked to wait",
    Kind.TRANSIENT: "a fault that may pass",
    Kind.REASK: "the answer did not fit",
    Kind.DEGRADE: "the answer was cut, or the input is too long",
    Kind.FAIL_ROW: "rejected, or the chain failed",
    Kind.STOP_RUN: "nothing can be answered",
}


def in_words(kind: str) -> str:
    """Return a kind in words; one that a later version has made, as it is."""
    return _WORDS.get(kind, kind)


_STOPPED: Final = {
    "fatal": "No row could be answered.",
    "budget": "The budget did not allow for more.",
    "max_failures": "Too many rows failed.",
    "stalled": "Nothing moved any more.",
    "store": "The store failed.",
    "interrupted": "It was interrupted.",
    "error": "It ended with an error.",
    "sample": "Only a sample of it was run, for a plan.",
}


def why_stopped(reason: str | None) -> str:
    """Why a run ended before its rows did, as a sentence; "" where it did not, or nobody knows."""
    return _STOPPED.get(reason or "", "")
