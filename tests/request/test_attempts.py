"""`attempts` driven by hand: what it asks for, in what order, and what it does with each answer."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from cottonpalm import clock
from cottonpalm.config import RetryPolicy
from cottonpalm.events import Paused
from cottonpalm.providers import BrokenAnswer, CutAnswer, FilteredAnswer, SignatureExpired, classify
from cottonpalm.providers.call import SIGNATURE_LIFE_S, Call
from cottonpalm.request.attempt.attempts import attempts
from cottonpalm.request.attempt.steps import AskMoney, AskPermit, Done, Reply, Send, Sleep, Step
from cottonpalm.request.row_account import RowAccount
from cottonpalm.runtime.wait_queue import RowClosed
from cottonpalm.types import Kind
from tests.request.kit import a_run, in_flight
from tests.support.calls import recognise

pytestmark = pytest.mark.core
GOOD = {
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 2},
}


def a_call(text: str = "hi", headers: dict[str, str] | None = None, **body: Any) -> Call:
    content = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}], **body}
    url = ("https", "api.openai.com", None, "/v1/chat/completions")
    call = recognise("POST", url, headers or {"authorization": "Bearer sk-1"}, json.dumps(content).encode())
    assert call is not None
    return call


def answer(status: int = 200, body: Any = None, **headers: str) -> Reply:
    content = json.dumps(GOOD if body is None else body).encode()
    return Reply(
        status, {name.replace("_", "-"): value for name, value in headers.items()}, content, raw=object()
    )


def spelled(step: Step) -> tuple[str, Any]:
    """A step as its name, and what the driver is told."""
    match step:
        case AskMoney():
            return "money", step.ask
        case AskPermit():
            return "permit", step
        case Send():
            return "send", step
        case Sleep():
            return "sleep", step.seconds


class Spelled:
    """A generator of steps that spells them."""

    def __init__(self, steps: Any) -> None:
        self._steps, self.close = steps, steps.close

    def send(self, result: Any) -> tuple[str, Any]:
        return spelled(self._steps.send(result))

    def throw(self, error: BaseException) -> tuple[str, Any]:
        return spelled(self._steps.throw(error))


class Hand:
    """Drives the generator: gives permits, answers from a list, and notes every step."""

    def __init__(self, row: RowAccount, call: Call, *replies: Reply) -> None:
        self.row, self.steps, self.replies = row, [], list(replies)
        self.sendings: list[Any] = []
        self.generator = Spelled(attempts(row, call))
        self.call = call

    def run(self) -> Done:
        result: Any = None
        try:
            while True:
                step, value = self.generator.send(result)
                self.steps.append(step)
                result = self._do(step, value)
        except StopIteration as stop:
            return stop.value

    def _do(self, step: str, value: Any) -> Any:
        if step == "permit":
            return self.row.run.flow.limiter(value[0]).force()
        if step == "money":
            granted = self.row.run.ledger.try_grant(value, 0, self.row.run.spending)
            return granted if isinstance(granted, int) else 0
        if step == "send":
            self.sendings.append(value)
        return self.replies.pop(0) if step == "send" else None

    @property
    def limiter(self) -> Any:
        return self.row.run.flow.limiter(self.call.key)


def a_hand(*replies: Reply, call: Call | None = None, **settings: Any) -> Hand:
    return Hand(RowAccount(a_run(**settings), 0), call or a_call(), *replies)


def test_a_good_answer_takes_one_permit_and_one_send() -> None:
    reply = answer()
    hand = a_hand(reply)
    assert hand.run().raw is reply.raw
    assert hand.steps == ["permit", "send"]
    assert hand.limiter.accepted == 1
    assert in_flight(hand.row.run) == 0


def test_a_transient_failure_sleeps_without_a_permit_and_takes_a_new_one() -> None:
    hand = a_hand(answer(500, {}), answer())
    hand.run()
    assert hand.steps == ["permit", "send", "sleep", "permit", "send"]


def test_a_throttle_goes_back_to_its_permit_and_pauses_the_whole_key() -> None:
    events: list[Any] = []
    hand = a_hand(answer(429, {}, retry_after="3600"), answer())
    hand.row.run.alerts.emit = events.append
    hand.run()
    assert hand.steps == ["permit", "send", "permit", "send"]
    assert hand.limiter.paused_until - clock.now() > 3590
    pauses = [event.seconds for event in events if isinstance(event, Paused)]
    assert len(pauses) == 1
    assert 3600 <= pauses[0] <= 3601.25, "never undercut, a little spread"


def test_a_throttle_without_a_hint_backs_off_with_jitter() -> None:
    hand = a_hand(answer(429, {}), answer(), retry=RetryPolicy(base_s=100.0, cap_s=100.0))
    hand.row.run.rng = random.Random(1)
    hand.run()
    assert 0 < hand.limiter.paused_until - clock.now() <= 100


def test_the_first_rejections_pause_nobody_while_others_may_have_been_accepted() -> None:
    hand = a_hand(answer(429, {}), answer(), retry=RetryPolicy(base_s=100.0, cap_s=100.0))
    hand.row.run.rng = random.Random(1)
    hand.limiter.force()  # under way, and not rejected so far
    hand.run()
    assert hand.limiter.paused_until <= clock.now()


def test_a_hint_on_a_transient_failure_is_never_undercut() -> None:
    hand = a_hand(answer(503, {"error": {"message": "x"}}), answer())
    hand.generator.send(None)
    hand.generator.send(hand.limiter.force())
    step, seconds = hand.generator.send(answer(500, {}, retry_after="120"))
    assert step == "sleep"
    assert 120 <= seconds <= 121.25


def test_throttles_end_only_where_the_same_key_accepts_others() -> None:
    policy = RetryPolicy(rejections=3, base_s=0.001, cap_s=0.001)
    hand = a_hand(*[answer(429, {}) for _ in range(50)], answer(), retry=policy)
    assert hand.run().raw is not None, "nobody was accepted: a request is not failed for that"
    assert hand.steps.count("send") == 51

    crowded = a_hand(*[answer(429, {}) for _ in range(50)], retry=policy)
    original = crowded._do

    def others_pass(step: str, value: Any) -> Any:
        crowded.limiter.admission.answers += step == "permit"
        return original(step, value)

    crowded._do = others_pass  # type: ignore[method-assign]
    done = crowded.run()
    assert crowded.steps.count("send") == 3
    assert done.raw is not None
    assert crowded.row.spent.kind is Kind.THROTTLE


def test_the_last_request_of_a_run_ends_too_though_it_is_always_rejected() -> None:
    policy = RetryPolicy(rejections=3, base_s=0.001, cap_s=0.001)
    alone = a_hand(*[answer(429, {}) for _ in range(50)], retry=policy)
    original = alone._do

    def others_pass_once(step: str, value: Any) -> Any:
        alone.limiter.admission.answers += step == "send" and alone.steps.count("send") == 2
        return original(step, value)

    alone._do = others_pass_once  # type: ignore[method-assign]
    alone.run()
    assert alone.steps.count("send") == 4, "two before others were accepted, and some of three after it"
    assert alone.row.spent.kind is Kind.THROTTLE


def test_a_final_failure_tells_the_sdk_not_to_try_again() -> None:
    last = answer(500, {})
    hand = a_hand(last, retry=RetryPolicy(retries=0))
    assert hand.run().raw is last.raw
    assert last.headers["x-should-retry"] == "false"


def test_the_same_request_again_is_answered_from_memory() -> None:
    row = RowAccount(a_run(), 0)
    Hand(row, a_call(), answer(400, {"error": {"message": "no"}})).run()
    again = Hand(row, a_call())
    done = again.run()
    assert again.steps == []
    assert done.kept.status == 400
    assert b"no" in done.kept.content
    other = Hand(row, a_call("another question"), answer())
    other.run()
    assert other.steps == ["permit", "send"]


def test_an_exception_in_memory_is_raised_again() -> None:
    row = RowAccount(a_run(retry=RetryPolicy(retries=0)), 0)
    error = ConnectionResetError("gone")
    for replies in ([Reply(error=error)], []):
        with pytest.raises(ConnectionResetError):
            Hand(row, a_call(), *replies).run()
    assert row.attempts == 1


def test_a_closed_row_is_refused_at_once_and_between_tries() -> None:
    hand = a_hand(answer())
    hand.row.close()
    with pytest.raises(RowClosed):
        hand.run()
    late = a_hand(answer(500, {}), answer())
    late.generator.send(None)
    late.generator.send(late.limiter.force())
    late.generator.send(answer(500, {}))  # it sleeps
    late.row.close()
    with pytest.raises(RowClosed):
        late.generator.send(None)
    assert late.row.attempts == 1


@pytest.mark.parametrize("at", ["permit", "send", "sleep"])
def test_a_request_cancelled_at_any_step_leaves_nothing_held(at: str) -> None:
    hand = a_hand(answer(500, {}), answer())
    step, value = hand.generator.send(None)
    while step != at:
        step, value = hand.generator.send(hand._do(step, value))
    hand.generator.close()
    assert in_flight(hand.row.run) == 0
    assert hand.row._open == 0
    assert hand.limiter.accepted == 0


def test_an_error_under_a_good_status_is_judged_by_its_code() -> None:
    overloaded = {"error": {"code": 503, "message": "upstream is overloaded"}}
    hand = a_hand(answer(200, overloaded), answer())
    hand.run()
    assert hand.steps == ["permit", "send", "permit", "send"], "a throttle"


@pytest.mark.parametrize(
    ("code", "kind"),
    [("insufficient_quota", Kind.STOP_RUN), ("content_filter", Kind.FAIL_ROW), ("402", Kind.STOP_RUN)],
)
def test_an_error_under_a_good_status_means_the_same_to_its_row(code: str, kind: Kind) -> None:
    hand = a_hand(answer(200, {"error": {"code": code, "message": "no"}}))
    with pytest.raises(BrokenAnswer) as raised:
        hand.run()
    assert classify(raised.value).kind is kind


def test_a_body_that_stays_broken_is_raised_as_transient() -> None:
    hand = a_hand(answer(200, {"choices": []}), retry=RetryPolicy(retries=0))
    with pytest.raises(BrokenAnswer):
        hand.run()
    assert hand.limiter.accepted == 0


def test_cut_and_filtered_answers_are_raised_once_and_not_remembered() -> None:
    row = RowAccount(a_run(), 0)
    cut = {**GOOD, "choices": [{"message": {"content": "once upon"}, "finish_reason": "length"}]}
    for _ in range(2):
        with pytest.raises(CutAnswer) as caught:
            Hand(row, a_call(), answer(200, cut)).run()
        assert caught.value.partial == row.partial == "once upon"
    filtered = {**GOOD, "choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]}
    with pytest.raises(FilteredAnswer):
        Hand(row, a_call(), answer(200, filtered)).run()
    assert row.attempts == 3
    assert row.usage.input_tokens == 21, "billed all the same"
    assert not row.truncated


def test_an_accepted_cut_answer_is_handed_out_and_noted() -> None:
    cut = {**GOOD, "choices": [{"message": {"content": "once upon"}, "finish_reason": "length"}]}
    hand = a_hand(answer(200, cut), accept_truncated=True)
    assert hand.run().raw is not None
    assert hand.row.truncated
    assert hand.row.partial is None


def test_a_signed_request_that_waited_too_long_is_raised_and_not_sent() -> None:
    signature = {
        "authorization": "AWS4-HMAC-SHA256 Credential=AKIA1/20261125/eu/bedrock/aws4_request, Signature=00"
    }
    call = a_call(headers=signature)
    assert call.signed
    call.born -= SIGNATURE_LIFE_S + 1
    hand = a_hand(call=call)
    with pytest.raises(SignatureExpired):
        hand.run()
    assert hand.row.attempts == 0
    assert in_flight(hand.row.run) == 0


def test_a_spent_allowance_slows_retries_down_but_fails_nobody() -> None:
    policy = RetryPolicy(base_s=0.001, cap_s=7.0, allowance_share=0.0, allowance_floor=1)
    hand = a_hand(answer(500, {}), answer(500, {}), answer(), retry=policy)
    original, slept = hand._do, []

    def note(step: str, value: Any) -> Any:
        if step == "sleep":
            slept.append(value)
        return original(step, value)

    hand._do = note  # type: ignore[method-assign]
    clock.replace(lambda: sum(slept))  # so a busy machine adds no time between the steps
    try:
        assert hand.run().raw is not None
    finally:
        clock.replace()
    assert slept[0] <= policy.base_s, "the one retry that the allowance has"
    assert sum(slept[1:]) >= policy.base_s
    assert hand.row.run.allowance.spent


def test_a_row_steps_aside_once_and_only_when_all_its_requests_rest() -> None:
    run, seen = a_run(), []
    row = RowAccount(run, 0)
    row.on_aside = lambda _, aside: seen.append(aside)
    row.begin()
    row.begin()
    with row.idling():
        assert seen == [], "the other one is still busy"
        with row.idling():
            assert seen == [True]
            assert row.aside
        assert seen == [True, False]
    row.end()
    with row.idling():
        assert seen == [True, False], "once per row"
    row.end()


def test_a_new_request_brings_a_row_back() -> None:
    seen: list[bool] = []
    row = RowAccount(a_run(), 0)
    row.on_aside = lambda _, aside: seen.append(aside)
    row.begin()
    with row.idling():
        row.begin()
        assert seen == [True, False]
    assert not row.aside
