"""What a reply means: a fault, an answer, or an answer that the run does not accept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson

from cottonpalm.providers import CutAnswer, FilteredAnswer, dressed
from cottonpalm.providers.answer import Answer, read_bytes
from cottonpalm.providers.classify import REFUSES, is_bare_refusal, judge, judge_status, never_sent
from cottonpalm.providers.raised import lets_through
from cottonpalm.request.attempt.steps import Done, KeptFailure
from cottonpalm.types import Fault, Kind

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from cottonpalm.providers.call import Call
    from cottonpalm.request.attempt.steps import Reply
    from cottonpalm.request.row_account import RowAccount
    from cottonpalm.request.run_account import RunAccount

UNKNOWN: Final = "broke off or has no known shape"
# Who gave up was on the way; the model may have answered.
MAYBE_BILLED: Final = frozenset({408, 499, 502, 504, 520, 522, 524})


@dataclass(slots=True)
class Judged:
    """The result of judging one try.

    Attributes:
        unsent: no connection stood, so the server has seen nothing of it.
    """

    fault: Fault | None
    answer: Answer | None = None
    billed: bool = True
    unsent: bool = False


def judge_reply(run: RunAccount, call: Call, reply: Reply) -> Judged:
    """Judge what a reply means. The user's own function, if there is one, decides first."""
    if reply.error is not None:
        unsent = never_sent(reply.error)
        return Judged(run.fault_of(reply.error), billed=not unsent, unsent=unsent)
    content = reply.content or b""
    if reply.status >= 400:
        said = (call.family, reply.status, reply.headers, content)
        fault = judge_status(*said)
        if is_bare_refusal(*said):
            accepted = run.flow.limiter(call.key).accepted > 0
            fault = run.refusals.judged(call.key, fault, reply.status, accepted=accepted)
        if run.classify is not None and reply.as_error is not None:
            fault = run.judged(fault, reply.as_error())
        return Judged(fault, billed=reply.status in MAYBE_BILLED)
    answer = read_bytes(call.family, content, reply.json)
    return Judged(broken(call, reply.headers, answer), answer)


def broken(call: Call, headers: MutableMapping[str, str], answer: Answer) -> Fault | None:
    """Return the fault of an answer that is not usable: an error under a good status, or a body that broke off."""
    if answer.error is not None:
        return judge(call.family, answer.error, headers)
    if answer.complete:
        return None
    what = f"was not finished by the server ({answer.gave_up})" if answer.gave_up else UNKNOWN
    return Fault(Kind.TRANSIENT, "BrokenAnswer", f"the answer of {call.label} {what}")


def cut(row: RowAccount, call: Call, answer: Answer) -> Exception | None:
    """Return the exception for an answer that was cut or filtered; None if it is whole, or the run accepts it."""
    if answer.stop is None:
        return None
    if row.run.accept_truncated:
        row.truncated = True
        return None
    row.partial = answer.text
    if answer.stop == "cut":
        message = f"the answer of {call.label} was cut at its length limit"
        return dressed(CutAnswer, message, partial=answer.text)
    return dressed(
        FilteredAnswer, f"{call.label} refused to answer, or its answer was filtered", partial=answer.text
    )


def handed_out(refusal: CutAnswer | FilteredAnswer) -> Done:
    """Hand a refusal to an SDK that would take an exception for a broken connection, as an answer that it lets be.

    Raises:
        CutAnswer, FilteredAnswer: the refusal itself; the SDK lets it through, if there is one.
    """
    if lets_through():
        raise refusal
    headers = {"content-type": "application/json", "x-should-retry": "false", REFUSES: type(refusal).__name__}
    return Done(kept=KeptFailure(None, 422, headers, orjson.dumps({"error": {"message": str(refusal)}})))
