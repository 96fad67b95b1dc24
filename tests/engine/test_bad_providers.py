"""Dead, hung and flapping providers, and limits that are shared: real model classes on a virtual clock."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import socket
from collections import Counter
from itertools import count
from random import Random
from statistics import mean
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

from cottonpalm import AdaptiveConcurrency, BatchProcessor, ConfigError, Limits
from cottonpalm import clock as clocks
from cottonpalm.events import Paused, Unreachable
from cottonpalm.providers.unreachable import proxy_of, where_unreachable
from cottonpalm.request.limiter.limiter import Limiter
from cottonpalm.request.limiter.rules.concurrency import Concurrency
from cottonpalm.request.limiter.rules.recovery import LONGEST_S
from cottonpalm.runtime.priority import AGE_S
from cottonpalm.runtime.wait_queue import Behind
from cottonpalm.testing import FlakyTransport, Flaw, virtual_run
from cottonpalm.types import Kind, Outcome, Verdict
from tests.support.lean import Went, asks, run_all

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from cottonpalm.runtime.wait_queue import Claim


class Provider(FlakyTransport):
    """Answers after a random latency what `says(clock)` gives, or `of(request)`; the virtual clock starts at 0."""

    def __init__(
        self,
        says: Callable[[float], Any],
        seed: int = 1,
        sigma: float = 0.6,
        of: Callable[[Any], Any] | None = None,
        scale: float = 1.0,
    ) -> None:
        super().__init__(then=of or (lambda _: says(clocks.now())))
        self.rng, self.sigma, self.scale = Random(seed), sigma, scale

    async def handle_async_request(self, request: Any) -> Any:
        await asyncio.sleep(self.scale * self.rng.lognormvariate(-0.5, self.sigma))
        return await super().handle_async_request(request)


def number_in(request: Any) -> int:
    """The number of the row that a request is about."""
    return int(json.loads(request.content)["messages"][0]["content"].split()[-1])


def chain_on(provider: Provider, **more: Any) -> Any:
    client = httpx2.AsyncClient(transport=provider)
    model = ChatOpenAI(model="gpt-4o-mini", api_key="sk-not-a-key", http_async_client=client, **more)
    return ChatPromptTemplate.from_template("say {x}") | model | StrOutputParser()


class Told:
    """An observer that keeps the pauses it was told of."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def see(self, event: Any) -> None:
        if isinstance(event, Paused):
            self.pauses.append(event.seconds)


def lean_on(provider: Provider) -> Any:
    """The same requests without an SDK."""
    client = httpx2.AsyncClient(transport=provider)
    return asks(client, "sk-not-a-key", says=lambda row: f"say {row['x']}")


def go(provider: Provider, rows: int, *, on: Any = lean_on, **more: Any) -> Went:
    """Run so many rows against it."""
    return run_all(on(provider), [{"x": n} for n in range(rows)], **more)


def test_a_provider_that_accepts_nothing_stops_the_run_and_fails_no_row() -> None:
    provider = Provider(lambda _: 429)
    outcomes, stopped, seconds = go(provider, 50)
    assert stopped is not None
    assert stopped.reason == "stalled"
    assert "no request was accepted for" in str(stopped)
    assert "(the last failure: scripted 429)" in str(stopped)
    assert not [outcome for outcome in outcomes if outcome.status == "failed"]
    assert 900 <= seconds <= 1_000


def test_a_wait_that_was_announced_is_no_stall_but_announcing_it_again_and_again_is() -> None:
    once = Provider(lambda age: (429, {"retry-after": str(int(7_200 - age) + 1)}) if age < 7_200 else None)
    outcomes, stopped, _ = go(once, 30)
    assert stopped is None
    assert {outcome.status for outcome in outcomes} == {"ok"}
    for_ever = Provider(lambda _: (429, {"retry-after": "60"}))
    _, stopped, seconds = go(for_ever, 30)
    assert stopped is not None
    assert stopped.reason == "stalled"
    assert 960 <= seconds <= 1_100


def test_a_stall_counts_only_time_in_which_something_is_asked() -> None:
    async def main() -> list[Outcome]:
        async def slow_rows() -> Any:
            for n in range(3):
                yield {"x": n}
                await asyncio.sleep(5_000)

        processor = BatchProcessor(chain_on(Provider(lambda _: None)), stall_timeout=700, timeout=5)
        async with processor.astart(slow_rows()) as run:
            return [outcome async for outcome in run]

    assert [outcome.status for outcome in virtual_run(main(), 1)] == ["ok"] * 3


