"""The budget that actors of Ray Data draw on: how it ends, what is told twice, who falls silent. Without a cluster."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from cottonpalm import BatchProcessor, RunStopped
from cottonpalm.errors import StoreError
from cottonpalm.request.money.remote import MoneyAsked, MoneyTold
from cottonpalm.request.money.rules.amounts import Amounts
from cottonpalm.request.money.rules.grants import Ask
from cottonpalm.stores import open_store
from cottonpalm.types import PICO
from tests.scale.chains import asking as chain_at
from tests.scale.chains import rows
from tests.support.loopback import Loopback

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

money: Any = pytest.importorskip("cottonpalm.engine.executors.workers.ray.money", exc_type=ImportError)
BUDGET, BOUND, COST = 10_000, 100, 10


class Carried:
    """A method as Ray carries it: called by `remote`."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self.remote = method


class Handle:
    """A handle of the granting actor, in this process."""

    def __init__(self, actor: Any) -> None:
        self.tell, self.grant = Carried(actor.tell), Carried(actor.grant)


def granting(folder: Path) -> Any:
    return money.MoneyActor(str(folder / "s.db"), "job (budget)", Amounts(BUDGET))


def kept(folder: Path) -> tuple[int, int, int]:
    """What the store holds: reported, uncertain, leased."""
    store = open_store(str(folder / "s.db"))
    run = store.open_run("job (budget)", None)
    sums = run.spent()
    run.close()
    store.close()
    return sums.reported, sums.uncertain, sums.leased


async def drawn_to_its_end(actor: Any, folder: Path) -> int:
    """Requests of an actor, twenty at once, until it gets no more money; how many."""
    busy, done = True, 0
    drawing = money.Drawing(str(folder / "s.db"), "job", Amounts(BUDGET), lambda: not busy)
    drawing._actor = Handle(actor)

    async def requests() -> None:
        nonlocal done
        while amount := await drawing.ledger.agrant(Ask(BOUND, BOUND), account=drawing.purse):
            await asyncio.sleep(0.01)
            drawing.ledger.settle(amount, COST, account=drawing.purse)
            done += 1

    await asyncio.gather(*(requests() for _ in range(20)))
    busy = False
    await drawing.settle()
    drawing._task.cancel()
    return done


@pytest.mark.timeout(120)  # it hung: an actor that waits for money had not told what it no longer needs
def test_near_its_end_a_budget_is_spent_and_nobody_waits_for_what_he_holds_himself(tmp_path: Path) -> None:
    async def main() -> None:
        actor = granting(tmp_path)
        done = sum(await asyncio.gather(*(drawn_to_its_end(actor, tmp_path) for _ in range(2))))
        assert BUDGET - 2 * BOUND < done * COST <= BUDGET
        assert await actor.spent() == (done * COST, 0)
        actor._run.close()
        actor._store.close()
        assert kept(tmp_path) == (done * COST, 0, done * COST), "all of it is told, and nothing is lent"

    asyncio.run(main())


def test_what_is_told_again_is_booked_once(tmp_path: Path) -> None:
    async def main() -> None:
        actor = granting(tmp_path)
        assert await actor.grant("one", MoneyAsked(500, 500)) == 500
        assert await actor.spent() == (0, 500), "it may be spent, should this actor be dead"
        for _ in range(2):  # the answer to the first was lost
            await actor.tell("one", 1, MoneyTold(reported=100, back=200))
        assert await actor.spent() == (100, 200)
        assert actor._ledger.spent + actor._ledger.reserved == 300

    asyncio.run(main())


def test_one_that_begins_again_takes_all_that_was_lent_for_spent_and_nothing_twice(tmp_path: Path) -> None:
    async def main() -> None:
        first = granting(tmp_path)
        await first.tell("one", 1, MoneyTold(asked=MoneyAsked(500, 500)))
        await first.grant("one", MoneyAsked(500, 500))
        await first.tell("one", 2, MoneyTold(reported=100))
        await first.grant("one", MoneyAsked(300, 300))  # with it, the 100 are written down
        first._run.close()  # it dies before "one" hears that
        first._store.close()
        again = granting(tmp_path)
        await again.tell("one", 2, MoneyTold(reported=100))
        reported, uncertain = await again.spent()
        assert (reported, reported + uncertain >= 800) == (100, True)

    asyncio.run(main())


