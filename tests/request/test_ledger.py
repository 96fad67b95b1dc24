"""What the ledger promises: one case at a time, any history, and storms of loops and threads."""

from __future__ import annotations

import asyncio
import threading
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cottonpalm.request.money.ledger import Ledger
from cottonpalm.request.money.rules.amounts import Amounts
from cottonpalm.request.money.rules.grants import Grant
from cottonpalm.runtime import loop_shutdown
from cottonpalm.runtime.wait_queue import RowClosed, Waiter
from tests.request.stage import Stage, restless  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.core


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


def test_money_in_flight_is_waited_for_and_what_is_spent_is_not() -> None:
    ledger = Ledger(100)
    assert ledger.try_grant(60) == 60
    assert ledger.try_grant(60) is Grant.WAIT
    assert ledger.try_grant(101) is Grant.STOP
    ledger.settle(60, 50)
    assert ledger.try_grant(60) is Grant.STOP
    assert ledger.try_grant(50) == 50


def test_a_settle_wakes_who_fits_now_and_stops_who_never_will(stage: Stage) -> None:
    ledger = Ledger(100)
    assert ledger.try_grant(100) == 100
    fits, never = stage.start(ledger.agrant(60)), stage.start(ledger.agrant(60))
    stage.call(ledger.settle, 100, 20)
    assert (fits.result(), never.done()) == (60, False)
    stage.call(ledger.settle, 60, 60)
    assert never.result() == 0
    assert (ledger.spent, ledger.reserved, ledger.waiting) == (80, 0, 0)


def test_who_waits_goes_by_priority_then_by_arrival_and_no_small_one_passes(stage: Stage) -> None:
    ledger = Ledger(100)
    ledger.try_grant(100)
    order: list[str] = []

    async def want(name: str, bound: int, priority: float) -> None:
        assert await ledger.agrant(bound, priority)
        order.append(name)

    for name, bound, priority in [("a", 10, 0), ("b", 90, 1), ("c", 10, 0)]:
        stage.start(want(name, bound, priority))
    stage.call(ledger.settle, 100, 10)
    assert order == ["b"]
    assert ledger.try_grant(0) is Grant.WAIT
    stage.call(ledger.settle, 90, 0)
    assert order == ["b", "a", "c"]


def test_a_cancel_at_any_moment_leaves_nothing_reserved(stage: Stage) -> None:
    ledger = Ledger(100)
    ledger.try_grant(100)
    first, second = stage.start(ledger.agrant(80)), stage.start(ledger.agrant(80))

    def settle_and_cancel() -> None:
        ledger.settle(100, 0)
        first.cancel()

    stage.call(settle_and_cancel)
    assert first.cancelled()
    assert second.result() == 80
    assert ledger.reserved == 80


def test_raising_the_ceiling_wakes_waiters_and_lowering_it_stops_them(stage: Stage) -> None:
    ledger = Ledger(100)
    ledger.try_grant(100)
    one, two = stage.start(ledger.agrant(50)), stage.start(ledger.agrant(50))
    ledger.limits = Amounts(150)
    stage.settle()
    assert (one.result(), two.done()) == (50, False)
    ledger.limits = Amounts(40)
    stage.settle()
    assert two.result() == 0


def test_without_a_ceiling_it_only_counts() -> None:
    ledger = Ledger(None)
    assert ledger.grant(10**18)
    ledger.settle(10**18, 5)
    assert (ledger.spent, ledger.reserved, ledger.limits.total) == (5, 0, None)


def test_a_request_dearer_than_its_bound_shows_as_overshoot() -> None:
    ledger = Ledger(100)
    ledger.grant(10)
    ledger.settle(10, 15)
    ledger.grant(10)
    ledger.settle(10, 3)
    assert (ledger.spent, ledger.overshoot) == (18, 5)


def test_a_thread_waits_for_money_and_can_be_sent_away() -> None:
    ledger = Ledger(100)
    ledger.grant(100)
    with pytest.raises(RowClosed):
        ledger.grant(50, on_wait=Waiter.abandon)
    in_line = threading.Event()
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(ledger.grant(50, 0, lambda _: in_line.set())))
    thread.start()
    assert in_line.wait(30)
    ledger.settle(100, 10)
    thread.join(30)
    assert answers == [50]
    assert (ledger.reserved, ledger.waiting) == (50, 0)


def test_its_words_tell_its_state() -> None:
    ledger = Ledger(2 * 10**12)
    ledger.grant(5 * 10**11)
    assert repr(ledger) == "<Ledger $0.000000 spent + $0.500000 reserved of $2.000000, 0 waiting>"
    assert "no ceiling" in repr(Ledger(None))


