"""A request that is far later than its kind ever was gets a copy; it never fails for it, and nothing is lost by it."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_openai import ChatOpenAI

from cottonpalm import BatchProcessor, Budget, Limits
from cottonpalm.request.hedges import FEWEST, LEARNT_AFTER, SHARE, AnswerPace, Hedges, Ticket, allowed
from cottonpalm.request.money.ledger import Ledger
from cottonpalm.request.money.rules.prices import PriceBook
from cottonpalm.request.row_account import ROW, RowAccount
from cottonpalm.testing import virtual_run
from cottonpalm.types import PICO
from tests.request.kit import a_run, in_flight

if TYPE_CHECKING:
    from cottonpalm.request.run_account import RunAccount

pytestmark = pytest.mark.core
URL = "http://x/v1/chat/completions"
GOOD = {
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
}


class Scripted(httpx2.AsyncBaseTransport):
    """Answers after the seconds that are next in the list, 1 where it is used up; a number below zero is a status."""

    def __init__(self, *seconds: float) -> None:
        self.seconds = list(seconds)
        self.sent = self.cancelled = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.sent += 1
        step = self.seconds.pop(0) if self.seconds else 1.0
        try:
            await asyncio.sleep(step if step > 0 else 60.0 if step == -500 else 1.0)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return httpx2.Response(200 if step > 0 else int(-step), json=GOOD if step > 0 else {})


def a_learnt_run(**settings: Any) -> RunAccount:
    """It has seen many answers of one second, and sent enough that copies are allowed."""
    ledger = Ledger(settings.pop("budget", PICO))
    run = a_run(
        settings.pop("places", 4),
        ledger=ledger,
        prices=PriceBook({"m": (1.0, 1.0)}),
        **{"timeout_s": 600.0, **settings},
    )
    ledger.attach(run.spending)
    return run


def ask(run: RunAccount, transport: Scripted, **more: Any) -> tuple[httpx2.Response, RowAccount, float]:
    """One request of a row after 150 of others; its answer, its row, and its virtual seconds."""

    async def main() -> tuple[httpx2.Response, RowAccount, float]:
        row = RowAccount(run, 0)
        ROW.set(row)
        loop = asyncio.get_running_loop()
        async with httpx2.AsyncClient(transport=transport, timeout=None) as client:
            body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 50, **more}
            late, transport.seconds = transport.seconds, []
            for _ in range(150):
                await client.post(URL, json=body)
            transport.seconds, at = late, loop.time()
            before = row.attempts
            row.attempts, row.usage = 0, None
            assert before == 150
            response = await client.post(URL, json=body)
            return response, row, loop.time() - at

    return virtual_run(main())


def test_a_late_request_gets_one_copy_whose_answer_counts_and_the_other_is_cancelled() -> None:
    run, transport = a_learnt_run(), Scripted(500.0)
    response, row, seconds = ask(run, transport)
    assert response.status_code == 200
    assert seconds == pytest.approx(5.0 + 1.0)
    assert transport.cancelled == 1
    assert row.attempts == 2
    assert run.hedges.sent == 1
    assert in_flight(run) == 0
    assert run.ledger.reserved == 0  # type: ignore[union-attr]


def test_what_the_cancelled_one_may_have_cost_stays_booked() -> None:
    run = a_learnt_run()
    ask(run, Scripted(500.0))
    spending = run.spending
    assert spending.reported == 151 * 15 * PICO // 10**6
    assert spending.uncertain > 50 * PICO // 10**6


def test_a_slow_answer_that_comes_before_its_copys_counts_and_the_copy_is_cancelled() -> None:
    run, transport = a_learnt_run(), Scripted(7.0, 500.0)
    response, row, seconds = ask(run, transport)
    assert response.status_code == 200
    assert seconds == pytest.approx(7.0)
    assert transport.cancelled == 1
    assert row.attempts == 2
    assert (in_flight(run), run.ledger.reserved) == (0, 0)  # type: ignore[union-attr]


def test_a_slow_row_is_never_failed_below_its_timeout() -> None:
    run, transport = a_learnt_run(), Scripted(500.0, 599.0, 599.0, 599.0)
    response, _, seconds = ask(run, transport)
    assert response.status_code == 200
    assert seconds == pytest.approx(500.0)
    assert transport.cancelled == run.hedges.sent <= 3


def test_a_request_whose_first_two_copies_hang_as_well_gets_a_third() -> None:
    run, transport = a_learnt_run(), Scripted(5_000.0, 5_000.0, 5_000.0)
    response, _, seconds = ask(run, transport)
    assert response.status_code == 200
    assert seconds == pytest.approx(5.0 + 5.0 + 5.0 + 1.0)
    assert (run.hedges.sent, run.hedges.overtook, transport.cancelled) == (3, 3, 3)
    assert (in_flight(run), run.ledger.reserved) == (0, 0)  # type: ignore[union-attr]


def test_a_copy_that_fails_changes_nothing() -> None:
    run, transport = a_learnt_run(), Scripted(300.0, *[-500] * 20)
    response, _, seconds = ask(run, transport)
    assert response.status_code == 200
    assert seconds == pytest.approx(300.0)
    assert (in_flight(run), run.ledger.reserved) == (0, 0)  # type: ignore[union-attr]


def test_a_copy_that_is_rejected_is_followed_by_another() -> None:
    run, transport = a_learnt_run(), Scripted(500.0, -429)
    response, _, seconds = ask(run, transport)
    assert response.status_code == 200
    assert seconds < 80.0
    assert run.hedges.sent == 1, "a rejection costs nothing and does not count"
    assert (in_flight(run), run.ledger.reserved) == (0, 0)  # type: ignore[union-attr]


def test_an_original_that_fails_waits_for_its_copy() -> None:
    run, transport = a_learnt_run(), Scripted(-500, 100.0, 100.0, 100.0)  # status 500, after 60 s
    response, row, seconds = ask(run, transport)
    assert response.status_code == 200
    assert seconds == pytest.approx(5.0 + 100.0)
    assert row.attempts == 1 + run.hedges.sent
    assert (in_flight(run), run.ledger.reserved) == (0, 0)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "more",
    [
        {"store": True},
        {"background": True},
        {"previous_response_id": "resp_1"},
        {"tools": [{"type": "web_search"}]},
    ],
    ids=["store", "background", "kept conversation", "the provider's tools"],
)
def test_a_request_that_keeps_or_does_something_is_never_sent_twice(more: Any) -> None:
    run, transport = a_learnt_run(budget=None, refuses_unbounded=False), Scripted(500.0)
    _, row, seconds = ask(run, transport, **more)
    assert (row.attempts, seconds, run.hedges.sent) == (1, pytest.approx(500.0), 0)


def test_a_request_that_is_signed_or_streamed_is_never_sent_twice() -> None:
    async def main() -> int:
        run, transport = a_learnt_run(), Scripted(*[1.0] * 150, 500.0, 500.0)
        ROW.set(RowAccount(run, 0))
        async with httpx2.AsyncClient(transport=transport, timeout=None) as client:
            body = {"model": "m", "messages": [], "max_tokens": 50}
            for _ in range(150):
                await client.post(URL, json=body)
            signed = {"authorization": "AWS4-HMAC-SHA256 Credential=a/b"}
            await client.post(URL, json=body, headers=signed)
            async with client.stream("POST", URL, json={**body, "stream": True}) as response:
                await response.aread()
        return run.hedges.sent

    assert virtual_run(main()) == 0


def test_without_money_for_a_copy_none_is_sent_and_the_run_goes_on() -> None:
    run = a_learnt_run(budget=151 * 15 * PICO // 10**6 + 200 * PICO // 10**6, tighten=False)
    transport = Scripted(500.0)
    _, row, seconds = ask(run, transport)
    assert (row.attempts, seconds) == (1, pytest.approx(500.0))
    assert run.alerts.stopped is None
    assert run.hedges.sent == 0


def test_hedge_false_sends_no_copy() -> None:
    run, transport = a_learnt_run(hedge=False), Scripted(500.0)
    _, row, seconds = ask(run, transport)
    assert (row.attempts, seconds) == (1, pytest.approx(500.0))


def test_at_most_two_in_a_hundred_requests_are_copies() -> None:
    hedges = Hedges()
    assert hedges.take(6), "of a short run, one"
    assert not hedges.take(6)
    assert not hedges.take(99)
    assert hedges.take(100)
    hedges.give_back(Ticket(counted=True, above=False))
    assert hedges.take(100)
    assert hedges.sent == 2


def test_copies_that_overtook_what_hung_make_room_for_three_standard_deviations_more() -> None:
    def most(requests: int, *, useful: bool) -> int:
        sent = 0
        while allowed(sent, sent if useful else 0, requests):
            sent += 1
        return sent

    assert [most(n, useful=False) for n in (49, 100, 1_000, 100_000)] == [1, 2, 20, 2_000]
    assert [most(n, useful=True) for n in (49, 100, 1_000, 100_000)] == [4, 6, 33, 2_134]
    assert not allowed(20 + 13, 13, 1_000), "only those that overtook their request make room"


def hung_in(seconds: list[float], most_at_once: int = 10) -> tuple[float, RunAccount]:
    """The virtual seconds that so many rows take, so many at once; the run."""
    run, transport = a_learnt_run(), Scripted(*seconds)

    async def main() -> float:
        places = asyncio.Semaphore(most_at_once)
        async with httpx2.AsyncClient(transport=transport, timeout=None) as client:

            async def row(number: int) -> None:
                async with places:
                    ROW.set(RowAccount(run, number))
                    body = {"model": "m", "messages": [], "max_tokens": 50}
                    assert (await client.post(URL, json=body)).status_code == 200

            await asyncio.gather(*[asyncio.create_task(row(n)) for n in range(len(seconds))])
        return asyncio.get_running_loop().time()

    return virtual_run(main()), run


def test_a_run_that_meets_more_hangs_than_two_in_a_hundred_by_chance_does_not_wait_out_the_timeout() -> None:
    hangs = {150 + 24 * n for n in range(15)}  # 15 of 500: two standard deviations above ten
    without, _ = hung_in([1.0] * 500)
    seconds, run = hung_in([5_000.0 if n in hangs else 1.0 for n in range(500)])
    assert without <= seconds <= 1.2 * without + 10.0, "the last may hang; it is late after five seconds"
    assert run.hedges.sent == run.hedges.overtook == 15
    assert in_flight(run) == 0


@pytest.mark.parametrize("hangs", [{3}, {8}, {11}, {5, 9}], ids=str)
def test_a_short_run_does_not_wait_out_the_timeout_of_what_hangs(hangs: set[int]) -> None:
    """A dozen rows: nobody knows much of how long an answer takes."""
    seconds, run = hung_in([5_000.0 if n in hangs else 1.0 for n in range(12)], 4)
    assert seconds < 20.0
    assert run.hedges.sent == run.hedges.overtook == len(hangs)
    assert in_flight(run) == 0


def test_copies_of_what_is_merely_slow_stay_within_two_in_a_hundred() -> None:
    _, run = hung_in([30.0 if n % 10 == 9 and n >= 150 else 1.0 for n in range(500)], 4)
    assert run.hedges.overtook == 0 or run.hedges.sent - run.hedges.overtook <= SHARE * 520


def test_late_is_far_later_than_the_slowest_and_never_before_enough_is_known() -> None:
    pace = AnswerPace()
    for n in range(LEARNT_AFTER):
        assert (pace.late_s is None) == (n < FEWEST)
        pace.after(10.0 if n == 3 else 0.1)
    assert pace.late_s == 20.0
    pace.after(60.0)
    assert pace.late_s == 120.0
    assert AnswerPace(LEARNT_AFTER, 0.01).late_s == 5.0, "a machine that stutters is no provider that hangs"


def test_what_hung_before_anything_was_known_gets_its_copy_once_it_is() -> None:
    async def main() -> float:
        run, transport = a_learnt_run(), Scripted(500.0)
        loop = asyncio.get_running_loop()
        async with httpx2.AsyncClient(transport=transport, timeout=None) as client:
            body = {"model": "m", "messages": [], "max_tokens": 50}
            ROW.set(RowAccount(run, 0))
            hung = asyncio.create_task(client.post(URL, json=body))
            await asyncio.sleep(0)
            ROW.set(RowAccount(run, 1))
            for _ in range(LEARNT_AFTER + 2):
                await client.post(URL, json=body)
            await hung
            assert in_flight(run) == 0
            return loop.time()

    assert virtual_run(main()) == pytest.approx(LEARNT_AFTER + 2, abs=2.0)


@pytest.mark.parametrize("places", [1, 2])
def test_with_all_places_taken_by_requests_that_fail_late_nobody_waits_for_ever(places: int) -> None:
    """Their copies wait in line for places that only the originals can free."""
    run = a_learnt_run(timeout_s=20.0, places=places)

    async def main() -> float:
        loop = asyncio.get_running_loop()
        transport = Scripted()
        async with httpx2.AsyncClient(transport=transport, timeout=None) as client:
            body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 50}

            async def one(index: int) -> None:
                ROW.set(RowAccount(run, index))
                await client.post(URL, json=body)

            for index in range(150):
                await asyncio.create_task(one(index))
            transport.seconds = [1e9] * places  # they come to nothing: the timeout ends them
            at = loop.time()
            await asyncio.gather(*(asyncio.create_task(one(150 + index)) for index in range(places + 3)))
            return loop.time() - at

    assert virtual_run(asyncio.wait_for(main(), 10_000.0)) < 60.0


def test_a_row_that_is_cancelled_while_its_copy_is_under_way_gives_all_back() -> None:
    async def main() -> None:
        run, transport = a_learnt_run(), Scripted(*[1.0] * 150, 500.0, 500.0)
        row = RowAccount(run, 0)
        ROW.set(row)
        async with httpx2.AsyncClient(transport=transport, timeout=None) as client:
            body = {"model": "m", "messages": [], "max_tokens": 50}
            for _ in range(150):
                await client.post(URL, json=body)
            hung = asyncio.create_task(client.post(URL, json=body))
            while row.on_wire < 2:
                await asyncio.sleep(1.0)
            hung.cancel()
            await asyncio.wait([hung])
            assert (in_flight(run), run.ledger.reserved, row.on_wire) == (0, 0, 0)  # type: ignore[union-attr]
            assert transport.cancelled == 2

    virtual_run(main())


def test_one_long_question_in_twenty_is_answered_and_the_copies_are_in_the_report() -> None:
    class Uneven(httpx2.AsyncBaseTransport):
        sent = 0

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            Uneven.sent += 1
            text = json.loads(request.content)["messages"][0]["content"]
            await asyncio.sleep(120.0 if int(text) % 20 == 19 else 1.0)
            return httpx2.Response(200, json=GOOD)

    async def main() -> Any:
        async with httpx2.AsyncClient(transport=Uneven()) as client:
            model = ChatOpenAI(
                model="m",
                base_url="http://x/v1",
                api_key="sk-none",
                http_async_client=client,
                max_completion_tokens=50,
            )
            processor = BatchProcessor(
                model | StrOutputParser(), limits=Limits(), budget=Budget(total=9), prices={"m": (1, 1)}
            )
            outputs = await processor.abatch([str(n) for n in range(600)])
            return outputs, processor.last_run.report

    outputs, report = virtual_run(main())
    assert outputs == ["hi"] * 600
    assert 0 < report.counts.hedges <= 0.02 * Uneven.sent + 10, (
        "and ever rarer ones at the end, where nobody is answered"
    )
    assert report.counts.overtaken == 0, "a long question takes its copy as long"
    assert "copies of late ones" in report.text()
    assert report.errors == {}


def test_a_copy_that_was_answered_first_is_counted_in_the_report_and_shown_on_its_page() -> None:
    class OneHangs(httpx2.AsyncBaseTransport):
        hung = False

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            text = json.loads(request.content)["messages"][0]["content"]
            hangs = text == "190" and not OneHangs.hung
            OneHangs.hung |= hangs
            await asyncio.sleep(500.0 if hangs else 1.0)
            return httpx2.Response(200, json=GOOD)

    async def main() -> Any:
        async with httpx2.AsyncClient(transport=OneHangs()) as client:
            model = ChatOpenAI(model="m", base_url="http://x/v1", api_key="sk-none", http_async_client=client)
            processor = BatchProcessor(model | StrOutputParser(), limits=Limits())
            await processor.abatch([str(n) for n in range(200)])
            return processor.last_run.report

    report = virtual_run(main())
    assert (report.counts.hedges, report.counts.overtaken) == (1, 1)
    said = " ".join(re.sub("<[^>]*>", " ", report.to_html()).replace("\u202f", " ").split())
    assert "Hedges copies of late requests 1 (0.5 %) answered before the request 1" in said