def test_a_stall_counts_no_time_in_which_the_process_was_stopped_or_its_machine_slept() -> None:
    def stand() -> None:
        asyncio.get_running_loop()._now += 5_000  # type: ignore[attr-defined]

    def says(_: float) -> None:
        if len(provider.requests) == 40:
            asyncio.get_running_loop().call_later(0.01, stand)

    provider = Provider(says)
    outcomes, stopped, seconds = go(provider, 200)
    assert stopped is None
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert len(provider.requests) == 200, "what was in flight is not asked again"
    assert seconds > 5_000


def test_a_dead_provider_fails_no_row_wastes_few_calls_and_is_asked_again_when_it_lives() -> None:
    dead_for = 400.0
    provider = Provider(lambda age: Flaw.DROP if 5 < age < dead_for else None)
    told = Told()
    limits = AdaptiveConcurrency(10, 1, 40)
    outcomes, stopped, _ = go(provider, 1_500, observers=[told], concurrency=limits)
    assert stopped is None
    assert {outcome.status for outcome in outcomes} == {"ok"}
    wasted = len(provider.requests) - 1_500
    assert 20 <= wasted <= 40 + 20 + 40, "those in flight when it died, twenty more, and one probe at a time"
    assert told.pauses, "the pauses are announced"
    assert max(told.pauses) == LONGEST_S


def test_few_rows_on_a_dead_provider_fail_with_their_own_tries() -> None:
    outcomes, stopped, seconds = go(Provider(lambda _: Flaw.DROP), 5)
    assert stopped is None
    assert [outcome.error.kind for outcome in outcomes if outcome.error] == [Kind.TRANSIENT] * 5
    assert {outcome.attempts for outcome in outcomes} == {4}
    assert seconds < 60


def test_a_provider_that_flaps_is_never_given_up() -> None:
    took = []
    for seed in range(8):
        rng = Random(seed)
        provider = Provider(lambda _, rng=rng: rng.choice([None, 503, Flaw.DROP]))
        outcomes, stopped, seconds = go(provider, 300, retry=20)
        assert stopped is None
        assert {outcome.status for outcome in outcomes} == {"ok"}
        took.append(seconds)
    assert mean(took) < 1_100, "no pace is its reason, so it does not get slower and slower"
    assert sum(seconds >= 1_800 for seconds in took) <= 1, "one of thirty does, by chance"


class Draining(FlakyTransport):
    """Down for ten of the first hundred-odd seconds' every forty: refuses what is new, answers what it has begun."""

    def __init__(self) -> None:
        super().__init__(then=lambda _: None)
        self.rng, self.sent = Random(1), list[float]()

    async def handle_async_request(self, request: Any) -> Any:
        now = clocks.now()
        self.sent.append(now)
        if now % 40 >= 30 and now < 120:
            self._steps = iter([Flaw.DROP])
        else:
            await asyncio.sleep(self.rng.uniform(1, 5))
        return await super().handle_async_request(request)


def test_a_provider_that_goes_down_and_comes_back_fails_no_row_and_is_soon_used_again() -> None:
    provider = Draining()
    outcomes, stopped, _ = go(provider, 900, concurrency=AdaptiveConcurrency(10, 1, 30))
    assert stopped is None
    assert {outcome.status for outcome in outcomes} == {"ok"}
    back = [min(at for at in provider.sent if at >= turn) - turn for turn in (40, 80, 120)]
    assert max(back) <= 10 / 3 + 1, (
        "each wait is a third longer: no later than a third of an outage, and a second"
    )
    wasted = len(provider.sent) - 900
    assert wasted <= 3 * (20 + 7), "twenty until the circuit opens, then probes, some seven in ten seconds"


