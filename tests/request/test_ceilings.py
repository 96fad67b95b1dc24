"""`rate_limit=`: what the limiter never lets through, whoever asks, and what bad values get."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cottonpalm import BatchProcessor, RateLimit
from cottonpalm.config import AdaptiveConcurrency
from cottonpalm.errors import ConfigError
from cottonpalm.request.limiter.limiters import Limiters
from cottonpalm.request.limiter.rules.ceilings import WINDOW_S
from cottonpalm.request.limiter.rules.tokens import Tokens
from cottonpalm.testing import ScriptedChain
from cottonpalm.types import Usage, Verdict
from tests.request.stage import Stage

if TYPE_CHECKING:
    from cottonpalm.request.limiter.limiter import Limiter

pytestmark = pytest.mark.core


def busy(stage: Stage, limiter: Limiter, seconds: int, ask: int, used: int) -> list[float]:
    """Send whenever it is allowed, each answered a second later; the moments of sending."""
    sent: list[float] = []
    open_: list = []
    for _ in range(seconds * 4):
        while (permit := limiter.try_acquire(ask=ask)) is not None:
            sent.append(stage.loop.now_s)
            open_.append((stage.loop.now_s + 1, permit))
        stage.loop.now_s += 0.25
        while open_ and open_[0][0] <= stage.loop.now_s:
            limiter.release(open_.pop(0)[1], Verdict.SUCCESS, usage=Usage(used, 0))
    return sent


def most_in_a_minute(sent: list[float]) -> int:
    return max(sum(1 for other in sent if moment - 60 < other <= moment) for moment in sent)


def test_never_more_requests_are_sent_in_any_minute() -> None:
    with Stage() as stage:
        limiter = Limiters(AdaptiveConcurrency(), RateLimit(requests_per_minute=90)).of("k")
        sent = busy(stage, limiter, 300, 10, 10)
    assert most_in_a_minute(sent) <= 90
    assert len(sent) >= 5 * 85


def test_never_more_tokens_are_used_in_any_minute_and_what_was_not_used_is_not_lost() -> None:
    with Stage() as stage:
        limiter = Limiters(AdaptiveConcurrency(), RateLimit(tokens_per_minute=10_000)).of("k")
        sent = busy(stage, limiter, 300, ask=200, used=100)
    assert most_in_a_minute(sent) * 100 <= 10_000
    assert len(sent) * 100 >= 0.9 * 5 * 10_000


def test_a_request_above_the_whole_ceiling_goes_alone() -> None:
    with Stage() as stage:
        limiter = Limiters(AdaptiveConcurrency(), RateLimit(tokens_per_minute=100)).of("k")
        assert limiter.try_acquire(ask=5_000) is not None
        assert limiter.try_acquire(ask=1) is None
        stage.loop.now_s += WINDOW_S
        assert limiter.try_acquire(ask=1) is not None


def test_a_minute_is_used_evenly_and_not_in_one_burst() -> None:
    with Stage() as stage:
        limiter = Limiters(AdaptiveConcurrency(), RateLimit(requests_per_minute=60)).of("k")
        sent = busy(stage, limiter, 120, 10, 10)
    seconds = [sum(1 for other in sent if moment <= other < moment + 5) for moment in sent]
    assert max(seconds) <= 8


def test_who_waits_for_the_ceiling_goes_when_it_is_its_turn() -> None:
    with Stage() as stage:
        limiter = Limiters(AdaptiveConcurrency(), RateLimit(requests_per_minute=2)).of("k")
        tasks = [stage.start(limiter.aacquire()) for _ in range(4)]
        done = []
        for _ in range(4):
            done.append(sum(task.done() for task in tasks))
            stage.advance(WINDOW_S / 2)
        assert done == [1, 2, 3, 4]


def test_an_answer_of_which_nobody_knows_anything_holds_nobody_up_once_one_is_known() -> None:
    with Stage() as stage:
        limiter = Limiters(AdaptiveConcurrency(), RateLimit(tokens_per_minute=600)).of("k")
        tasks = [stage.start(limiter.aacquire(ask=Tokens(5))) for _ in range(4)]
        assert [task.done() for task in tasks] == [True, False, False, False]
        stage.advance(1.0)
        stage.call(limiter.release, tasks[0].result(), Verdict.SUCCESS, usage=Usage(5, 5))
        stage.pass_by(4.0, 0.1)
        assert all(task.done() for task in tasks)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"requests_per_minute": 0},
        {"tokens_per_minute": float("inf")},
        {"requests_per_minute": "60"},
        {"tokens_per_minute": True},
    ],
)
def test_a_ceiling_that_is_none_is_refused(given: dict) -> None:
    with pytest.raises(ConfigError, match="RateLimit"):
        RateLimit(**given)
    with pytest.raises(ConfigError, match="rate_limit=60"):
        BatchProcessor(ScriptedChain("ok"), rate_limit=60)