def test_money_granted_to_one_that_fell_silent_meanwhile_is_free_and_he_asks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(money, "SILENT_S", 0.3)

    async def main() -> None:
        actor = granting(tmp_path)
        assert await actor.grant("lively", MoneyAsked(BUDGET, BUDGET)) == BUDGET
        asking = asyncio.create_task(actor.grant("silent", MoneyAsked(500, 500)))
        for nth in range(1, 9):
            await actor.tell("lively", nth, MoneyTold())
            await asyncio.sleep(0.1)
        await actor.tell("lively", 9, MoneyTold(back=BUDGET))
        with pytest.raises(RuntimeError, match="said nothing"):
            await asking
        assert (actor._ledger.reserved, await actor.spent()) == (0, (0, 0))
        assert await actor.grant("silent", MoneyAsked(500, 500)) == 500

    asyncio.run(main())


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


def test_one_that_only_repeats_what_it_told_before_it_fell_silent_keeps_no_other_from_being_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(money, "SILENT_S", 0.3)

    async def main() -> None:
        actor = granting(tmp_path)
        for _ in range(2):  # the answer to the first was lost, and it was cut off
            await actor.tell("cut off", 1, MoneyTold())
            await until(lambda: "cut off" not in actor._heard_s)
        assert await actor.grant("dead", MoneyAsked(500, 500)) == 500
        await until(lambda: actor._ledger.reserved == 0)
        assert await actor.spent() == (0, 500)

    asyncio.run(main())


def test_a_budget_that_no_job_draws_on_is_free_for_others_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(money, "IDLE_S", 0.0)

    async def main() -> None:
        actor = granting(tmp_path)
        await actor.allow(Amounts(PICO))  # as `asking` does; the job itself never runs
        await until(lambda: actor._tidying is not None and actor._tidying.done())
        actor._tidying.exception()  # there is no actor here that could end
        assert kept(tmp_path) == (0, 0, 0)

    asyncio.run(main())


def test_a_store_that_takes_no_more_is_the_reason_and_the_next_job_begins_anew_with_it(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        actor = granting(tmp_path)
        assert await actor.grant("one", MoneyAsked(500, 500)) == 500
        for file in tmp_path.iterdir():
            file.unlink()
        with pytest.raises(StoreError, match="was moved, deleted or replaced"):
            await actor.grant("one", MoneyAsked(6000, 6000))
        await actor.allow(Amounts(BUDGET))
        assert await actor.grant("two", MoneyAsked(6000, 6000)) == 6000
        for file in tmp_path.iterdir():
            file.unlink()
        waiting = asyncio.create_task(actor.grant("three", MoneyAsked(6000, 6000)))
        await asyncio.sleep(0)
        await actor.allow(Amounts(BUDGET))  # nothing was written meanwhile that could have told
        with pytest.raises(StoreError, match="was moved, deleted or replaced"):
            await waiting
        assert await actor.grant("four", MoneyAsked(BUDGET, BUDGET)) == BUDGET

    asyncio.run(main())


@pytest.mark.parametrize("gone", [False, True])
def test_a_job_that_gets_no_more_money_says_why(tmp_path: Path, gone: bool) -> None:
    async def main(url: str) -> None:
        actor = granting(tmp_path)
        drawing = money.Drawing(str(tmp_path / "s.db"), "job", Amounts(BUDGET), lambda: False)
        drawing._actor = Handle(actor)
        processor = BatchProcessor(chain_at(url))
        processor._builder.accounts.purse = (drawing.ledger, drawing.purse)
        if gone:
            await actor.allow(Amounts(PICO))
            for file in tmp_path.iterdir():
                file.unlink()
        why = "what is spent cannot be made durable, and so no request is sent: .* was moved, deleted or replaced"
        too_little = "3 rows are left: what is left of the budget does not cover the request"
        with pytest.raises(RunStopped, match=f"after 0 rows: {why if gone else too_little}"):
            await processor.abatch(rows(3))
        drawing._task.cancel()

    with Loopback() as server:
        asyncio.run(main(server.openai_url))
        assert server.requests == 0
