"""Quotas that a provider shows: providers that keep them in different ways, and what is made of their headers."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from cottonpalm.request.limiter.rules.quotas import PLACES, Quotas, by_unit
from cottonpalm.request.limiter.rules.shown import MINUTE, RESET, SEEN, WINDOW, Shown
from cottonpalm.types import Quota
from tests.support.sent import sent_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.request.limiter.rules.sent import Sent


PATIENCE_S = 0.2


class Provider:
    """Keeps a quota of `depth` and shows it; asked at a pace, it says what the mirror would have to know."""

    def __init__(self, depth: float, rate: float, *, window_s: float = 0.0, seed: int = 1) -> None:
        self.depth, self.rate, self.window_s = depth, rate, window_s
        self.level, self.now, self.total, self.rng = depth, 0.0, 0.0, Random(seed)

    def passes(self, seconds: float) -> None:
        before, self.now = self.now, self.now + seconds
        if not self.window_s:
            self.level = min(self.depth, self.level + self.rate * seconds)
        elif before // self.window_s != self.now // self.window_s:
            self.level = self.depth

    def take(self, cost: float = 1.0) -> bool:
        if self.level < cost:
            return False
        self.level -= cost
        self.total += cost
        return True

    @property
    def reset_s(self) -> float:
        """Until all is back."""
        if self.window_s:
            return self.window_s - self.now % self.window_s
        return (self.depth - self.level) / self.rate


def watched(
    provider: Provider, says: Callable[[Provider], Quota], seconds: float, pace: float = 12.0
) -> Shown:
    shown = Shown()
    while provider.now < seconds:
        provider.passes(provider.rng.expovariate(pace))
        if provider.take():
            shown.told(provider.now, provider.total, 1.0, says(provider))
    return shown


def honest(provider: Provider) -> Quota:
    return Quota("requests", provider.depth, float(int(provider.level)), provider.reset_s)


def check_waits(shown: Shown, provider: Provider, *, early: float = 0.1, late: float = 3.0) -> None:
    """What it says how long to wait is when the provider would take it, from empty on, not much later."""
    while provider.take():
        shown.told(provider.now, provider.total, 1.0, honest(provider))
    wait_s = shown.wait_s(provider.now, provider.total, 1.0)
    assert wait_s > 0
    provider.passes(max(0.0, wait_s * (1 + early)))
    assert provider.take(), "it would be too early"
    assert wait_s <= late / provider.rate if not provider.window_s else wait_s <= provider.window_s


def test_one_that_refills_evenly_and_says_when_it_is_full_is_read_by_its_reset() -> None:
    provider = Provider(100.0, 10.0)
    shown = watched(provider, honest, 40.0)
    assert shown.trusted
    assert shown.way in (RESET, SEEN)
    assert shown.rate == pytest.approx(10.0, rel=0.15)
    check_waits(shown, provider)


def test_one_that_shows_a_minutes_limit_and_no_reset_is_read_by_the_minute_or_by_what_was_seen() -> None:
    provider = Provider(60.0, 1.0)
    shown = watched(provider, lambda p: Quota("requests", 60.0, float(int(p.level)), None), 200.0, pace=1.5)
    assert shown.trusted
    assert shown.way in (MINUTE, SEEN)
    assert shown.rate == pytest.approx(1.0, rel=0.2)


def test_one_that_refills_ten_times_as_fast_as_a_minute_says_is_read_by_what_was_seen() -> None:
    provider = Provider(60.0, 10.0)
    shown = watched(provider, lambda p: Quota("requests", 60.0, float(int(p.level)), None), 60.0)
    assert shown.trusted
    assert shown.way == SEEN
    assert shown.rate == pytest.approx(10.0, rel=0.2)


def test_one_that_gives_nothing_back_before_a_window_ends_is_waited_for_to_its_end() -> None:
    provider = Provider(300.0, 0.0, window_s=60.0)
    shown = watched(provider, honest, 110.0, pace=4.0)
    assert shown.trusted
    assert shown.way == WINDOW
    while provider.take():
        shown.told(provider.now, provider.total, 1.0, honest(provider))
    left_s = provider.reset_s
    assert shown.wait_s(provider.now, provider.total, 1.0) == pytest.approx(left_s)
    assert shown.wait_s(provider.now + left_s / 2, provider.total, 1.0) == pytest.approx(left_s / 2)
    assert shown.wait_s(provider.now + left_s + 0.1, provider.total, 1.0) <= 0, "a new window"


def test_a_mirror_of_nothing_lets_all_go() -> None:
    assert Shown().wait_s(5.0, 1_000.0, 1.0) == 0.0
    assert not Shown().trusted
    assert [Shown().rate, *Shown()._rates, *Shown()._errors] == [0.0] * 9


def test_what_is_left_may_be_used_up_at_once_and_no_more() -> None:
    provider = Provider(100.0, 10.0)
    shown = watched(provider, honest, 30.0)
    left, used = int(provider.level), 0
    while shown.wait_s(provider.now, provider.total + used, 1.0) <= 0:
        used += 1
    assert left - 4 <= used <= left + 1


def test_a_large_request_waits_longer_than_a_small_one() -> None:
    provider = Provider(100.0, 10.0)
    shown = watched(provider, honest, 40.0)
    while provider.take():
        shown.told(provider.now, provider.total, 1.0, honest(provider))
    small = shown.wait_s(provider.now, provider.total, 1.0)
    large = shown.wait_s(provider.now, provider.total, 20.0)
    assert large - small == pytest.approx(19 / 10, rel=0.3)


def test_what_no_answer_has_confirmed_is_counted_with_as_much_more_as_the_mirror_was_off_by() -> None:
    shown = Shown()
    shown.told(1.0, 10.0, 1.0, Quota("requests", 600.0, 100.0, 50.0))
    shown.trusted, shown.way = True, MINUTE

    def may_go(off: float) -> int:
        shown._errors[MINUTE] = off
        return next(n for n in range(200) if shown.wait_s(1.0, 10.0 + n, 1.0) > 0)

    assert [may_go(off) for off in (0.0, 0.1, 0.24)] == [100, 91, 80]
    assert shown.enough <= 10.0 + may_go(0.24), "where that is enough, nobody need ask"


def test_an_older_answer_that_comes_later_changes_nothing() -> None:
    provider = Provider(100.0, 10.0)
    shown = watched(provider, honest, 20.0)
    before = (shown.rate, shown._last, shown._judged)
    shown.told(provider.now - 1.0, provider.total - 5, 1.0, Quota("requests", 100.0, 0.0, 60.0))
    assert (shown.rate, shown._last, shown._judged) == before


def test_a_reset_says_how_fast_it_refills_once_a_twentieth_is_used() -> None:
    shown = Shown()
    shown.told(1.0, 1.0, 1.0, Quota("requests", 100.0, 99.0, 0.1))
    assert shown._rates[RESET] == 0.0, "one of a hundred: the reset is rounded"
    shown.told(2.0, 5.0, 1.0, Quota("requests", 100.0, 95.0, 0.5))
    assert shown._rates[RESET] == pytest.approx(10.0)
    large = Shown()
    large.told(1.0, 40.0, 30.0, Quota("tokens", 100.0, 45.0, 5.0))
    assert large._rates[RESET] == 0.0, "nor from less than two requests"
    large.told(2.0, 60.0, 30.0, Quota("tokens", 100.0, 40.0, 6.0))
    assert large._rates[RESET] == pytest.approx(10.0)


def test_a_quota_that_is_never_used_is_no_reason_to_wait() -> None:
    shown = Shown()
    for nth in range(60):
        shown.told(float(nth), float(nth), 1.0, Quota("requests", 10_000.0, 10_000.0, 0.0))
    assert shown.wait_s(60.0, 60.0, 1.0) <= 0


# -- several units together


def sent(quotas: Quotas, at_s: float, tokens: float, output: float = 0.0) -> Sent:
    request = sent_at(at_s, 1, tokens)
    quotas.book([request], output)
    return request


def test_what_requests_take_of_each_unit() -> None:
    units = ("requests", "tokens", "output tokens", "input tokens")
    taken = by_unit((1.0, 100.0, 30.0))
    assert [taken[PLACES[unit]] for unit in units] == [1.0, 100.0, 30.0, 70.0]  # type: ignore[index]


def test_all_that_was_sent_is_counted_and_what_did_not_go_is_taken_back() -> None:
    quotas = Quotas()
    sent(quotas, 1.0, 100.0, 10.0)
    other = sent(quotas, 1.0, 50.0, 5.0)
    assert other.sent == quotas.sent == (2.0, 150.0, 15.0)
    quotas.undo(other)
    assert quotas.sent == (1.0, 100.0, 10.0)


def test_there_is_room_for_as_many_as_the_quota_that_is_left_least_of_holds() -> None:
    quotas = Quotas()
    first = sent(quotas, 1.0, 100.0, 10.0)
    sent(quotas, 1.1, 100.0, 10.0)
    assert quotas.ahead == 0.0, "nothing is shown yet"
    shows = [Quota("requests", 200.0, 125.0, 1.0), Quota("tokens", 1e6, 50_000.0, 1.0)]
    quotas.learn(first, shows, PATIENCE_S)
    assert quotas.ahead == pytest.approx(99.0), "125 less a fifth, in case it is off, less the one on its way"
    tight = [Quota("requests", 200.0, 125.0, 1.0), Quota("tokens", 1e6, 1.0, 1.0)]
    quotas.learn(sent(quotas, 2.0, 100.0, 10.0), tight, PATIENCE_S)
    assert quotas.ahead < 1.0


class Account:
    """A provider with two quotas, asked as its mirrors allow."""

    def __init__(self, requests: float, tokens: float, size: float) -> None:
        self.quotas, self.size, self.now = Quotas(), size, 0.0
        self.limits = {"requests": (requests, requests / 60), "tokens": (tokens, tokens / 60)}
        self.level = {"requests": requests, "tokens": tokens}
        self.rejected = 0

    def step(self, seconds: float) -> None:
        self.now += seconds
        for unit, (depth, rate) in self.limits.items():
            self.level[unit] = min(depth, self.level[unit] + rate * seconds)

    def ask(self) -> bool:
        wait_s, unit = self.quotas.wait_s(self.now, self.size, 0.0)
        if wait_s > 0:
            self.step(max(0.001, min(wait_s, 1.0)))
            self.held = unit
            return False
        request = sent(self.quotas, self.now, self.size)
        costs = {"requests": 1.0, "tokens": self.size}
        if any(self.level[unit] < cost for unit, cost in costs.items()):
            self.rejected += 1
            self.quotas.rejected(request)
            good = False
        else:
            for unit, cost in costs.items():
                self.level[unit] -= cost
            good = True
        shows = [
            Quota(unit, depth, self.level[unit], (depth - self.level[unit]) / rate)  # type: ignore[arg-type]
            for unit, (depth, rate) in self.limits.items()
        ]
        if not (good and self.quotas.keeps(request, shows, PATIENCE_S)):
            self.quotas.learn(request, shows, PATIENCE_S)
        return good


@pytest.mark.parametrize(
    ("requests", "tokens", "size", "binds"),
    [(600.0, 1e9, 100.0, "requests"), (6_000.0, 60_000.0, 100.0, "tokens")],
)
def test_the_quota_that_runs_out_first_holds_the_pace_and_hardly_any_is_rejected(
    requests: float, tokens: float, size: float, binds: str
) -> None:
    account, good = Account(requests, tokens, size), 0
    while account.now < 180.0:
        if account.ask():
            good += 1
            account.step(0.03)  # 33 a second: three times what comes back
    possible = min(requests + 3 * requests, (tokens + 3 * tokens) / size)
    assert account.held == binds
    assert good >= 0.9 * possible
    assert account.rejected <= 0.02 * good
    assert account.quotas.trusted


def test_rejections_took_nothing_and_those_sent_after_an_older_answer_are_not_yet_counted() -> None:
    quotas = Quotas()
    first = sent(quotas, 0.0, 10.0)
    quotas.learn(first, [Quota("requests", 100.0, 99.0, 0.6)], PATIENCE_S)
    for nth in range(1, 6):
        refused = sent(quotas, 0.1 * nth, 10.0)
        quotas.rejected(refused)
    last = sent(quotas, 1.0, 10.0)
    quotas.learn(last, [Quota("requests", 100.0, 98.0, 1.2)], PATIENCE_S)
    mirror = quotas.shown["requests"]
    assert mirror._last is not None
    assert mirror._last.total == 2.0, "two were admitted"
    older = sent_at(0.05, 1, 10.0)
    older.use = older.sent = (1.0, 10.0, 0.0)
    other = Quotas()
    other.sent, other._bad, other._rejected = quotas.sent, quotas._bad, quotas._rejected
    other.learn(older, [Quota("requests", 100.0, 99.0, 0.6)], PATIENCE_S)
    assert other.shown["requests"]._last is not None
    assert other.shown["requests"]._last.total == 1.0, "what was rejected after it is not taken off"


def test_what_a_rejected_request_wanted_and_the_quota_did_not_hold() -> None:
    quotas = Quotas()
    request = sent(quotas, 0.0, 500.0)
    shows = [Quota("requests", 100.0, 1.0, 1.0), Quota("tokens", 9_000.0, 499.0, 1.0)]
    quotas.learn(request, shows, PATIENCE_S)
    assert quotas.empty(request, shows)
    assert not quotas.empty(request, shows[:1]), "as much as it wants is enough"
    nearly = Quota("tokens", 9_000.0, 620.0, 1.0)
    assert quotas.empty(request, [nearly]), "what it wants is our estimate, a quarter more is as likely"
    assert not quotas.empty(request, [nearly._replace(remaining=630.0)])


def test_of_tokens_a_quarter_more_than_a_request_is_expected_to_take_has_to_be_left() -> None:
    quotas = Quotas()
    for nth, left in enumerate((3_120.0, 2_120.0, 1_120.0, 120.0)):
        for _ in range(10):
            request = sent(quotas, float(nth), 100.0)
        quotas.learn(request, [Quota("tokens", 9_000.0, left, 60.0)], PATIENCE_S)
    assert quotas.trusted
    assert quotas.wait_s(3.0, 90.0, 0.0)[0] == 0.0
    assert quotas.wait_s(3.0, 100.0, 0.0)[1] == "tokens", "120 of 125"


def tells(shown: Shown, lefts: list[float], *, limit: float = 600.0, each_s: float = 1.0) -> list[bool]:
    """One answer each second, ten requests apart, without a reset; whether the mirror is believed after each."""
    seen = []
    for left in lefts:
        before = shown._last
        at_s, total = (0.0, 0.0) if before is None else (before.at_s + each_s, before.total + 10)
        shown.told(at_s, total, 1.0, Quota("requests", limit, left, None))
        seen.append(shown.trusted)
    return seen


def test_a_mirror_is_believed_from_its_first_good_prediction_on_and_one_surprise_costs_little_of_that() -> (
    None
):
    shown = Shown()
    assert not shown.misleads, "it was not looked at yet"
    assert tells(shown, [500.0] * 20) == [False] + [True] * 19
    assert shown._rates[MINUTE] == 10.0, "a limit is named by the minute"
    assert tells(shown, [100.0]) == [True], "however far off it was"
    assert tells(shown, [500.0, 100.0]) == [True, False], "three in a row are too many"
    assert shown.misleads


def test_a_first_prediction_that_fails_counts_whole_and_the_mean_of_all_is_what_counts_then() -> None:
    assert tells(Shown(), [500.0, 100.0, *[100.0] * 5]) == [False] * 5 + [True] * 2


def test_what_comes_back_is_the_first_that_is_seen_and_then_a_mean_and_never_below_nothing() -> None:
    shown, seen = Shown(), []
    tells(shown, [600.0, 600.0], limit=60_000.0)
    assert shown._rates[SEEN] == 0.0, "some may have run over"
    for left in (595.0, 598.0, 548.0):
        tells(shown, [left], limit=60_000.0)
        seen.append(shown._rates[SEEN])
    assert seen == [5.0, 5.0 + (13 - 5) / 8, 6.0 - 6 / 8], "others may use it, too"
    tells(shown, [548.0], each_s=2.0)
    assert shown._rates[SEEN] == 5.25 + (5 - 5.25) / 8


def test_even_a_part_of_a_request_that_is_missing_is_waited_for() -> None:
    shown = Shown()
    shown.told(0.0, 0.0, 1.0, Quota("requests", 100.0, 10.0, 60.0))
    assert shown.wait_s(0.0, 9.0, 1.0) == 0.0
    assert shown.wait_s(0.0, 9.5, 1.0) == pytest.approx(0.5 / 1.5), "ninety come back in sixty seconds"
    assert shown.wait_s(59.9, 500.0, 1.0) == pytest.approx(0.1), "all is back by then"


def test_a_mirror_is_judged_after_eight_usual_requests_or_one_as_large_as_those() -> None:
    quotas, left, judged = Quotas(), 50_000.0, []
    for nth, size in enumerate([10.0] * 100 + [1_000.0]):
        left -= size
        shows = [Quota("requests", 600.0, 500.0 - nth, 60.0), Quota("tokens", 60_000.0, left, 60.0)]
        quotas.learn(sent(quotas, float(nth), size), shows, PATIENCE_S)  # type: ignore[arg-type]
        judged.append([quotas.shown[unit]._judged for unit in ("requests", "tokens")])  # type: ignore[index]
    assert [requests for requests, _ in judged] == [nth // 8 for nth in range(101)]
    assert judged[100][1] == judged[99][1] + 1


def test_where_nothing_has_to_be_waited_for_no_quota_is_named() -> None:
    account = Account(600.0, 1e9, 100.0)
    for _ in range(40):
        account.ask()
        account.step(0.03)
    assert account.quotas.trusted
    assert account.quotas.wait_s(account.now, 100.0, 0.0) == (0.0, None)
