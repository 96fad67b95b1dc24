"""Rules that bite seldom: when an answer may be billed, who waits how long, and whose request is whose."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import zlib
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest

from cottonpalm import Limits, clock
from cottonpalm.config import AdaptiveConcurrency, RetryPolicy
from cottonpalm.protocols import Spent
from cottonpalm.providers.answer import read_bytes
from cottonpalm.providers.paths import family_of, model_in
from cottonpalm.request.attempt.reservation import Reservation
from cottonpalm.request.attempt.settlement import _used
from cottonpalm.request.limiter.limiter import Limiter
from cottonpalm.request.limiter.portions import InFlight
from cottonpalm.request.limiter.rules.came_through import RECENT, CameThrough
from cottonpalm.request.limiter.rules.concurrency import Concurrency
from cottonpalm.request.money.ledger import Ledger
from cottonpalm.request.money.rules.amounts import Amounts
from cottonpalm.request.money.rules.grants import Ask
from cottonpalm.request.money.rules.prices import PriceBook
from cottonpalm.request.money.spending import Spending
from cottonpalm.request.transport.hook import _call
from cottonpalm.request.transport.stream_reader import _unpacker
from cottonpalm.stores.memory import MemoryStore
from cottonpalm.stores.rules.known import HALF_S
from cottonpalm.testing import virtual_run
from cottonpalm.types import PICO, Learnt, Verdict
from tests.request.test_attempts import GOOD, a_call, a_hand, answer
from tests.request.test_streams import WHOLE, _sse, through_a_stream

if TYPE_CHECKING:
    from types import ModuleType

pytestmark = pytest.mark.core


@pytest.mark.parametrize("status", [408, 499, 502, 504, 520, 522, 524])
def test_an_answer_that_somebody_on_the_way_gave_up_on_may_have_been_billed(status: int) -> None:
    hand = a_hand(
        answer(status, {}),
        call=a_call(max_tokens=10),
        ledger=Ledger(PICO),
        prices=PriceBook({"gpt-4o-mini": (1.0, 1.0)}),
        retry=RetryPolicy(retries=0),
    )
    hand.run()
    assert hand.row.run.spending.uncertain > 0
    assert hand.row.run.spending.reported == 0


@pytest.mark.parametrize("status", [500, 503, 521, 523])
def test_an_answer_of_a_server_that_did_nothing_costs_nothing(status: int) -> None:
    hand = a_hand(
        answer(status, {}),
        call=a_call(max_tokens=10),
        ledger=Ledger(PICO),
        prices=PriceBook({"gpt-4o-mini": (1.0, 1.0)}),
        retry=RetryPolicy(retries=0, rejections=1, count_all=True),
    )
    hand.run()
    assert hand.row.run.spending.uncertain == 0


def test_with_no_retry_left_to_the_run_not_all_wait_the_same_time() -> None:
    policy = RetryPolicy(base_s=1.0, cap_s=60.0, allowance_share=0.0, allowance_floor=0)
    waits = set()
    random.seed(5)
    for _ in range(8):
        hand = a_hand(answer(500, {}), answer(), retry=policy)
        hand.generator.send(None)
        hand.generator.send(hand.limiter.force())
        step, seconds = hand.generator.send(answer(500, {}))
        assert step == "sleep"
        assert 0.5 <= seconds <= 1.0, "until it looks whether the provider answers again"
        waits.add(seconds)
        hand.generator.close()
    assert len(waits) == 8


ARNS = [
    (
        "/model/arn:aws:bedrock:us-east-1:12:inference-profile/us.anthropic.claude-sonnet-4-v1:0/invoke",
        "us.anthropic.claude-sonnet-4-v1:0",
    ),
    ("/model/arn:aws:bedrock:us-east-1:12:application-inference-profile/ab12/invoke", "ab12"),
    ("/model/arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-v2/invoke", "anthropic.claude-v2"),
    ("/model/anthropic.claude-3-haiku-20240307-v1:0/invoke", "anthropic.claude-3-haiku-20240307-v1:0"),
]


@pytest.mark.parametrize(("path", "model"), ARNS)
def test_an_arn_of_bedrock_names_its_own_model(path: str, model: str) -> None:
    assert model_in(path) == model
    assert family_of(path) is not None


@pytest.mark.parametrize(("path", "model"), ARNS)
def test_the_same_holds_for_the_path_as_it_goes_over_the_wire(path: str, model: str) -> None:
    wire = path.replace(":", "%3A")
    head, _, tail = wire.removeprefix("/model/").rpartition("/")
    url = "https://bedrock-runtime.us-east-1.amazonaws.com/model/" + head.replace("/", "%2F") + "/" + tail
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
    call = _call(httpx2.Request("POST", url, json=body))
    assert call is not None
    assert call.model == model


def test_an_end_mark_inside_the_text_of_an_answer_is_only_text() -> None:
    said = '{"choices":[{"index":0,"delta":{"content":"data: [DONE]"},"finish_reason":null}]}'
    whole = _sse(said, *WHOLE)
    for pieces in ([whole], [whole[n : n + 9] for n in range(0, len(whole), 9)], [_sse(said), _sse(*WHOLE)]):
        row, read = through_a_stream(pieces)
        assert read == whole
        assert row.usage.input_tokens == 5, "read to its real end"


def test_a_server_that_waits_after_a_quoted_end_mark_is_waited_for() -> None:
    said = '{"choices":[{"index":0,"delta":{"content":"data: [DONE]"},"finish_reason":null}]}'

    class Body(httpx2.AsyncByteStream):
        async def __aiter__(self) -> Any:
            yield _sse(said)
            await asyncio.sleep(30.0)
            yield _sse(*WHOLE)

    from cottonpalm.request.row_account import ROW, RowAccount
    from tests.request.kit import a_run

    async def main() -> bytes:
        ROW.set(RowAccount(a_run(timeout_s=600.0), 0))
        transport = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=Body()))
        async with httpx2.AsyncClient(transport=transport, timeout=None) as client:
            body = {"model": "m", "messages": [], "stream": True}
            async with client.stream("POST", "http://x/v1/chat/completions", json=body) as response:
                return await response.aread()

    assert virtual_run(main()) == _sse(said, *WHOLE)


def test_an_even_pace_after_a_resume_goes_by_what_a_request_costs_now() -> None:
    """What earlier lives spent is no cost of the first requests of this one."""

    async def main() -> int:
        ledger = Ledger(Amounts(per_hour=3600 * 1000, wait=True))
        account = Spending()
        account.earlier = Spent("a run", reported=3_000_000)  # long ago
        ledger.attach(account)
        granted = await ledger.agrant(Ask(100, 100), account=account)
        ledger.settle(granted, 100, account=account)
        return sum(isinstance(ledger.try_grant(Ask(100, 100), account=account), int) for _ in range(50))

    assert virtual_run(main()) == 50


def test_why_there_is_no_money_is_said_with_its_figures() -> None:
    prices = PriceBook({"gpt-4o-mini": (1.0, 1.0)})
    ledger = Ledger(5 * PICO // 10**6)
    hand = a_hand(call=a_call(max_tokens=10), ledger=ledger, prices=prices)
    pricing, bound = hand.row.run.pricing, 40 * PICO // 10**6
    assert pricing.budget_left() == 5_000_000
    said = pricing.why_no_money("'gpt-4o-mini'", lambda: bound)
    assert "for another request to 'gpt-4o-mini', which can cost $0.000040; $0.000005 is left" in said
    assert "set aside" not in said
    in_flight = ledger.grant(5_000_000)
    assert pricing.why_no_money("'gpt-4o-mini'", lambda: bound) == said, (
        "what others hold comes back, and is too little"
    )
    ledger.settle(in_flight, 0)
    hand.row.run.spending.book(3, 36_000_000)
    said = pricing.why_no_money("'gpt-4o-mini'", lambda: bound)
    assert said.endswith("$0.000036 is set aside for answers that never came, or did not say what they cost")
    assert "stream_usage=True" in pricing.why_no_money("'gpt-4o-mini'", lambda: bound, streams=True)
    assert "which can cost" not in pricing.why_no_money("m", lambda: 5_000_000), "it was freed since"
    hand.row.run.spending.failure = OSError("no space left on device")
    assert "no space left on device" in pricing.why_no_money("m", lambda: bound)
    assert a_hand(call=a_call()).row.run.pricing.budget_left() is None


def test_a_model_without_a_price_is_told_once_with_what_says_it(caplog: pytest.LogCaptureFixture) -> None:
    run = a_hand(call=a_call(), prices=PriceBook({"priced": (1.0, 2.0)})).row.run
    unknown, known = a_call(model="nobody-knows"), a_call(model="priced")
    for _ in range(3):
        assert run.pricing.rates(unknown, None, None) is None
        assert run.pricing.rates(unknown, "another-nobody-knows", None) is None
        assert run.pricing.rates(known, None, None) is not None
        assert run.pricing.rates(unknown, "priced", None) is not None, "by the model that answered"
    said = [record.getMessage() for record in caplog.records if "no price is known" in record.getMessage()]
    assert len(said) == 1
    assert "'nobody-knows'" in said[0]
    assert "--price nobody-knows=IN:OUT" in said[0]


def test_a_price_with_a_misspelt_name_is_told_once_with_the_name_of_the_model_that_is_asked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pricing = a_hand(call=a_call(), prices=PriceBook({"gpt-4o-mni": (1.0, 2.0)})).row.run.pricing
    for tier in (None, "flex"):
        pricing.tariff(a_call(model="gpt-4o-mini", service_tier=tier))
    [said] = [record.getMessage() for record in caplog.records]
    assert said.startswith(
        "prices= (--price) names 'gpt-4o-mni', and the model that is asked is 'gpt-4o-mini': "
    )
    assert "that of the price list counts" in said


def test_a_request_that_costs_nothing_goes_when_all_money_is_spent_and_reserves_none() -> None:
    hand = a_hand(answer(), call=a_call(model="local:small"), ledger=Ledger(0))
    hand.run()
    ledger = hand.row.run.ledger
    assert hand.steps == ["permit", "send"]
    assert (ledger.reserved, ledger.spent, ledger.in_flight) == (0, 0, 0)


def test_a_processor_that_comes_later_keeps_the_wait_that_another_one_was_named() -> None:
    async def main() -> None:
        limits = Limits()
        early = limits.limiters(AdaptiveConcurrency(4, 1, 8))
        until_s = clock.now() + 30.0
        early.of("k").keep_pause(until_s)
        early.of("other").keep_pause(until_s + 5)
        late, apart = limits.limiters(AdaptiveConcurrency(5, 1, 9)), Limits().limiters(AdaptiveConcurrency())
        assert late is not early
        assert late.of("k").paused_until == until_s
        assert late.of("k").try_acquire() is None
        assert apart.of("k").paused_until == 0.0

    virtual_run(main())


def test_a_wait_that_is_named_to_one_holds_for_all_who_ask_the_same() -> None:
    async def main() -> None:
        limits = Limits()
        one, two = (limits.limiters(AdaptiveConcurrency(first, 1, 8)) for first in (4, 5))
        for key in ("k", "other"):
            one.of(key), two.of(key)
        one.announced("k", 20.0)
        assert two.of("k").paused_until == clock.now() + 20.0
        assert (two.of("other").paused_until, one.of("k").paused_until) == (0.0, 0.0)
        two.of("k").keep_pause(clock.now() + 10.0)
        assert two.of("k").paused_until == clock.now() + 20.0, "a shorter one ends no longer one"

    virtual_run(main())


@pytest.mark.parametrize(("billed", "tokens"), [(False, 0.0), (True, 1_000.0)])
def test_what_was_refused_took_no_tokens_of_the_minute_and_what_may_have_been_billed_did(
    billed: bool, tokens: float
) -> None:
    """A ceiling of tokens holds what a try was expected to use until it is known."""
    limiter = Limiter("k", Concurrency(4, 1, 4), [("tokens", 10_000.0)])
    permit = limiter.force(1_000)
    usage = _used(a_call(), None, billed=billed)
    limiter.release(permit, Verdict.IGNORED, usage=usage)
    limiter.admission.book()
    [(_, ceiling)] = limiter.admission.ceilings
    assert ceiling.used_at(clock.now()) == tokens


def test_an_answer_without_usage_takes_about_its_size_of_the_minute() -> None:
    whole = read_bytes(a_call().family, json.dumps({**GOOD, "usage": None}).encode())
    used = _used(a_call(), whole, billed=True)
    assert used is not None
    assert used.output_tokens >= 1
    told = read_bytes(a_call().family, json.dumps(GOOD).encode())
    assert _used(a_call(), told, billed=True) == told.usage


@pytest.mark.parametrize("http", [httpx, httpx2])
@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "unheard-of"])
def test_a_stream_is_read_along_as_its_http_library_unpacks_it(http: ModuleType, encoding: str) -> None:
    """What cannot be unpacked teaches nothing; under an unknown name it is read as it came."""
    whole = _sse(*WHOLE)
    pack = {"gzip": gzip.compress, "deflate": zlib.compress}.get(encoding.lower())
    reads = _unpacker(http, {"content-encoding": encoding})
    if pack is not None:
        packed = pack(whole)
        assert b"".join(map(reads, (packed[:9], packed[9:]))) == whole
        assert _unpacker(http, {"content-encoding": encoding})(whole) == b"", "it is not what it says"
    else:
        assert reads(whole) == whole


def test_more_is_leased_than_is_asked_by_what_was_reserved_of_late() -> None:
    async def main() -> None:
        spending = Spending(MemoryStore().open_run("one", None))
        spending.lease(100, None, lambda: None)
        assert (spending.covers(100), spending.covers(101)) == (True, False), "nothing was reserved yet"
        spending.reserve(100)
        assert not spending.covers(1)
        spending.lease(50, None, lambda: None)
        assert (spending.covers(150), spending.covers(151)) == (True, False), (
            "as much again for the next moment"
        )

    virtual_run(main())


def test_money_goes_the_short_way_while_there_is_room_for_a_thousand_such_requests() -> None:
    assert Ledger(10_000).take(10, Spending())
    assert not Ledger(9_999).take(10, Spending())


@pytest.mark.parametrize(("spent", "told"), [(49, False), (50, True), (51, True)])
def test_an_alarm_is_told_from_just_its_share_on(spent: int, told: bool) -> None:
    ledger, account = Ledger(100), Spending()
    ledger.set_alarm(account, 0.5)
    amount = ledger.try_grant(Ask(spent, spent), account=account)
    assert isinstance(amount, int)
    assert ledger.settle(amount, spent, account=account) is told


@pytest.mark.parametrize("early_s", [0.25, 2.5])
def test_who_is_early_for_the_pace_of_an_hour_waits_just_so_long(early_s: float) -> None:
    async def main() -> float:
        ledger = Ledger(Amounts(per_hour=3_600 * 1_000, wait=True))
        ledger.settle(0, int((60 + early_s) * 1_000))
        began = clock.now()
        assert await ledger.agrant(Ask(100, 100)) == 100
        return clock.now() - began

    assert virtual_run(main()) == pytest.approx(early_s, abs=0.01)


def test_of_an_old_lease_what_is_in_no_sum_may_have_been_spent_at_the_end() -> None:
    store = MemoryStore()
    run = store.open_run("one", None)
    run.write([], lambda _: None, Spent("one", 30, 20, 100))
    for out, lost in ((0, 50), (10, 40), (60, 0)):
        earlier = Spending(run, out=out).earlier
        assert (earlier.reported, earlier.uncertain) == (30, 20 + lost), out
        assert sum(pico for _, pico in earlier.steps) == lost


def test_no_more_is_leased_than_the_budget_has_nor_after_it_has_failed() -> None:
    run = MemoryStore().open_run("one", None)
    spending = Spending(run)
    assert spending.wants_lease(1, 100)
    spending.lease(100, 100, lambda: None)
    assert not spending.wants_lease(100, 100), "it is covered"
    spending.reserve(100)
    assert not spending.wants_lease(0, 100), "there is no more to have"
    assert spending.wants_lease(0, 1_000)
    assert spending.wants_lease(1, 100), "but whoever waits may ask"
    run.close()
    failed: list[bool] = []
    spending.lease(1, None, lambda: failed.append(spending.failure is not None))
    assert failed == [True]
    assert not spending.wants_lease(1, None)


@pytest.mark.parametrize("limits", [Amounts(150), Amounts(per_hour=150), Amounts(per_hour=150, wait=True)])
def test_a_lease_is_never_more_than_the_limits_leave(limits: Amounts) -> None:
    async def main() -> int:
        run = MemoryStore().open_run("one", None)
        ledger, spending = Ledger(limits), Spending(run, timed=True)
        ledger.attach(spending)
        for most in (100, 20):  # with as much again for the next moment it would be 220
            assert await ledger.agrant(Ask(most, most), account=spending) == most
        return run.spent().leased

    assert virtual_run(main()) == 150


def test_a_request_that_gets_less_than_it_asked_for_leases_no_more_than_is_left() -> None:
    """As near the end of the money, and as lumps for workers: who was killed there had spent more than the budget."""

    async def main() -> int:
        run = MemoryStore().open_run("one", None)
        ledger, spending = Ledger(Amounts(150)), Spending(run)
        ledger.attach(spending)
        assert 20 <= await ledger.agrant(Ask(1_000, 20), account=spending) <= 150
        return run.spent().leased

    assert virtual_run(main()) <= 150


@pytest.mark.parametrize(
    ("age_s", "limit", "pace"), [(0.0, 28.0, 2.5), (HALF_S / 2, 20.0, 2.5), (HALF_S, 16.0, 0.0)]
)
def test_seven_tenths_of_what_was_found_is_what_one_begins_with_less_the_longer_ago(
    age_s: float, limit: float, pace: float
) -> None:
    limiter = Limiter("k", Concurrency(4, 1, 100))
    assert InFlight(limiter).recall(Learnt(40.0, True, 2.5), age_s) == limit
    assert (limiter.limit, limiter.admission.bucket.rate) == (limit, pace)


def test_whoever_has_begun_knows_better_than_what_was_found_before() -> None:
    limiter = Limiter("k", Concurrency(4, 1, 100))
    limiter.force()
    assert InFlight(limiter).recall(Learnt(40.0, True, 2.5), 0.0) is None
    assert (limiter.limit, limiter.admission.bucket.rate) == (4, 0.0)
    small = Limiter("k", Concurrency(20, 1, 100))
    assert InFlight(small).recall(Learnt(20.0, False, 0.0), 0.0) is None, "nobody said that no more fit"
    assert InFlight(small).recall(Learnt(20.0, True, 0.0), 0.0) == 14.0


def test_who_waits_for_money_looks_again_as_soon_as_the_pace_allows_once_that_is_what_is_missing() -> None:
    async def main() -> float:
        ledger = Ledger(Amounts(per_hour=3_600 * 1_000, wait=True))
        everything = ledger.try_grant(Ask(3_600_000, 3_600_000))
        waiting = asyncio.create_task(ledger.agrant(Ask(100, 100)))
        await asyncio.sleep(0)
        assert isinstance(everything, int)
        ledger.settle(everything, 61_000)
        began = clock.now()
        assert await waiting == 100
        return clock.now() - began

    assert virtual_run(main()) == pytest.approx(1.0, abs=0.01)


def test_how_fast_money_goes_is_measured_anew_after_a_quarter_of_a_second() -> None:
    async def main() -> None:
        spending = Spending(MemoryStore().open_run("one", None))
        spending.lease(100, None, lambda: None)
        spending.reserve(100)
        await asyncio.sleep(0.25)
        spending.lease(1, None, lambda: None)
        assert (spending.covers(101), spending.covers(102)) == (True, False), "a hundred in that time"
        spending.lease(300, None, lambda: None)
        assert (spending.covers(300), spending.covers(301)) == (True, False), "and none since then"

    virtual_run(main())


@pytest.mark.parametrize(("counted", "times"), [(50, 1.0), (20_000, None)])
def test_who_counts_more_than_a_bound_is_bounded_by_as_much_more_from_then_on(
    counted: int, times: float | None
) -> None:
    body = {**GOOD, "usage": {"prompt_tokens": counted, "completion_tokens": 2}}
    call = a_call("word " * 200, max_tokens=10)
    prices = PriceBook({"gpt-4o-mini": (1.0, 0.0)})
    hand = a_hand(answer(200, body), call=call, ledger=Ledger(PICO), prices=prices)
    before = Reservation(hand.row, call).bound
    assert before is not None
    hand.run()
    after = Reservation(hand.row, call).bound
    assert after is not None
    if times is None:
        assert after >= counted * 10**6, "the same count would be within it"
        assert after == pytest.approx(counted * 10**6, rel=0.01)
    else:
        assert after == before


def test_under_a_limit_by_the_hour_each_end_of_a_request_is_told() -> None:
    ledger, account = Ledger(Amounts(per_hour=1_000)), Spending()
    ledger.set_alarm(account, 0.5)
    assert ledger.settle(0, 0, account=account), "the hour moves on without anybody's spending"
    both = Ledger(Amounts(total=100, per_hour=1_000))
    both.set_alarm(account, 0.5)
    assert both.settle(0, 0, account=account)
    free = Ledger(None)
    assert (free.share(), both.share()) == (0.0, 0.0)


def test_what_is_in_flight_counts_for_the_pace_of_an_hour_at_the_mean_of_what_was_paid() -> None:
    async def main() -> float:
        ledger = Ledger(Amounts(per_hour=3_600 * 1_000, wait=True))
        for cost in (30_000, 10_000):
            ledger.settle(0, cost)
        for _ in range(2):
            assert ledger.try_grant(Ask(100, 100)) == 100
        began = clock.now()
        assert await ledger.agrant(Ask(100, 100)) == 100
        return clock.now() - began

    assert virtual_run(main()) == pytest.approx(20.0, abs=0.01), (
        "40 and twice 20 seconds ahead, of which 60 are free"
    )


@pytest.mark.parametrize(
    ("theirs", "rejections", "chance"),
    [
        ([], 2, False),  # nobody else was rejected
        ([3], 3, True),  # as often as one that came through
        ([3], 4, False),
        ([1] * 50, 2, True),  # one in three: two in a row are nothing
        ([1] * 50, 5, False),
    ],
)
def test_rejections_are_chance_if_those_that_came_through_had_as_many_or_so_many_are_likely(
    theirs: list[int], rejections: int, chance: bool
) -> None:
    through = CameThrough()
    for number, had in enumerate(theirs):
        through.note(RECENT + number, had)
    assert through.explains(rejections, 2 * RECENT) is chance
    assert not through.explains(rejections, 4 * RECENT), "what is long ago explains nothing"
