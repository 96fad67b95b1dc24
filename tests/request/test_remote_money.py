"""Money that a worker is lent by the process that has the budget: what is asked, lent, spent, given back and lost."""

from __future__ import annotations

import asyncio

import pytest

from cottonpalm import clock
from cottonpalm.request.money.ledger import Ledger
from cottonpalm.request.money.remote import (
    KEPT_S,
    Lumps,
    MoneyAsked,
    MoneyTold,
    NoMoreMoney,
    Purse,
    purse_and_ledger,
)
from cottonpalm.request.money.rules.amounts import Amounts
from cottonpalm.request.money.rules.grants import Ask, Grant
from cottonpalm.request.money.spending import Spending
from cottonpalm.stores.memory import MemoryStore
from cottonpalm.testing import virtual_run

pytestmark = pytest.mark.core
ALL = Ask(500, 500)


class Worker:
    """A worker's own ledger, and how often it had something to say."""

    def __init__(self) -> None:
        self.woken = 0
        self.ledger, self.purse = purse_and_ledger(self._wake)

    def _wake(self) -> None:
        self.woken += 1

    def ask(self, amount: int) -> int | Grant:
        return self.ledger.try_grant(Ask(amount, amount), account=self.purse)

    async def lent(self, amount: int, asked: int) -> None:
        """A request of this size waits until so much is lent, and is on its way then."""
        waiting = asyncio.create_task(self.ledger.agrant(Ask(asked, asked), account=self.purse))
        await asyncio.sleep(0)
        assert self.purse.told(idle=False).asked == MoneyAsked(asked, asked)
        self.purse.grant(amount)
        assert await waiting == asked


def test_a_request_waits_for_what_it_asks_and_gets_it_from_what_is_lent() -> None:
    async def main() -> None:
        worker = Worker()
        waiting = asyncio.create_task(worker.ledger.agrant(Ask(100, 100), account=worker.purse))
        await asyncio.sleep(0)
        assert (worker.woken, worker.purse.asks, waiting.done()) == (1, True, False)
        assert worker.purse.told(idle=False) == MoneyTold(asked=MoneyAsked(100, 100))
        assert not worker.purse.asks, "it is said once"
        assert worker.purse.told(idle=False) == MoneyTold()
        worker.purse.grant(250)
        assert await waiting == 100
        assert worker.ask(150) == 150, "the rest is there for the next"
        assert (worker.purse.committed, worker.purse.covers(0), worker.purse.covers(1)) == (250, True, False)

    virtual_run(main())


def test_what_comes_next_is_asked_for_before_it_is_needed_and_nobody_waits_for_it() -> None:
    async def main() -> None:
        worker = Worker()
        await worker.lent(1_000, 100)
        assert worker.ask(700) == 700
        assert not worker.purse.asks
        assert worker.ask(150) == 150, "950 of 1,000: at this rate that will not last"
        said = worker.purse.told(idle=False)
        assert said.asked is not None
        assert said.asked.least == 0
        assert said.asked.most > 0
        assert said.back == 0, "what is left is soon needed"
        assert not worker.purse.wants_lease(500, None), "one question at a time"

    virtual_run(main())


def test_what_was_spent_is_said_once_and_what_an_idle_worker_holds_goes_back() -> None:
    async def main() -> None:
        worker = Worker()
        await worker.lent(250, 100)
        worker.ledger.settle(100, 60, 7, worker.purse)
        assert worker.purse.told(idle=False) == MoneyTold(60, 7, 0), "it is kept for the next requests"
        assert worker.purse.told(idle=True) == MoneyTold(0, 0, 250 - 67)
        assert not worker.purse.covers(1)
        assert worker.purse.told(idle=True) == MoneyTold()
        worker.purse.grant(50)
        worker.ledger.settle(worker.ask(10), 10, 0, worker.purse)  # type: ignore[arg-type]
        assert worker.purse.told(idle=True) == MoneyTold(10, 0, 40)

    virtual_run(main())


def test_what_is_written_of_a_worker_s_spending_takes_nothing_of_what_it_was_lent() -> None:
    """All of a lump is spent or goes back: what is lost on the way is missing to everybody, and a run waits."""

    async def main() -> None:
        worker = Worker()
        await worker.lent(550, 400)
        worker.ledger.settle(400, 300, 0, worker.purse)
        await asyncio.sleep(60)
        worker.ledger.record(worker.purse)
        assert worker.purse.told(idle=True) == MoneyTold(300, 0, 250)

    virtual_run(main())


@pytest.mark.parametrize(("passed_s", "back"), [(KEPT_S, 0), (KEPT_S + 0.01, 150)])
def test_money_for_the_next_requests_is_kept_for_a_second(passed_s: float, back: int) -> None:
    async def main() -> int:
        worker = Worker()
        await worker.lent(550, 400)
        await asyncio.sleep(passed_s)
        return worker.purse.told(idle=False).back

    assert virtual_run(main()) == back


