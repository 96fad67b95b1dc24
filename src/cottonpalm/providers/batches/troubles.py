"""What went wrong with a request to a Batch API, and what that means for the batch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from cottonpalm.errors import CottonpalmError
from cottonpalm.providers.answer import loads, sub, text_of, written
from cottonpalm.providers.classify import is_bare_refusal, judge, judge_status, never_sent
from cottonpalm.providers.paths import ANTHROPIC, GOOGLE, OPENAI_CHAT, family_in
from cottonpalm.redact import redact
from cottonpalm.types import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cottonpalm.providers.answer import Family
    from cottonpalm.providers.batches.lanes import Lane
    from cottonpalm.providers.batches.lines import Result

What: TypeAlias = Literal["later", "full", "refused", "denied", "gone", "unsure"]
_FAMILIES: Final[dict[str, Family]] = {"anthropic": ANTHROPIC, "gemini": GOOGLE}
_FULL: Final = ("token_limit_exceeded", "Enqueued token limit", "enqueued token limit")
_BY_KIND: Final[dict[Kind, What]] = {
    Kind.THROTTLE: "later",
    Kind.TRANSIENT: "later",
    Kind.STOP_RUN: "denied",
}


class Trouble(Exception):
    """A request to a Batch API that did not work.

    Attributes:
        what: "later": to be tried again; nothing was done.
            "full": too much waits at the provider already; nothing was done.
            "refused": it will never be taken as it is.
            "denied": this account may not, or cannot pay.
            "gone": there is no such thing (any more).
            "unsure": its answer was lost: it may have been done.
        after_s: the wait that the provider asked for.
    """

    def __init__(self, what: What, message: str, after_s: float | None = None) -> None:
        super().__init__(redact(message))
        self.what, self.after_s = what, after_s


class BatchDenied(CottonpalmError):
    """The provider does not let this account use its Batch API: no credit, no right, or a wrong key."""


def of_status(provider: str, status: int, headers: Mapping[str, str], content: bytes) -> Trouble:
    """What an error answer means for a request that may be repeated."""
    fault = judge_status(_FAMILIES.get(provider, OPENAI_CHAT), status, headers, content)
    message = f"HTTP {status}: {fault.message}"
    if any(word in fault.message for word in _FULL) or _exhausted(status, content):
        return Trouble("full", message, fault.retry_after_s)
    if status in (404, 410):
        return Trouble("gone", message)
    if status == 403:  # a bare one too: here it is the account's, as no row is asked
        return Trouble("denied", message)
    return Trouble(_BY_KIND.get(fault.kind, "refused"), message, fault.retry_after_s)


def of_creation(provider: str, status: int, headers: Mapping[str, str], content: bytes) -> Trouble:
    """What an error answer to the request that costs money means: a server that stumbled may have done it."""
    trouble = of_status(provider, status, headers, content)
    if trouble.what == "gone":
        return Trouble("refused", str(trouble))  # the model or the file: there is nothing to wait for
    if trouble.what == "later" and (status >= 500 or status in (408, 409)) and status != 529:
        return Trouble("unsure", str(trouble), trouble.after_s)
    return trouble


def as_meant(lane: Lane, result: Result) -> Result:
    """An error under status 200 counts by what it says: where another try may help, its line is to be asked again."""
    if not result.good or result.body is None:
        return result
    family = family_in(lane.endpoint)
    error = family.read(result.body).error
    if error is None or judge(family, error, {}).kind not in (Kind.THROTTLE, Kind.TRANSIENT):
        return result
    return replace(result, status=500)


def may_pass(lane: Lane, result: Result) -> bool:
    """Whether a refusal may be of the account (a key, no credit, no right): once that is settled it means nothing."""
    family, content = family_in(lane.endpoint), written(result.body)
    if judge_status(family, result.status, {}, content).kind is Kind.STOP_RUN:
        return True
    return is_bare_refusal(family, result.status, {}, content)


def of_exception(exc: Exception, *, creates: bool) -> Trouble:
    """What a broken connection means."""
    said = f"{type(exc).__name__}: {exc}".rstrip(": ")
    return Trouble("unsure" if creates and not never_sent(exc) else "later", said)


def _exhausted(status: int, content: bytes) -> bool:
    """Google's word for both: too many requests, which names a time to wait, and too much that waits."""
    error: dict[str, Any] = sub(loads(content), "error")
    if status != 429 or text_of(error.get("status")) != "RESOURCE_EXHAUSTED":
        return False
    return not any("RetryInfo" in text_of(sub(part).get("@type")) for part in error.get("details") or ())
