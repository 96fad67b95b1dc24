"""The watch over one send: when a copy goes, whose reply counts, and what is cancelled at the end."""

from __future__ import annotations

import asyncio
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from cottonpalm.request.attempt.steps import Reply
from cottonpalm.request.hedges import FEWEST, LEARNT_AFTER, AnswerPace, Hedges, Ticket
from cottonpalm.request.row_account import RowAccount
from cottonpalm.request.transport.hedging import Hedge
from cottonpalm.testing import virtual_run
from tests.request.kit import a_run
from tests.request.test_attempts import a_call

pytestmark = pytest.mark.core
GOOD, BAD = 200, 500


class Measured:
    def __init__(self) -> None:
        self.overtook = 0

    def overtaken(self) -> None:
        self.overtook += 1


class Sent:
    """One send under watch: the original takes so long, each copy as it is told."""

    def __init__(
        self,
        original: tuple[float, int],
        *copies: tuple[float, int] | None,
        slowest_s: float = 2.0,
        requests: int = 1_000,
        line_s: float = 0.0,
    ) -> None:
        self.original, self.copies, self.line_s = original, list(copies), line_s
        self.row = RowAccount(a_run(), 0)
        self.run = self.row.run
        self.run.measure = self.measured = Measured()  # type: ignore[assignment]
        self.call = a_call()
        self.asked_s: list[float] = []
        self.cancelled = 0
        self.settlement: Any = object()
        for _ in range(LEARNT_AFTER if slowest_s else 0):
            self.run.hedges.answered(self.call.key, slowest_s)
        self.sends(requests)

    def sends(self, requests: int) -> None:
        """The run has sent so many more."""
        for _ in range(requests):
            self.run.allowance.request()

    async def copy(self, ticket: Ticket) -> Reply | None:
        self.asked_s.append(asyncio.get_running_loop().time())
        if not self.copies:
            raise LookupError("no money")
        told = self.copies.pop(0)
        if told is None:
            return None
        seconds, status = told
        try:
            await asyncio.sleep(self.line_s)
            ticket.goes(asyncio.get_running_loop().time())
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Reply(status, content=b"copy", copy=self.settlement if status == GOOD else None)

    async def go(self) -> Reply:
        hedge = Hedge(self.row, self.call, self.copy)
        reply = Reply(error=TimeoutError("cut off"))
        try:
            try:
                async with asyncio.timeout(600) as limit:
                    hedge.began(partial(limit.reschedule, 0.0))
                    await asyncio.sleep(self.original[0])
                    reply = Reply(self.original[1], content=b"original")
            except TimeoutError:
                pass
            return await hedge.best(reply)
        finally:
            hedge.end()
            await hedge.over()
            self.ended_s = asyncio.get_running_loop().time()

    def see(self) -> Reply:
        return virtual_run(self.go())


def test_a_copy_goes_when_the_request_is_later_than_twice_the_slowest_and_never_before_five_seconds() -> None:
    for slowest_s, late_s in ((0.5, 5.0), (2.5, 5.0), (4.0, 8.0)):
        sent = Sent((100.0, GOOD), (1.0, GOOD), slowest_s=slowest_s)
        reply = sent.see()
        assert sent.asked_s == [late_s]
        assert reply.content == b"copy"
        assert reply.copy is sent.settlement
        assert reply.instead_of is None, "the original was cut off, and came to nothing"
        assert sent.ended_s == late_s + 1.0
        assert (sent.run.hedges.sent, sent.run.hedges.overtook, sent.measured.overtook) == (1, 1, 1)


def test_one_that_is_answered_in_time_has_no_copy() -> None:
    sent = Sent((4.9, GOOD))
    assert sent.see().content == b"original"
    assert (sent.asked_s, sent.run.hedges.sent, sent.measured.overtook) == ([], 0, 0)


def test_what_is_late_before_anybody_knows_it_is_told_once_answers_have_come() -> None:
    sent = Sent((100.0, GOOD), (1.0, GOOD), slowest_s=0.0)

    async def main() -> Reply:
        going = asyncio.ensure_future(sent.go())
        await asyncio.sleep(20.0)
        for _ in range(LEARNT_AFTER):
            sent.run.hedges.answered(sent.call.key, 2.0)
        return await going

    assert virtual_run(main()).content == b"copy"
    assert sent.asked_s == [20.0], "it was late by then"


def test_an_original_that_comes_first_counts_and_the_copy_is_cancelled() -> None:
    sent = Sent((7.0, GOOD), (60.0, GOOD))
    assert sent.see().content == b"original"
    assert (sent.cancelled, sent.measured.overtook, sent.ended_s) == (1, 0, 7.0)


def test_a_bad_original_waits_for_its_copy_and_is_handed_on_with_it() -> None:
    sent = Sent((7.0, BAD), (30.0, GOOD))
    reply = sent.see()
    assert (reply.content, sent.ended_s) == (b"copy", 35.0)
    assert reply.instead_of is not None
    assert reply.instead_of.status == BAD
    assert sent.measured.overtook == 1


