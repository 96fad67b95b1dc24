"""What binds a run is seen while it goes: as events, in its numbers and in its report. Virtual clock."""

from __future__ import annotations

import asyncio
import itertools
import math
import re
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from langchain_openai import ChatOpenAI

from cottonpalm import AdaptiveConcurrency, BatchProcessor, Budget, Limits, RateLimit, clock
from cottonpalm.engine.monitor import Monitor
from cottonpalm.events import Binding, LimitChanged, Paused
from cottonpalm.testing import FlakyTransport, Flaw, virtual_run
from tests.engine.helpers import Watch
from tests.request.kit import a_run
from tests.support.lean import asks, run_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.observers.report import Report
    from cottonpalm.stats import Stats

MODEL = "api.openai.com/gpt-4o-mini"
SMALL = AdaptiveConcurrency(maximum=40)  # so that the rows last
KEY = "sk-0123456789abcdef"


class Provider(FlakyTransport):
    """Answers after about a second what `says(in flight)` gives; a rejection comes at once."""

    def __init__(self, says: Callable[[int], Any] = lambda _: None) -> None:
        super().__init__(then=lambda _: says(self.in_flight))
        self.in_flight, self._rng = 0, Random(1)

    async def handle_async_request(self, request: Any) -> Any:
        self.in_flight += 1
        try:
            answer = await super().handle_async_request(request)
            await asyncio.sleep(self._rng.uniform(0.5, 1.5) if answer.status_code == 200 else 0.05)
            return answer
        finally:
            self.in_flight -= 1


class Quota:
    """So many requests a minute, which come back evenly; every answer shows what is left."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute, self.rejected = per_minute, 0
        self._left, self._at_s = float(per_minute), 0.0

    def __call__(self, _: int) -> Any:
        now = clock.now()
        came_back = (now - self._at_s) * self.per_minute / 60
        self._left, self._at_s = min(self.per_minute, self._left + came_back), now
        status = 200 if self._left >= 1 else 429
        self._left -= status == 200
        self.rejected += status == 429
        return (status, self._headers())

    def _headers(self) -> dict[str, str]:
        return {
            "x-ratelimit-limit-requests": str(self.per_minute),
            "x-ratelimit-remaining-requests": str(int(self._left)),
            "x-ratelimit-reset-requests": f"{60 * (1 - self._left / self.per_minute):.3f}s",
        }


def seen(
    provider: Provider, rows: int, *, at_s: float = 20.0, cpu: Callable[[], float] | None = None, **more: Any
) -> tuple[Watch, Stats, Report]:
    """What an observer saw of a run, its numbers after so many virtual seconds, and its report."""
    watch = Watch()

    async def main() -> tuple[Watch, Stats, Report]:
        if cpu is not None:
            clock.replace(clock.now, clock.wall, cpu)
        client = httpx2.AsyncClient(transport=provider)
        processor = BatchProcessor(asks(client, KEY), **{"limits": Limits(), "observers": [watch], **more})
        async with processor.astart([f"row {n}" for n in range(rows)]) as run:
            then: list[Stats] = []
            asyncio.get_running_loop().call_later(at_s, lambda: then.append(run.stats))
            async for _ in run:
                pass
            return watch, then[0], run.report

    return virtual_run(main(), 1)


def bound(watch: Watch) -> list[tuple[str, str]]:
    return [(event.what, event.key) for event in watch.of(Binding)]


def test_a_limit_on_requests_in_flight_is_told_as_it_is_found() -> None:
    watch, stats, report = seen(Provider(lambda in_flight: 429 if in_flight > 25 else None), 1_500)
    limits = [event.limit for event in watch.of(LimitChanged)]
    assert limits[0] >= 10
    assert 23 <= limits[-1] <= 26
    assert ("concurrency", MODEL) in bound(watch)
    assert (stats.binding.what, stats.binding.key) in bound(watch), "what its numbers say was told"
    assert stats.pause_s == 0.0
    assert 20 <= stats.requests <= 25
    assert "limit on requests in flight" in report.bound_by[0]
    assert re.search(r"requests in flight: 2\d fit, found from \d+ rejections?\)\.$", report.bound_by[0])
    reasons = [event.why for event in watch.of(Binding) if event.what == "concurrency"]
    assert all(
        re.fullmatch(r"requests in flight: 2\d fit, found from \d+ rejections?", why) for why in reasons
    )
    assert report.bound_s["concurrency"] > 0.5 * report.wall_s


def test_ones_own_ceiling_is_told_from_a_limit_of_the_provider() -> None:
    watch, stats, report = seen(Provider(), 400, at_s=45, rate_limit=RateLimit(requests_per_minute=120))
    assert ("own requests", MODEL) in bound(watch)
    assert stats.binding.what == "own requests"
    assert "Your own ceiling of requests" in report.bound_by[0]
    assert report.bound_by[0].endswith("(your ceiling: 120 requests a minute).")


def test_a_provider_with_rate_limit_headers_is_seen_to_bind_by_its_quota() -> None:
    quota = Quota(300)
    _, stats, report = seen(Provider(quota), 500, at_s=30)
    assert stats.binding == Binding("requests", MODEL)
    assert re.match(r"requests per second: about [45]\.\d, as the headers show", stats.binding.why)
    assert report.bound_s["requests"] > 0.5 * report.wall_s
    assert quota.rejected <= 12, "what is shown is kept to, once it is seen to predict"


@pytest.mark.parametrize("step", [0, 7])
def test_headers_that_predict_nothing_hold_nobody_back(step: int) -> None:
    """One that accepts all, whatever its headers say, is not waited for."""
    headers = {"x-ratelimit-limit-requests": "60", "x-ratelimit-reset-requests": "60s"}
    left = itertools.count(7, step)

    def says(_: int) -> Any:
        return (200, headers | {"x-ratelimit-remaining-requests": str(next(left) % 61)})

    _, _, report = seen(Provider(says), 300, at_s=1)
    assert report.wall_s < 15


def test_headers_that_count_down_to_nothing_and_are_not_kept_to_are_waited_for_once() -> None:
    """They had predicted each answer up to then."""
    headers = {"x-ratelimit-limit-requests": "60", "x-ratelimit-reset-requests": "60s"}
    left = iter(range(60, -1, -1))

    def says(_: int) -> Any:
        return (200, headers | {"x-ratelimit-remaining-requests": str(next(left, 0))})

    _, _, report = seen(Provider(says), 1000, at_s=1)
    assert report.wall_s < 80


class SaysWhy(Provider):
    """Its rejections have words of their own."""

    async def handle_async_request(self, request: Any) -> Any:
        answer = await super().handle_async_request(request)
        body = {"error": {"message": f"No more\nrequests for {KEY} today. See https://example.com/limits."}}
        return answer if answer.status_code == 200 else httpx2.Response(answer.status_code, json=body)


def test_while_all_are_rejected_the_providers_own_words_are_told_without_its_keys() -> None:
    """Nobody else may know that the day's quota is what is used up, say."""
    answered = itertools.count(1)
    provider = SaysWhy(lambda _: None if next(answered) <= 20 or clock.now() > 60 else 429)
    watch, _, report = seen(provider, 100, at_s=1)
    told = "; it says: No more requests for [redacted] today. See https://example.com/limits"
    probes = [event.why for event in watch.of(Binding) if event.what == "probe"]
    assert probes
    assert all(why.endswith(told) for why in probes)
    assert any(told in sentence for sentence in report.bound_by)