class ComingAndGoing(FlakyTransport):
    """Takes twelve at once, and is down for a third of each of six minutes: then it cuts connections at once."""

    def __init__(self) -> None:
        super().__init__(then=lambda _: None)
        self.rng, self.in_flight, self.minutes = Random(7), 0, Counter[int]()

    async def handle_async_request(self, request: Any) -> Any:
        if clocks.now() % 60 >= 40 and clocks.now() < 360:
            self._steps = iter([Flaw.DROP])
        elif self.in_flight >= 12:
            self._steps = iter([429])
        else:
            self.in_flight += 1
            await asyncio.sleep(self.rng.lognormvariate(0.7, 0.4))
            self.in_flight -= 1
            self.minutes[int(clocks.now() // 60)] += 1
        return await super().handle_async_request(request)


def test_outages_leave_what_was_found_of_the_number_and_fail_no_row() -> None:
    provider = ComingAndGoing()
    outcomes, stopped, seconds = go(provider, 1_200)
    assert stopped is None
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert provider.minutes[4] >= 0.75 * provider.minutes[1], (
        "the fifth minute is about as good as the second"
    )
    assert seconds < 360, "it was asked again soon each time"


@pytest.mark.parametrize(("most", "rows"), [(2, 200), (4, 400), (8, 1_200)])
@pytest.mark.parametrize("step", [500, Flaw.DROP])
def test_outages_fail_no_row_where_few_may_be_in_flight_and_leave_their_number(
    most: int, rows: int, step: int | Flaw
) -> None:
    provider = Provider(lambda age: step if age % 60 >= 40 else None)  # as late as it answers
    outcomes, stopped, seconds = go(provider, rows, concurrency=most)
    assert stopped is None
    assert {outcome.status for outcome in outcomes} == {"ok"}
    works_s = rows / most * 0.75
    assert seconds <= works_s + (works_s // 40) * 28, "twenty seconds each, and not much more"


class Frozen(FlakyTransport):
    """Takes thirty at once; what is under way at 60 s, or sent soon after, is never answered, and holds no place."""

    def __init__(self, for_s: float = 0.0) -> None:
        super().__init__(then=lambda _: None)
        self.rng, self.in_flight, self.most, self.for_s = Random(3), 0, 0, for_s
        self._under_way = 0

    async def handle_async_request(self, request: Any) -> Any:
        self._under_way += 1
        self.most = max(self.most, self._under_way)
        try:
            return await self._answer(request)
        finally:
            self._under_way -= 1

    async def _answer(self, request: Any) -> Any:
        began = clocks.now()
        if 60 <= began < 60 + self.for_s:
            await asyncio.sleep(1e6)
        if self.in_flight >= 30:
            self._steps = iter([429])
            return await super().handle_async_request(request)
        self.in_flight += 1
        await asyncio.sleep(self.rng.lognormvariate(0.7, 0.4))
        self.in_flight -= 1
        if began < 60 <= clocks.now():
            await asyncio.sleep(1e6)
        return await super().handle_async_request(request)


@pytest.mark.parametrize("for_s", [0.0, 20.0, 60.0])
def test_where_all_in_flight_hang_at_once_their_copies_do_not_wait_for_their_places(for_s: float) -> None:
    outcomes, stopped, seconds = go(Frozen(for_s), 1_500)
    assert stopped is None
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert seconds < 1_500 / 30 * 2.2 + 1.5 * for_s + 40, "a timeout takes ten minutes"


@pytest.mark.parametrize("for_s", [0.0, 60.0])
def test_where_no_more_may_be_in_flight_a_copy_takes_the_place_of_one_that_hangs(for_s: float) -> None:
    provider = Frozen(for_s)
    outcomes, stopped, seconds = go(provider, 300, concurrency=4)
    assert stopped is None
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert provider.most == 4
    assert seconds < 300 / 4 * 2.2 + 1.5 * for_s + 80


def test_the_last_few_rows_that_fail_for_themselves_make_a_run_no_more_than_twice_as_long() -> None:
    provider = Provider(lambda _: None, of=lambda request: 500 if number_in(request) >= 200 else None)
    outcomes, stopped, seconds = go(provider, 208, concurrency=4)
    assert stopped is None
    assert Counter(outcome.status for outcome in outcomes) == {"ok": 200, "failed": 8}
    assert seconds <= 2 * 45 + 13, "and a last wait"


@pytest.mark.parametrize(
    ("many", "expected"),
    [
        (math.inf, ["high", "low", "probe", "later"]),  # and not behind all who come
        (1, ["high", "probe", "low", "later"]),
        (2, ["high", "low", "probe", "later"]),
    ],
)
def test_a_probe_that_failed_goes_behind_so_many_of_those_who_wait(many: float, expected: list[str]) -> None:
    async def main() -> list[str]:
        limiter = Limiter("key", Concurrency(1, 1, 1))
        held, order = await limiter.aacquire(), list[str]()

        async def wait(name: str, claim: Claim) -> None:
            permit = await limiter.aacquire(claim)
            order.append(name)
            limiter.release(permit, Verdict.SUCCESS)

        async with asyncio.TaskGroup() as group:
            for name, priority in (("low", -1), ("high", 5)):
                group.create_task(wait(name, priority))
                await asyncio.sleep(0.1)
            group.create_task(wait("probe", Behind(many, 9)))
            await asyncio.sleep(AGE_S + 1)
            group.create_task(wait("later", 0))
            await asyncio.sleep(0.1)
            limiter.release(held, Verdict.SUCCESS)
        return order

    assert virtual_run(main()) == expected


@pytest.mark.parametrize(
    ("step", "fails", "most_s"),
    [(500, 1, 60), (500, 2, 180), (Flaw.DROP, 1, 150), (503, 1, 150), (429, 1, 900)],
)
def test_a_provider_that_fails_each_row_at_first_and_answers_it_then_answers_all(
    step: Any, fails: int, most_s: float
) -> None:
    seen = Counter[int]()

    def at_first(request: Any) -> Any:
        seen[number_in(request)] += 1
        return step if seen[number_in(request)] <= fails else None

    outcomes, stopped, seconds = go(Provider(lambda _: None, of=at_first), 100)
    assert stopped is None
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert set(seen.values()) == {fails + 1}, "nobody is asked more often than that"
    assert seconds < most_s


def test_rows_that_are_always_rejected_keep_nobody_else_from_being_asked() -> None:
    poison = 20

    def choosy(request: Any) -> Any:
        return 429 if number_in(request) < poison else None

    outcomes, stopped, _ = go(Provider(lambda _: None, of=choosy), 1_000)
    assert stopped is None or stopped.reason == "stalled", (
        "nobody can tell who is to blame when only they are left"
    )
    counts = Counter(outcome.status for outcome in outcomes)
    assert counts["ok"] == 1_000 - poison
    assert counts["failed"] + counts["skipped"] == poison


@pytest.mark.parametrize("outage", [None, (1.0, 20.0, 503)])
@pytest.mark.parametrize("seed", [3, 8])
def test_one_row_in_ten_that_always_fails_takes_no_other_with_it(
    seed: int, outage: tuple[float, float, int] | None
) -> None:
    rows, rng = 1_500, Random(seed)
    bad = {n: rng.choice([429, 500, 503]) for n in range(rows) if rng.random() < 0.1}

    def choosy(request: Any) -> Any:
        if outage is not None and outage[0] <= clocks.now() < outage[0] + outage[1]:
            return outage[2]
        return bad.get(number_in(request))

    outcomes, stopped, _ = go(Provider(lambda _: None, of=choosy, seed=seed), rows)
    assert stopped is None
    assert {outcome.index for outcome in outcomes if outcome.status == "failed"} == set(bad)
    assert sum(outcome.status == "ok" for outcome in outcomes) == rows - len(bad)


def test_many_rows_that_always_break_something_fail_and_are_no_dead_provider() -> None:
    def choosy(request: Any) -> Any:
        return 500 if number_in(request) % 10 == 5 else None

    outcomes, stopped, took_s = go(Provider(lambda _: None, of=choosy), 3_000)
    assert stopped is None
    assert Counter(outcome.status for outcome in outcomes) == {"ok": 2_700, "failed": 300}
    assert took_s < 4 * 60 + 30, "three tries more, at the longest backoff"


@pytest.mark.parametrize("answers_s", [0.2, 2.0])
def test_rows_that_are_always_rejected_fail_beside_the_others_and_slow_nobody(answers_s: float) -> None:
    rows = 1_500

    def time_s(of: Callable[[Any], Any]) -> tuple[Counter[str], float, float]:
        """How rows ended, and after how many seconds the last answer and the last row."""
        answered_s = [0.0]

        def says(request: Any) -> Any:
            if (said := of(request)) is None:
                answered_s[0] = clocks.now()
            return said

        outcomes, stopped, took_s = go(Provider(lambda _: None, of=says, scale=answers_s), rows)
        assert stopped is None
        return Counter(outcome.status for outcome in outcomes), answered_s[0], took_s

    def choosy(request: Any) -> Any:
        return 429 if number_in(request) % 100 == 50 else None

    _, plain_s, _ = time_s(lambda _: None)
    counts, answered_s, took_s = time_s(choosy)
    assert counts == {"ok": rows * 99 // 100, "failed": rows // 100}
    assert answered_s <= 1.25 * plain_s + 2.0
    assert took_s - answered_s <= 20 * LONGEST_S / 2 + 30, "their own backoff, one beside the other"


def test_calls_that_are_never_answered_cost_little_once_it_is_known_how_long_answers_take() -> None:
    def time_s(seed: int, every: int) -> float:
        taken, asked = Counter[int](), count(1)

        def says(age: float) -> Any:
            taken[int(age)] += 1
            if taken[int(age)] > 20:  # a second's quota
                return 429, {"retry-after-ms": str(int(1000 * (1 - age % 1)) + 1)}
            return Flaw.STALL if every and next(asked) % every == 0 else None

        outcomes, stopped, took_s = go(Provider(says, sigma=0.3, seed=seed), 1_600)
        assert stopped is None
        assert {outcome.status for outcome in outcomes} == {"ok"}
        return took_s

    without, hung = (
        sum(time_s(seed, every) for seed in range(2)) for every in (0, 50)
    )  # one differs by a fifth
    assert hung <= 1.2 * without, (hung, without)


def in_flight_together(first: dict[str, Any], second: dict[str, Any]) -> int:
    """The most requests that two processors on one provider had in flight at once."""
    peak = now = 0

    class Counting(Provider):
        async def handle_async_request(self, request: Any) -> Any:
            nonlocal peak, now
            now += 1
            peak = max(peak, now)
            try:
                return await super().handle_async_request(request)
            finally:
                now -= 1

    async def main() -> None:
        chain = chain_on(Counting(lambda _: None))
        rows = [{"x": n} for n in range(60)]
        async with asyncio.TaskGroup() as group:
            group.create_task(BatchProcessor(chain, **first).abatch(rows))
            group.create_task(BatchProcessor(chain, **second).abatch(rows))

    virtual_run(main(), 1)
    return peak


def test_processors_share_the_limit_of_what_it_protects() -> None:
    same = AdaptiveConcurrency(4, 1, 4)
    assert in_flight_together({"concurrency": same}, {"concurrency": same}) == 4
    mine, yours = Limits(), Limits()
    apart = {"concurrency": same, "limits": mine}, {"concurrency": same, "limits": yours}
    assert in_flight_together(*apart) == 8
    together = {"concurrency": same, "limits": mine}
    assert in_flight_together(together, together) == 4
    assert in_flight_together({"concurrency": 4}, {"concurrency": 4}) == 8, "a number is private"


def test_what_was_learnt_is_forgotten_with_the_last_processor_that_used_it() -> None:
    chain = chain_on(Provider(lambda _: None))
    processor = BatchProcessor(chain)
    kept = processor._builder.accounts.limiters_for(None)
    assert BatchProcessor(chain)._builder.accounts.limiters_for(None) is kept
    name = repr(kept)
    del processor, kept
    gc.collect()
    fresh = BatchProcessor(chain)._builder.accounts.limiters_for(None)
    assert repr(fresh) == name
    assert not list(fresh)


def test_a_run_can_be_paused_resumed_and_capped_while_it_goes() -> None:
    async def main() -> list[int]:
        provider, seen = Provider(lambda _: None), []
        processor = BatchProcessor(chain_on(provider), concurrency=AdaptiveConcurrency(20, 1, 20))
        async with processor.astart([{"x": n} for n in range(200)]) as run:
            done = 0
            async for _ in run:
                done += 1
                if done == 40:
                    run.pause()
                    await asyncio.sleep(2_000)
                    seen.append(run.stats.in_flight)
                    before = len(provider.requests)
                    await asyncio.sleep(2_000)
                    seen.append(len(provider.requests) - before)
                    run.resume()
                if done == 80:
                    run.limit = 2
                    await asyncio.sleep(10)
                    seen.append(run.stats.in_flight)
                    assert run.limit == 2
                    run.limit = None
            seen.append(done)
        return seen

    assert virtual_run(main(), 1) == [0, 0, 2, 200]


def test_a_limit_that_is_no_number_is_refused() -> None:
    with BatchProcessor(chain_on(Provider(lambda _: None))).start([{"x": 1}]) as run:
        with pytest.raises(ConfigError, match="limit=0"):
            run.limit = 0
        run.abort()
    with pytest.raises(ConfigError, match="limits="):
        BatchProcessor(chain_on(Provider(lambda _: None)), limits=7)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="stall_timeout"):
        BatchProcessor(chain_on(Provider(lambda _: None)), stall_timeout=0)


class Nobody(Provider):
    """A host where nobody listens, as the HTTP library tells it, until it `answers`."""

    def __init__(self, error: OSError, answers: Callable[[float], bool] = lambda _: False) -> None:
        super().__init__(lambda _: None)
        self.error, self.answers_at, self.asked = error, answers, 0

    async def handle_async_request(self, request: Any) -> Any:
        self.asked += 1
        await asyncio.sleep(0.01)
        if self.answers_at(clocks.now()):
            return await super().handle_async_request(request)
        try:
            raise OSError("All connection attempts failed") from ExceptionGroup("", [self.error, self.error])
        except OSError as error:
            raise httpx2.ConnectError(str(error), request=request) from error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "connection refused at api.openai.com"),
        (socket.gaierror(-2, "Name or service not known"), "unknown host at api.openai.com"),
    ],
)
def test_where_nobody_ever_answered_the_run_stops_after_a_minute_and_says_why(
    error: OSError, words: str
) -> None:
    provider = Nobody(error)
    _, stopped, seconds = go(provider, 500)
    assert stopped is not None
    assert stopped.reason == "stalled"
    assert f"nobody ever answered: {words} for " in str(stopped)
    assert "check base_url" in str(stopped)
    assert 60 <= seconds <= 65
    assert provider.asked < 200