def test_a_bad_original_does_not_wait_for_a_copy_that_is_still_in_line() -> None:
    """It holds one of the places that the copy waits for: with one place, both would wait for ever."""
    sent = Sent((7.0, BAD), (30.0, GOOD), line_s=1e9)
    reply = sent.see()
    assert (reply.content, sent.ended_s, sent.cancelled) == (b"original", 7.0, 1)
    assert sent.run.hedges.overtook == 0


def test_where_both_fail_the_originals_reply_counts() -> None:
    sent = Sent((7.0, BAD), (30.0, BAD))
    reply = sent.see()
    assert (reply.content, reply.status, reply.copy) == (b"original", BAD, None)
    assert sent.run.hedges.overtook == 0


@pytest.mark.parametrize("first", [(0.5, BAD), None], ids=["a bad copy", "one that could not go"])
def test_after_a_copy_that_failed_another_may_go_a_quarter_of_the_time_later(first: Any) -> None:
    sent = Sent((100.0, GOOD), first, (1.0, GOOD))
    reply = sent.see()
    if first is None:
        assert reply.content == b"original", "there was no money: none is asked for again"
        assert sent.asked_s == [5.0]
    else:
        assert reply.content == b"copy"
        assert sent.asked_s == [5.0, 5.5 + 5.0 / 4]


def test_a_copy_that_raises_leaves_the_original_alone() -> None:
    sent = Sent((9.0, GOOD))
    assert sent.see().content == b"original"
    assert sent.asked_s == [5.0]


def test_where_no_more_copies_are_allowed_it_is_looked_at_again_until_one_is() -> None:
    sent = Sent((100.0, GOOD), (1.0, GOOD), requests=10)
    assert sent.run.hedges.take(10), "the one that any run may send"

    async def main() -> Reply:
        going = asyncio.ensure_future(sent.go())
        await asyncio.sleep(11.0)
        sent.sends(1_000)
        return await going

    assert virtual_run(main()).content == b"copy"
    assert sent.asked_s == [11.25], "looked at every quarter of the time after which one is late"


def test_slower_answers_that_came_meanwhile_make_it_less_late() -> None:
    sent = Sent((100.0, GOOD), (1.0, GOOD))

    async def main() -> Reply:
        going = asyncio.ensure_future(sent.go())
        await asyncio.sleep(4.0)
        sent.run.hedges.answered(sent.call.key, 10.0)
        return await going

    virtual_run(main())
    assert sent.asked_s == [20.0]


def test_nothing_is_watched_when_it_is_over() -> None:
    sent = Sent((1.0, GOOD))
    sent.see()
    assert not any(len(watched) for watched in sent.run.hedges._watched.values())


# -- what a run allows


def test_a_pace_is_the_slowest_answer_the_less_sure_the_fewer_there_are() -> None:
    pace, late = AnswerPace(), list[float | None]()
    told = list[bool]()
    for seconds in [3.0] + [1.0] * (LEARNT_AFTER + 20):
        told.append(pace.after(seconds))
        late.append(pace.late_s)
    assert late[: FEWEST - 1] == [None] * (FEWEST - 1)
    known = [seconds for seconds in late if seconds is not None]
    assert known[0] == pytest.approx(2 * 3.0 * (LEARNT_AFTER / FEWEST) ** 0.5)
    assert known == sorted(known, reverse=True)
    assert set(late[LEARNT_AFTER - 1 :]) == {6.0}
    assert [n for n, look in enumerate(told, 1) if look] == list(range(FEWEST, LEARNT_AFTER + 1, FEWEST))


def test_copies_are_counted_taken_and_given_back_by_key() -> None:
    hedges = Hedges()
    assert hedges.wanted
    assert hedges.late_s("k") is None
    assert [hedges.take(100) for _ in range(4)] == [True, True, False, False]
    hedges.give_back(Ticket(counted=True, above=False))
    assert hedges.sent == 1
    assert hedges.take(100)
    hedges.overtaken()
    assert hedges.take(100), "one that overtook shows that requests hang"
    for _ in range(LEARNT_AFTER):
        hedges.answered("k", 3.0)
    assert (hedges.late_s("k"), hedges.late_s("other")) == (6.0, None)


def test_a_silence_is_counted_in_times_after_which_one_is_late_and_asked_into_ever_more_rarely() -> None:
    pace = AnswerPace(LEARNT_AFTER, slowest_s=10.0)
    assert AnswerPace(LEARNT_AFTER - 1, slowest_s=10.0).silence(100.0, 0.0) == 0.0
    assert pace.silence(130.0, 100.0) == 1.5
    asked = [at for at in range(301) if pace.asks(float(at))]
    assert asked == [0, 20, 47, 83, 131, 195, 280]
    pace.woke(290.0)
    assert pace.asks(301.0), "the next silence begins anew"
    assert (pace.woke_s, pace.wait_s) == (290.0, 20.0)


def test_what_was_sent_before_the_copy_that_was_answered_first_hangs() -> None:
    sent = Sent((100.0, GOOD), slowest_s=4.0)
    hedges, key = sent.run.hedges, sent.call.key
    early, later = SimpleNamespace(key=key, since_s=50.0), SimpleNamespace(key=key, since_s=70.0)
    assert not hedges.hangs(early)
    hedges.woke(key, 60.0)
    assert hedges.hangs(early)
    assert not hedges.hangs(later)
    assert not hedges.hangs(SimpleNamespace(key="another", since_s=50.0))