def a_bucket(per_s: float, headers: dict[str, str]) -> Callable[[int], Any]:
    """It takes so many a second, twice as many at once, and names a wait; and it says something else."""
    level, at_s, most = 2 * per_s, 0.0, 2 * per_s

    def says(_: int) -> Any:
        nonlocal level, at_s
        level, at_s = min(most, level + per_s * (clock.now() - at_s)), clock.now()
        if level < 1:
            return (429, {**headers, "retry-after-ms": f"{1000 * (1 - level) / per_s:.0f}"})
        level -= 1
        return (200, headers)

    return says


@pytest.mark.parametrize("per_s", [4.0, 7.4, 8.2, 30.0])
@pytest.mark.parametrize("shown", [False, True])
def test_a_rate_that_is_found_is_told_with_what_it_was_found_from(per_s: float, shown: bool) -> None:
    """Headers that say something else are told to be of no use."""
    headers = {f"x-ratelimit-{name}-requests": "60" for name in ("limit", "remaining")} if shown else {}
    watch, _, report = seen(Provider(a_bucket(per_s, headers)), int(60 * per_s), at_s=1.0)
    words = r"requests per second: about ([\d.]+), found from \d+ rejections?"
    told = [event.why for event in watch.of(Binding) if event.what == "pace" and re.match(words, event.why)]
    assert told
    assert ("; the headers do not fit: not used" in " ".join(report.bound_by)) is shown
    assert float(re.match(words, told[-1])[1]) == pytest.approx(per_s, rel=0.25)  # type: ignore[index]
    found = re.search(rf"The rate at which .* \({words}", " ".join(report.bound_by))
    assert found is not None
    assert float(found[1]) == pytest.approx(per_s, rel=0.05)


def test_a_pause_is_told_with_the_seconds_that_are_left() -> None:
    def says(_: int) -> Any:
        return (429, {"retry-after": "30"}) if 5 <= clock.now() < 6 else None

    watch, stats, report = seen(Provider(says), 500, at_s=16, concurrency=SMALL)
    assert ("pause", MODEL) in bound(watch)
    assert stats.binding.what == "pause"
    assert 15 <= stats.pause_s <= 25
    assert any(sentence.startswith("Waits after rejections") for sentence in report.bound_by)