def test_more_than_twice_what_is_soon_needed_goes_back_at_once() -> None:
    async def main() -> int:
        worker = Worker()
        await worker.lent(1_000, 100)
        return worker.purse.told(idle=False).back

    assert virtual_run(main()) == 1_000 - 100 - 2 * 100


def test_while_a_request_waits_what_is_too_little_for_it_is_for_others() -> None:
    async def main() -> None:
        worker = Worker()
        await worker.lent(250, 100)
        waiting = asyncio.create_task(worker.ledger.agrant(ALL, account=worker.purse))
        await asyncio.sleep(0)
        said = worker.purse.told(idle=False)
        assert said.asked is not None
        assert (said.asked.least, said.back) == (500, 150)
        worker.purse.grant(600)
        assert await waiting == 500
        assert worker.purse.told(idle=False).back == 0, "nobody waits any more"

    virtual_run(main())


def test_a_worker_that_is_lent_nothing_asks_no_more_and_keeps_nothing() -> None:
    async def main() -> None:
        worker = Worker()
        await worker.lent(250, 100)
        waiting = asyncio.create_task(worker.ledger.agrant(ALL, account=worker.purse))
        await asyncio.sleep(0)
        worker.purse.told(idle=False)
        worker.purse.grant(0)
        assert await waiting == 0
        assert isinstance(worker.purse.refusal, NoMoreMoney)
        woken = worker.woken
        assert worker.ask(500) is Grant.STOP
        assert (worker.woken, worker.purse.asks) == (woken, False)
        worker.ledger.settle(100, 0, 0, worker.purse)
        assert worker.purse.told(idle=False).back == 100, "whatever comes free later"

    virtual_run(main())


def test_a_request_that_needs_less_than_one_that_was_refused_asks_for_itself() -> None:
    async def main() -> None:
        worker = Worker()
        large = asyncio.create_task(worker.ledger.agrant(ALL, account=worker.purse))
        small = asyncio.create_task(worker.ledger.agrant(Ask(60, 60), account=worker.purse))
        await asyncio.sleep(0)
        asked = worker.purse.told(idle=False).asked
        assert asked is not None
        assert asked.least == 500
        worker.purse.grant(0, "too dear")
        assert await large == 0
        asked = worker.purse.told(idle=False).asked
        assert asked is not None
        assert asked.least == 60
        worker.purse.grant(200)
        assert await small == 60
        assert worker.purse.refusal is None
        assert worker.ask(500) is Grant.WAIT, "where there is money again, the large one asks again"

    virtual_run(main())


def test_a_new_purse_is_empty_and_its_ledger_limits_nothing() -> None:
    worker = Worker()
    assert isinstance(worker.purse, Purse)
    assert not worker.purse.covers(1)
    assert worker.ledger.share() < 1e-9
    assert worker.ledger.left() == 1 << 62


# -- the process with the budget


def lumps(budget: int | None = 1_000, workers: int = 1) -> tuple[Lumps, Ledger | None, Spending]:
    spending = Spending()
    ledger = None if budget is None else Ledger(budget)
    return Lumps(ledger, spending, lambda: workers), ledger, spending


def test_a_lump_is_what_is_asked_and_near_the_limit_half_of_a_workers_part() -> None:
    async def main() -> None:
        ours, ledger, _ = lumps()
        assert ledger is not None
        assert await ours.grant(MoneyAsked(100, 300)) == 300
        assert await ours.grant(MoneyAsked(100, 900)) == 350, (
            "700 are left for twice as many lumps as workers"
        )
        assert (ours.held, ledger.reserved) == (650, 650)
        two, _, _ = lumps(workers=2)
        assert await two.grant(MoneyAsked(100, 900)) == 250
        assert await two.grant(MoneyAsked(400, 900)) == 400, "at least what its request needs"
        assert await two.grant(MoneyAsked(0, 0)) == 1, "no more than nothing would be a refusal"

    virtual_run(main())


def test_a_lump_waits_for_what_may_come_back_and_is_refused_what_never_will() -> None:
    async def main() -> None:
        ours, ledger, _ = lumps(500)
        other = Lumps(ledger, Spending(), lambda: 1)
        await ours.grant(MoneyAsked(400, 400))
        waiting = asyncio.create_task(other.grant(MoneyAsked(300, 300)))
        await asyncio.sleep(0)
        assert not waiting.done()
        ours.book(MoneyTold(back=300))
        assert await waiting == 300
        assert await ours.grant(MoneyAsked(501, 501)) == 0
        assert ours.held == 100

    virtual_run(main())


def test_what_a_worker_spent_is_booked_out_of_its_lump_and_what_it_gives_back_is_free() -> None:
    async def main() -> None:
        ours, ledger, spending = lumps()
        assert ledger is not None
        await ours.grant(MoneyAsked(300, 300))
        ours.book(MoneyTold(70, 20, 30))
        assert (ours.held, ledger.reserved, ledger.spent, ledger.overshoot) == (180, 180, 90, 0)
        assert (spending.reported, spending.uncertain) == (70, 20)
        ours.book(MoneyTold(back=1_000))
        assert (ours.held, ledger.reserved, ledger.spent) == (0, 0, 90), "no more than it held"
        await ours.grant(MoneyAsked(100, 100))
        ours.book(MoneyTold(150, 0))
        assert (ours.held, ledger.reserved, ledger.spent, ledger.overshoot) == (0, 0, 240, 50)
        ours.book(MoneyTold())
        assert (ours.held, ledger.reserved, ledger.spent) == (0, 0, 240)

    virtual_run(main())