@pytest.mark.parametrize("http", [httpx, httpx2])
@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
def test_of_either_library_s_clients_it_is_known_by_which_proxy_they_send(
    monkeypatch: pytest.MonkeyPatch, http: ModuleType, kind: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@gate:3128")
    monkeypatch.setenv("NO_PROXY", "near.example")
    make, url = getattr(http, kind), http.URL
    assert proxy_of(make(), url("https://far.example/v1")) == "gate:3128"
    assert proxy_of(make(), url("https://near.example/v1")) is None
    assert proxy_of(make(trust_env=False), url("https://far.example/v1")) is None
    assert proxy_of(make(proxy="http://own"), url("http://near.example/v1")) == "own"
    assert proxy_of(None, url("https://far.example/v1")) is None


def test_a_proxy_that_refuses_is_named_in_place_of_the_server() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: refused
        place = f"127.0.0.1:{nobody.getsockname()[1]}"
        client = httpx2.AsyncClient(proxy=f"http://me:secret@{place}")
        model = ChatOpenAI(model="m", api_key="k", http_async_client=client)  # type: ignore[arg-type]
        processor = BatchProcessor(model, retry=0, limits=Limits())
        with processor.start(["a"]) as run:
            [outcome] = run
    assert outcome.status == "failed"
    assert run.stats.trouble == f"connection refused at the proxy {place}"
    assert run.stats.unreached == "proxy"


def test_what_the_server_said_of_tls_is_not_the_proxy_s_doing() -> None:
    assert where_unreachable("no TLS", "far:443", "gate:3128") == "no TLS at far:443, by the proxy gate:3128"
    assert where_unreachable("unknown host", "far:443", "gate:3128") == "unknown host at the proxy gate:3128"


def test_a_server_that_comes_up_within_the_minute_is_waited_for() -> None:
    _, stopped, _ = go(Nobody(ConnectionRefusedError(111, "x"), lambda age: age > 50), 100)
    assert stopped is None


def test_a_server_that_answered_once_is_waited_for_longer_than_a_minute() -> None:
    gone = Nobody(ConnectionRefusedError(111, "x"), lambda age: age < 0.5 or age > 200)
    outcomes, stopped, _ = go(gone, 300, concurrency=4, retry=20)
    assert stopped is None
    assert sum(outcome.status == "ok" for outcome in outcomes) == 300


@pytest.mark.parametrize(("most", "rows"), [(1, 60), (4, 220)])
def test_a_server_that_nobody_can_reach_fails_none_of_the_last_few_rows(most: int, rows: int) -> None:
    gone = Nobody(ConnectionRefusedError(111, "x"), lambda age: age < 30 or age > 400)
    outcomes, stopped, seconds = go(gone, rows, concurrency=most)
    assert stopped is None
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert seconds < 450
    left = Nobody(ConnectionRefusedError(111, "x"), lambda age: age < 30)
    outcomes, stopped, seconds = go(left, rows, concurrency=most)
    assert stopped is not None
    assert stopped.reason == "stalled"
    assert {outcome.status for outcome in outcomes} == {"ok", "skipped"}, "still to be done"
    assert 900 <= seconds <= 1_000


@pytest.mark.parametrize("back", [0, 1])
def test_where_no_endpoint_can_be_reached_all_rows_wait_for_the_first_that_is_back(back: int) -> None:
    def at(number: int) -> Any:
        returns = 120 if number == back else math.inf
        nobody = Nobody(ConnectionRefusedError(111, "x"), lambda age: age < 10 or age > returns)
        client, url = httpx2.AsyncClient(transport=nobody), f"https://server-{number}.example/v1"
        return asks(client, "sk-not-a-key", url=url, says=lambda row: f"say {row['x']}")

    rows = [{"x": number} for number in range(220)]
    outcomes, stopped, seconds = run_all(at(0), rows, replicas=[at(1)], concurrency=8)
    assert stopped is None
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert seconds < 180


def test_a_server_that_nobody_can_reach_keeps_no_row_from_its_other_chain() -> None:
    gone = Nobody(ConnectionRefusedError(111, "x"), lambda age: age < 30)
    other = lean_on(Provider(lambda _: "of the other"))
    outcomes, stopped, seconds = go(gone, 60, concurrency=1, fallbacks=[other])
    assert stopped is None
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert outcomes[-1].output == "of the other"
    assert seconds < 200


@pytest.mark.parametrize(("most", "rows"), [(4, 400), (30, 1_500)])
def test_an_address_that_was_found_before_and_is_not_for_a_while_fails_no_row(most: int, rows: int) -> None:
    provider = Provider(lambda age: 404 if 30 < age < 55 else None)
    outcomes, stopped, seconds = go(provider, rows, concurrency=most)
    assert stopped is None
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert seconds < 90 + rows / most


def test_a_row_alone_that_is_not_found_fails_after_its_tries() -> None:
    provider = Provider(lambda _: None, of=lambda request: 404 if number_in(request) == 50 else None)
    outcomes, stopped, _ = go(provider, 100, concurrency=4)
    assert stopped is None
    assert [(each.index, each.attempts) for each in outcomes if each.status == "failed"] == [(50, 4)]


def test_the_reason_is_told_from_the_first_failure_on_and_withdrawn_when_somebody_answers() -> None:
    reasons: list[str] = []

    class Listening:
        def see(self, event: Any) -> None:
            if isinstance(event, Unreachable):
                reasons.append(f"{event.reason} after {clocks.now():.0f} s")

    provider = Nobody(ConnectionRefusedError(111, "x"), lambda age: age > 20)

    async def main() -> tuple[str, str]:
        processor = BatchProcessor(chain_on(provider), limits=Limits(), observers=[Listening()])
        async with processor.astart([{"x": n} for n in range(50)]) as run:
            await asyncio.sleep(1)
            early = run.stats.trouble
            async for _ in run:
                pass
        return early, run.stats.trouble

    assert virtual_run(main()) == ("connection refused at api.openai.com", "")
    assert reasons == ["connection refused at api.openai.com after 0 s"]


def test_a_wait_that_the_provider_names_to_one_processor_is_kept_by_another_with_a_number() -> None:
    """The second one comes while the wait lasts, the third meanwhile but apart, in limits of its own."""

    async def main() -> tuple[float, float]:
        waits = [(429, {"retry-after": "100"})]
        provider = Provider(lambda _: waits.pop() if waits else None)
        shared = Limits()

        async def asked(limits: Limits, **more: Any) -> float:
            await BatchProcessor(lean_on(provider), limits=limits, hedge=False, **more).abatch([{"x": 1}])
            return clocks.now()

        async def later(limits: Limits, **more: Any) -> float:
            await asyncio.sleep(50)
            return await asked(limits, **more)

        _, kept, apart = await asyncio.gather(
            asked(shared), later(shared, concurrency=1), later(Limits(), concurrency=1)
        )
        return kept, apart

    kept, apart = virtual_run(main(), 1)
    assert kept >= 100
    assert apart < 100