class LedgerMachine(RuleBasedStateMachine):
    """Any history on one loop; the model is what is reserved, what is spent, and who waits."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage()
        self.stage.__enter__()
        self.ledger = Ledger(1000)
        self.reserved: list[int] = []
        self.spent = 0
        self.line: list[tuple[int, asyncio.Task[int]]] = []

    @property
    def ceiling(self) -> int:
        return self.ledger.limits.total or 0

    @rule(bound=st.integers(1, 600), priority=st.integers(-1, 1))
    def ask(self, bound: int, priority: int) -> None:
        self.line.append((bound, self.stage.start(self.ledger.agrant(bound, priority))))
        self.see_answers()

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.line) - 1))
        _, task = self.line.pop(number)
        task.cancel()
        self.stage.settle()
        self.see_answers()

    @precondition(lambda self: self.reserved)
    @rule(data=st.data(), share=st.floats(0, 1))
    def settle(self, data: st.DataObject, share: float) -> None:
        bound = self.reserved.pop(data.draw(st.integers(0, len(self.reserved) - 1)))
        self.spent += int(bound * share)
        self.stage.call(self.ledger.settle, bound, int(bound * share))
        self.see_answers()

    @rule(more=st.integers(0, 500))
    def raise_the_ceiling(self, more: int) -> None:
        self.ledger.limits = Amounts(self.ceiling + more)
        self.stage.settle()
        self.see_answers()

    @rule(bounds=st.lists(st.integers(1, 300), min_size=1, max_size=4))
    def close_a_loop(self, bounds: list[int]) -> None:
        """Some of its tasks have their requests on the wire when it is closed by hand, others wait in line."""

        async def send(bound: int) -> None:
            if await self.ledger.agrant(bound):
                self.reserved.append(bound)
                try:
                    await asyncio.get_running_loop().create_future()
                finally:
                    self.reserved.remove(bound)
                    self.spent += bound
                    self.ledger.settle(bound, 0, bound)

        loop = asyncio.new_event_loop()
        tasks = [loop.create_task(send(bound)) for bound in bounds]
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
        for task in tasks:
            loop_shutdown.end(task)
        self.stage.settle()
        self.see_answers()

    def see_answers(self) -> None:
        for bound, task in self.line:
            if task.done() and task.result():
                self.reserved.append(bound)
            elif task.done():
                assert self.spent + bound > self.ceiling, "refused what may still fit"
        self.line = [(bound, task) for bound, task in self.line if not task.done()]

    @invariant()
    def the_books_agree_and_stay_under_the_ceiling(self) -> None:
        assert (self.ledger.spent, self.ledger.reserved) == (self.spent, sum(self.reserved))
        assert self.ledger.waiting == len(self.line)
        assert self.ledger.spent + self.ledger.reserved <= self.ceiling
        assert self.ledger.overshoot == 0

    @invariant()
    def nobody_waits_while_nothing_is_in_flight(self) -> None:
        assert not self.line or sum(self.reserved) > 0

    def teardown(self) -> None:
        try:
            while self.reserved:
                self.settle_all()
            assert (self.ledger.reserved, self.ledger.waiting, self.line) == (0, 0, [])
        finally:
            self.stage.close()

    def settle_all(self) -> None:
        bound = self.reserved.pop()
        self.spent += bound
        self.stage.call(self.ledger.settle, bound, bound)
        self.see_answers()


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)


class Storm:
    """Three loops and three threads that spend until nothing is left."""

    def __init__(self, seed: int) -> None:
        self.ledger = Ledger(100_000)
        self.seed = seed
        self.answers: list[int] = []
        self.above: list[int] = []

    def spend(self, bound: int, granted: int, rng: Random) -> None:
        self.answers.append(granted)
        if granted:
            with self.ledger._lock:
                if self.ledger.spent + self.ledger.reserved > 100_000:
                    self.above.append(self.ledger.spent)
            self.ledger.settle(bound, rng.randrange(bound + 1))

    async def ask(self, rng: Random) -> None:
        bound = rng.randrange(1, 30_000)
        self.spend(bound, await self.ledger.agrant(bound, rng.randrange(2)), rng)

    async def on_loop(self, number: int) -> None:
        rng = Random(self.seed * 10 + number)
        tasks = [asyncio.create_task(self.ask(rng)) for _ in range(200)]
        for task in tasks:
            if rng.random() < 0.3:
                task.cancel()
            await asyncio.sleep(0)
        await asyncio.wait(tasks)

    def on_thread(self, number: int) -> None:
        rng = Random(self.seed * 10 + number)
        for _ in range(100):
            bound = rng.randrange(1, 30_000)
            self.spend(bound, self.ledger.grant(bound), rng)

    def run(self) -> None:
        threads = [
            threading.Thread(target=asyncio.run, args=(self.on_loop(n),), daemon=True) for n in range(3)
        ]
        threads += [threading.Thread(target=self.on_thread, args=(n,), daemon=True) for n in range(3, 6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive(), f"stuck: {self.ledger!r}"


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("seed", range(3))
def test_a_storm_of_loops_and_threads_never_passes_the_ceiling(seed: int) -> None:
    storm = Storm(seed)
    storm.run()
    assert storm.above == []
    assert (storm.ledger.reserved, storm.ledger.waiting, storm.ledger.overshoot) == (0, 0, 0)
    assert {True, False} == set(map(bool, storm.answers))