def test_what_a_dead_worker_held_counts_as_spent_and_one_that_held_nothing_took_nothing() -> None:
    async def main() -> None:
        ours, ledger, spending = lumps()
        assert ledger is not None
        ours.lost()
        assert (ledger.spent, ledger.in_flight) == (0, 0)
        await ours.grant(MoneyAsked(300, 300))
        ours.lost()
        assert (ours.held, ledger.reserved, ledger.spent) == (0, 0, 300)
        assert (spending.reported, spending.uncertain) == (0, 300)

    virtual_run(main())


def test_without_a_budget_what_was_spent_is_counted_all_the_same() -> None:
    ours, _, spending = lumps(None)
    ours.book(MoneyTold(70, 20))
    ours.lost()
    assert (spending.reported, spending.uncertain) == (70, 20)


def test_what_was_leased_for_a_rush_of_workers_is_given_back_though_no_row_is_stored_for_hours() -> None:
    async def main() -> None:
        run = MemoryStore().open_run("files", None)
        spending, ledger = Spending(run), Ledger(100_000)
        ours = Lumps(ledger, spending, lambda: 1)
        await ours.grant(MoneyAsked(40_000, 40_000))
        ours.book(MoneyTold(reported=100, back=39_000))
        assert run.spent().leased == 40_000, "the rush may go on"
        await asyncio.sleep(60)
        ours.book(MoneyTold(reported=100))
        stored = run.spent()
        assert (stored.reported, ours.held) == (200, 800)
        assert 1_000 <= stored.leased < 2_000, "after a kill now, the rest can be spent"
        await ours.grant(MoneyAsked(5_000, 5_000))
        assert run.spent().leased >= spending.committed == 200 + 5_800, "durable before it is lent"
        run.close()

    virtual_run(main())


PER_HOUR = 3_600_000  # a thousand a second


async def _converse(worker: Worker, lumps: Lumps) -> None:
    asking: asyncio.Task[int] | None = None
    while True:
        await asyncio.sleep(0.05)
        told = worker.purse.told(idle=False)
        lumps.book(told)
        if told.asked is not None:
            asking = asyncio.create_task(lumps.grant(told.asked))
        if asking is not None and asking.done():
            worker.purse.grant(asking.result())
            asking = None


async def _evenly(workers: int, until_s: float, *, cost: int, bound: int, takes_s: float) -> list[float]:
    """Rows of workers that each have 20 of them under way, as long as there is money; when they were paid."""
    ledger = Ledger(Amounts(per_hour=PER_HOUR, wait=True))
    paid: list[float] = []

    async def row(worker: Worker) -> None:
        while clock.now() < until_s:
            amount = await worker.ledger.agrant(Ask(bound, bound), account=worker.purse)
            await asyncio.sleep(takes_s)
            paid.append(clock.now())
            worker.ledger.settle(amount, cost, account=worker.purse)

    spending, tasks = Spending(), []
    for _ in range(workers):
        worker = Worker()
        tasks.append(asyncio.create_task(_converse(worker, Lumps(ledger, spending, lambda: workers))))
        tasks += [asyncio.create_task(row(worker)) for _ in range(20)]
    await asyncio.sleep(until_s)
    for task in tasks:
        task.cancel()
    return paid


@pytest.mark.parametrize(("cost", "takes_s"), [(1_000, 0.02), (1_000, 20), (50, 1)])
def test_workers_spend_an_hours_budget_as_evenly_as_one_process(cost: int, takes_s: float) -> None:
    paid = virtual_run(_evenly(3, 600, cost=cost, bound=4 * cost, takes_s=takes_s))
    pace = PER_HOUR / 3_600 / cost  # rows a second
    for minutes in (1, 10):
        done = sum(then <= 60 * minutes for then in paid)
        assert done <= pace * 60 * (minutes + 1) + 60, "a first minute's worth, and no more than an even pace"
    assert len(paid) >= 0.8 * pace * 600, "nothing stands still"


def test_what_was_granted_as_a_worker_said_its_last_is_not_counted_as_spent() -> None:
    async def main() -> None:
        ours, ledger, spending = lumps()
        assert ledger is not None
        worker = Worker()
        await worker.lent(await ours.grant(MoneyAsked(300, 300)), 100)
        ours.book(last := worker.purse.told(idle=True))
        assert (ours.held, last.reserved) == (100, 100)
        await ours.grant(MoneyAsked(0, 400))
        ours.over(last)
        assert (ours.held, ledger.reserved, ledger.spent) == (0, 0, 100), "its request may still be paid"
        assert (spending.reported, spending.uncertain) == (0, 100)

    virtual_run(main())