def test_where_waits_are_named_by_chance_only_those_keep_them_that_they_were_named_to() -> None:
    """One in 25 is rejected, however little is asked. All waited each time: two seconds for each of 80 of them."""
    watch, went, rng = Watch(), Counter[bytes](), Random(5)
    rejected: dict[bytes, float] = {}

    class Lottery(Provider):
        async def handle_async_request(self, request: Any) -> Any:
            body = request.content
            assert clock.now() - rejected.pop(body, -math.inf) >= 2.0, "it keeps its own wait"
            answer = await super().handle_async_request(request)
            if answer.status_code == 429:
                rejected[body] = clock.now()
            went[body] += answer.status_code == 200
            return answer

    says = Lottery(lambda _: (429, {"retry-after": "2"}) if rng.random() < 0.04 else None)
    client = httpx2.AsyncClient(transport=says)
    done = run_all(asks(client, KEY), [f"row {n}" for n in range(2_000)], observers=[watch])
    assert set(went.values()) == {1}
    assert len(went) == 2_000
    assert done.took_s < 120
    assert 0 < len(watch.of(Paused)) < 40, "only the first are taken for a limit"


def test_a_provider_that_does_not_work_is_told_from_one_that_asks_for_a_pause() -> None:
    def says(_: int) -> Any:
        return Flaw.DROP if 5 <= clock.now() < 120 else None

    watch, stats, report = seen(Provider(says), 500, at_s=100, concurrency=SMALL)
    assert ("down", MODEL) in bound(watch)
    assert stats.binding.what == "down"
    assert any(sentence.startswith("The provider did not work") for sentence in report.bound_by)


def test_money_that_has_to_be_waited_for_is_what_binds() -> None:
    budget = Budget(total=0.01, max_output_tokens=2_000, tighten=False)  # eight of them at once
    watch, stats, report = seen(Provider(), 200, budget=budget)
    assert ("budget", "") in bound(watch)
    assert stats.binding.what == "budget"
    assert "waited for money" in report.bound_by[0]


def test_a_ceiling_of_the_settings_is_told_from_what_the_provider_takes() -> None:
    _, stats, _ = seen(Provider(), 600, concurrency=AdaptiveConcurrency(initial=10, maximum=20))
    assert stats.binding == Binding("maximum", MODEL)


def test_where_our_own_cpu_binds_it_says_so_and_looks_for_no_higher_limit() -> None:
    watch, stats, report = seen(Provider(), 1_500, at_s=8.0, cpu=lambda: clock.now())  # noqa: PLW0108 - the clock of then
    free, _, _ = seen(Provider(), 1_500, at_s=1.0)
    assert stats.binding == Binding("cpu", "")
    told = [event for event in watch.events if isinstance(event, LimitChanged | Binding)]
    after = told[told.index(Binding("cpu", "")) :]
    assert not [event for event in after if isinstance(event, LimitChanged)], "it stays where it was"
    assert max(event.limit for event in watch.of(LimitChanged)) < 150
    assert max(event.limit for event in free.of(LimitChanged)) > 300
    assert "own CPU" in report.bound_by[0]


def test_the_keys_that_are_shown_tell_nothing_of_the_account() -> None:
    watch, stats, _ = seen(Provider(lambda in_flight: 429 if in_flight > 12 else None), 400)
    keys = {event.key for event in watch.events if isinstance(event, Binding | LimitChanged)}
    assert keys <= {"", MODEL}
    assert KEY not in repr(watch.events) + repr(stats)
    assert "#" not in repr(watch.events)


def test_a_run_that_waits_for_days_is_looked_at_rarely() -> None:
    """Its looks are counted by the steps of the loop: a day of two a second would be 170,000."""

    async def main() -> int:
        model = ChatOpenAI(
            model="gpt-4o-mini",
            api_key=KEY,
            http_async_client=httpx2.AsyncClient(transport=FlakyTransport(86_400.0)),
        )
        await BatchProcessor(model, limits=Limits(), timeout=100_000, stall_timeout=100_000).abatch(["row"])
        return asyncio.get_running_loop().steps  # type: ignore[attr-defined]

    assert virtual_run(main()) < 30_000


class AtWork:
    """Workers that have answered some more rows at each look, or none."""

    def __init__(self, more: int) -> None:
        self.answered, self._more = 0, more

    def binding(self, here: Binding) -> Binding:
        self.answered += self._more
        return here

    def limits(self) -> list[LimitChanged]:
        return []


@pytest.mark.parametrize(("more", "least", "most"), [(3, 115, 120), (0, 5, 15)], ids=["answered", "waiting"])
def test_a_run_at_workers_is_looked_at_twice_a_second_while_they_answer(
    more: int, least: int, most: int
) -> None:
    async def main() -> int:
        looks: list[None] = []
        monitor = Monitor(a_run(), lambda: "cap", lambda: looks.append(None))
        monitor.workers = AtWork(more)
        monitor.open(asyncio.get_running_loop())
        await asyncio.sleep(60)
        monitor.close()
        return len(looks)

    assert least <= virtual_run(main()) <= most
