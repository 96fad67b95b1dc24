"""What one request does step by step when another writes the prompt that it shares."""

from __future__ import annotations

from random import Random
from typing import Any

import orjson
import pytest

from cottonpalm.providers.call import Call, call_of
from cottonpalm.providers.paths import family_of
from cottonpalm.providers.prompt_cache.terms import Terms
from cottonpalm.request.attempt.attempts import attempts
from cottonpalm.request.attempt.reservation import Reservation
from cottonpalm.request.attempt.settlement import Settlement
from cottonpalm.request.attempt.steps import AskPermit, Hold, Reply, Send
from cottonpalm.request.prompt_cache.asking import Asking, Shared
from cottonpalm.request.prompt_cache.rules.patience import Patience
from cottonpalm.request.prompt_cache.rules.prefixes import Prefixes
from cottonpalm.request.row_account import RowAccount
from cottonpalm.runtime.wait_queue import RowClosed
from tests.promptcache.kit import RULES
from tests.request.kit import a_run, in_flight

pytestmark = pytest.mark.core
WHERE = ("https", "api.openai.com", None, "/v1/chat/completions")
ANSWER = orjson.dumps(
    {
        "model": "gpt-4.1",
        "choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "yes"}}],
        "usage": {"prompt_tokens": 3_000, "completion_tokens": 1},
    }
)


def a_call(text: str) -> Call:
    family = family_of(WHERE[3])
    messages = [{"role": "system", "content": RULES}, {"role": "user", "content": text}]
    found = call_of(family, WHERE, {}, orjson.dumps({"model": "gpt-4.1", "messages": messages}))  # type: ignore[arg-type]
    assert found is not None
    return found


class Hand:
    """One request, driven by hand."""

    def __init__(self, run: Any, text: str) -> None:
        self.call, self.row = a_call(text), RowAccount(run, 0)
        self.steps: Any = attempts(self.row, self.call)
        self.step = next(self.steps)

    def permit(self) -> Any:
        return self.row.run.flow.limiter(self.call.key).try_acquire()

    def sends(self) -> None:
        assert isinstance(self.step, AskPermit)
        self.step = self.steps.send(self.permit())
        assert isinstance(self.step, Send)

    def gets(self, reply: Reply) -> None:
        with pytest.raises(StopIteration):
            self.steps.send(reply)


def test_a_request_holds_nothing_while_it_waits_and_goes_when_the_answer_has_come() -> None:
    run = a_run(5)
    first, second = Hand(run, "one"), Hand(run, "two")
    first.sends()
    assert isinstance(second.step, Hold)
    assert in_flight(run) == 1
    first.gets(Reply(200, {}, ANSWER, "raw"))
    second.step = second.steps.send(True)
    second.sends()
    assert isinstance(Hand(run, "three").step, AskPermit), "the prompt is in the cache"


def test_where_a_copy_was_answered_the_prompt_is_in_the_cache() -> None:
    run = a_run(5)
    first, second = Hand(run, "one"), Hand(run, "two")
    first.sends()
    copy = Settlement(first.row, first.call, first.permit(), Reservation(first.row, first.call))
    copy.begin()
    first.gets(Reply(200, {}, ANSWER, "raw", copy=copy))
    second.step = second.steps.send(True)
    assert isinstance(second.step, AskPermit)
    assert isinstance(Hand(run, "three").step, AskPermit)


def test_a_request_that_is_cancelled_in_line_lets_the_next_one_lead() -> None:
    run = a_run(5)
    first, second, third = (Hand(run, text) for text in ("one", "two", "three"))
    assert isinstance(first.step, AskPermit)
    first.steps.close()
    second.step = second.steps.send(True)
    assert isinstance(second.step, AskPermit)
    third.step = third.steps.send(True)
    assert isinstance(third.step, Hold), "now the second one leads"


def test_who_has_waited_too_long_goes_without_waiting_again() -> None:
    run = a_run(5)
    first, second = Hand(run, "one"), Hand(run, "two")
    first.sends()
    second.step = second.steps.send(False)
    assert isinstance(second.step, AskPermit)


def test_a_row_that_is_over_sends_nothing_after_its_wait() -> None:
    run = a_run(5)
    first, second = Hand(run, "one"), Hand(run, "two")
    first.sends()
    second.row.close()
    with pytest.raises(RowClosed):
        second.steps.send(True)


@pytest.mark.parametrize("seed", range(20))
def test_whoever_waits_waits_for_somebody_on_the_way_and_in_the_end_nobody_leads(seed: int) -> None:
    """Whatever shares what, fails or is answered, in any order."""
    rng, now = Random(seed), 0.0
    shared = Shared(Terms(minimum=512, first=rng.choice([1, 2])), Prefixes(Terms(minimum=512)), Patience())
    prefixes, under_way, waiting = shared.prefixes, [], []
    for number in range(120):
        prompt = b"%d" % rng.randrange(3) * 3_000 + b"%d" % rng.randrange(4) * 4_000 + b"%d" % number
        chain = prefixes.chain(prompt, prefixes.places(len(prompt)), now)
        waiting.append(Asking(shared, chain, len(prompt), None))
        rng.shuffle(waiting)
        for asking in tuple(waiting):
            if (wait := asking.go(1_000_000)) is None:
                waiting.remove(asking)
                under_way.append(asking)
            else:
                assert wait[0] in under_way
        if under_way and rng.random() < 0.5:
            under_way.pop(rng.randrange(len(under_way))).over(None, None, answered=rng.random() < 0.7)
    while waiting or under_way:
        under_way.pop().over(None, None, answered=rng.random() < 0.7)
        gone = [asking for asking in waiting if asking.go(1_000_000) is None]
        waiting = [asking for asking in waiting if asking not in gone]
        under_way += gone
    assert all(prefix.leader is None for prefix in prefixes._known.values())
