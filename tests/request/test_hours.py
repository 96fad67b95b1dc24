"""A budget per hour: no hour passes it, waiting spends evenly for days, and a restart goes on where it was."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm import clock
from cottonpalm.protocols import Spent
from cottonpalm.request.money.ledger import Ledger
from cottonpalm.request.money.rules.amounts import Amounts
from cottonpalm.request.money.rules.grants import Ask, Grant
from cottonpalm.request.money.rules.hour import BURST_S, HOUR_S, STEP_S, Hour
from cottonpalm.request.money.spending import Spending
from cottonpalm.stores import open_store
from cottonpalm.testing import virtual_run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.core
LIMIT = 3_600_000  # a thousand per second


@given(st.lists(st.tuples(st.floats(0, 900), st.integers(1, 10**6)), min_size=1, max_size=60))
def test_what_counts_as_the_last_hour_is_never_less_than_it_was(spent: list[tuple[float, int]]) -> None:
    hour, now = Hour(), 0.0
    done: list[tuple[float, int]] = []
    for wait_s, pico in spent:
        now += wait_s
        hour.add(pico, now, LIMIT)
        done.append((now, pico))
        real = sum(pico for then, pico in done if then > now - HOUR_S)
        late = sum(pico for then, pico in done if then > now - HOUR_S - STEP_S)
        assert real <= hour.used(now) <= late


def test_money_comes_back_an_hour_after_it_was_spent() -> None:
    hour = Hour()
    hour.add(100, 1.0, LIMIT)
    hour.add(50, 1000.0, LIMIT)
    assert hour.used(STEP_S + HOUR_S) == 50


async def _rows(
    ledger: Ledger, until_s: float, *, cost: int, bound: int, at_once: int
) -> list[tuple[float, int]]:
    """Rows that take 20 s each and cost half of their bound, as long as there is money; when what was spent."""
    spent: list[tuple[float, int]] = []

    async def worker() -> None:
        while clock.now() < until_s and (amount := await ledger.agrant(Ask(bound, bound))):
            await asyncio.sleep(20)
            spent.append((clock.now(), cost))
            ledger.settle(amount, cost)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(worker())
    return spent


def dearest_hour(spent: list[tuple[float, int]]) -> int:
    ends = [then for then, _ in spent]
    return max(sum(pico for then, pico in spent if end - HOUR_S < then <= end) for end in ends)


def test_waiting_spends_evenly_for_days_and_no_hour_passes_its_budget() -> None:
    ledger = Ledger(Amounts(per_hour=LIMIT, wait=True))
    spent = virtual_run(_rows(ledger, 30 * HOUR_S, cost=40_000, bound=80_000, at_once=12))
    assert dearest_hour(spent) <= LIMIT
    total = sum(pico for _, pico in spent)
    assert 0.9 * LIMIT * 30 <= total <= LIMIT * 30 + 12 * 40_000
    first_minutes = sum(pico for then, pico in spent if then <= 600)
    assert first_minutes <= LIMIT / 6 + LIMIT * (BURST_S + 20) / HOUR_S + 12 * 40_000, "not all of it at once"
    quarters = [sum(pico for then, pico in spent if q * 900 < then <= (q + 1) * 900) for q in range(2, 118)]
    assert min(quarters) > 0.7 * LIMIT / 4, "no quarter of an hour stands still"


def test_stopping_spends_the_hours_money_at_once_and_stops() -> None:
    ledger = Ledger(Amounts(per_hour=LIMIT))

    async def main() -> float:
        spent = await _rows(ledger, 24 * HOUR_S, cost=20_000, bound=40_000, at_once=30)
        assert sum(pico for _, pico in spent) > 0.98 * LIMIT
        assert spent[-1][0] < 600
        return ledger.share()

    assert virtual_run(main()) > 0.98


def test_a_request_dearer_than_the_hours_budget_is_refused_not_waited_for() -> None:
    async def main() -> int:
        return await Ledger(Amounts(per_hour=100, wait=True)).agrant(101)

    assert virtual_run(main()) == 0


def test_a_total_stops_also_while_the_hour_would_wait() -> None:
    ledger = Ledger(Amounts(total=LIMIT // 2, per_hour=LIMIT, wait=True))
    spent = virtual_run(_rows(ledger, 24 * HOUR_S, cost=20_000, bound=40_000, at_once=5))
    assert LIMIT // 2 - 40_000 < sum(pico for _, pico in spent) <= LIMIT // 2


def test_raising_the_hours_budget_wakes_who_waits_for_it() -> None:
    async def main() -> float:
        ledger = Ledger(Amounts(per_hour=1000, wait=True))
        ledger.settle(await ledger.agrant(900), 900)
        waits = asyncio.create_task(ledger.agrant(900))
        await asyncio.sleep(60)
        assert not waits.done()
        ledger.limits = Amounts(per_hour=10**6, wait=True)
        assert await waits == 900
        return clock.now()

    assert virtual_run(main()) < 200


def test_threads_wait_for_the_hour_too() -> None:
    ledger = Ledger(Amounts(per_hour=1000, wait=True))
    ledger.settle(ledger.grant(1000), 16)  # just ahead of an even pace of one minute
    assert ledger.grant(984) == 984


def test_an_hours_spending_is_kept_over_a_restart(tmp_path: Path) -> None:
    async def life(seconds: float) -> list[tuple[float, int]]:
        store = open_store(tmp_path / "hours.db")
        run = store.open_run("night", None)
        account = Spending(run, timed=True)
        ledger = Ledger(Amounts(per_hour=LIMIT))
        ledger.attach(account)
        spent: list[tuple[float, int]] = []
        try:
            while amount := ledger.try_grant(Ask(40_000, 40_000), account=account):
                if not isinstance(amount, int):
                    if account.failure is None and not account.covers(40_000):
                        ledger.lease_now(Ask(40_000, 40_000), account)
                        continue
                    break
                ledger.settle(amount, 40_000, account=account)
                spent.append((clock.wall(), 40_000))
                await asyncio.sleep(seconds)
            account.close()
        finally:
            run.close()
            store.close()
        return spent

    async def main() -> None:
        first = await life(1.0)
        assert len(first) == LIMIT // 40_000
        await asyncio.sleep(60)
        assert await life(1.0) == [], "the hour is not over"
        await asyncio.sleep(HOUR_S - 60)
        second = await life(0.0)
        assert second
        assert dearest_hour(first + second) <= LIMIT

    virtual_run(main())


def test_what_was_leased_for_a_rush_does_not_count_as_spent_after_a_kill_long_after_it(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        store = open_store(tmp_path / "hours.db")
        run = store.open_run("night", None)
        account = Spending(run, timed=True)
        ledger = Ledger(Amounts(per_hour=LIMIT, wait=True))
        ledger.attach(account)
        ledger.lease_now(Ask(150_000, 150_000), account)
        for amount in [ledger.try_grant(Ask(3_000, 3_000), account=account) for _ in range(50)]:
            assert isinstance(amount, int)
            ledger.settle(amount, 100, account=account)
        assert ledger.record(account).leased >= 150_000, "the rush may go on"
        run.set_meta(now="all leases that were asked for are written")
        await asyncio.sleep(60)
        written = ledger.record(account)
        assert written.reported == 5_000
        assert written.leased <= 5_000 + 2 * 3_000
        ledger.lease_now(Ask(3_000, 3_000), account)
        assert ledger.try_grant(Ask(3_000, 3_000), account=account) == 3_000
        assert run.spent().leased >= account.committed, "durable before it is sent"
        run.close()
        store.close()

    virtual_run(main())


def test_spending_that_a_wrong_clock_noted_in_the_future_counts_for_an_hour_from_now() -> None:
    async def main() -> None:
        ledger, account = Ledger(Amounts(per_hour=LIMIT)), Spending()
        in_two_days = clock.wall() + 48 * HOUR_S
        account.earlier = Spent("night", reported=LIMIT, steps=((in_two_days, LIMIT),))
        ledger.attach(account)
        assert ledger.try_grant(Ask(40_000, 40_000), account=account) is Grant.STOP
        await asyncio.sleep(HOUR_S + STEP_S)
        assert ledger.try_grant(Ask(40_000, 40_000), account=account) == 40_000

    virtual_run(main())


def test_a_wait_too_short_for_the_clock_ends_all_the_same() -> None:
    per_hour = 3_600 * 10**12

    async def main() -> int:
        await asyncio.sleep(10**6)  # from here on the clock knows no picoseconds
        ledger = Ledger(Amounts(per_hour=per_hour, wait=True))
        amount = await ledger.agrant(per_hour // 60 + 1)
        ledger.settle(amount, amount)  # one pico-dollar ahead of the pace
        return await ledger.agrant(1)

    assert virtual_run(main()) == 1


def test_who_comes_later_leaves_the_wait_of_the_first_in_line_as_it_is() -> None:
    async def main() -> None:
        ledger = Ledger(Amounts(per_hour=LIMIT, wait=True))
        amount = await ledger.agrant(LIMIT // 2)
        ledger.settle(amount, amount)
        await asyncio.sleep(HOUR_S / 2 + 10)  # an even pace has caught up
        first = asyncio.create_task(ledger.agrant(3 * LIMIT // 4))
        await asyncio.sleep(0)
        before = ledger._look_again_s()
        assert before is not None
        assert ledger.try_grant(1) is Grant.WAIT  # it would fit, but is not the first
        assert ledger._look_again_s() == before
        assert await first

    virtual_run(main())
