"""Any history of a limiter: tasks come, are cancelled, give back with any verdict and pause; time passes.

The model is a list of who waits and one of permits held. After each step the limiter must agree with it, and
nobody may be left waiting who could go.
"""

from __future__ import annotations

import asyncio  # noqa: TC003 - a NamedTuple names its type
from typing import NamedTuple

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cottonpalm.request.limiter.limiter import Limiter, Permit
from cottonpalm.request.limiter.rules.causes import Cause
from cottonpalm.request.limiter.rules.concurrency import Concurrency
from cottonpalm.runtime.priority import ageing_key
from cottonpalm.types import Verdict
from tests.request.stage import Stage


class Waiting(NamedTuple):
    key: float
    number: int
    task: asyncio.Task[Permit]


class TurnstileMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage()
        self.stage.__enter__()
        self.limiter = Limiter("k", Concurrency(4, 1, 12))
        self.line: list[Waiting] = []
        self.held: list[Permit] = []
        self.arrivals = 0
        self.pause_ends = 0.0

    # What happens

    @rule(priority=st.integers(-2, 2))
    def come(self, priority: int) -> None:
        key = ageing_key(self.stage.loop.now_s, priority)
        task = self.stage.start(self.limiter.aacquire(priority))
        self.line.append(Waiting(key, self.arrivals, task))
        self.arrivals += 1
        self.see_grants()

    @rule(priority=st.integers(-2, 2))
    def look_in(self, priority: int) -> None:
        permit = self.limiter.try_acquire(priority)
        if permit is not None:
            self.check_may_go()
            self.took(permit)

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        gone = data.draw(st.sampled_from(self.line))
        gone.task.cancel()
        self.stage.settle()
        self.line.remove(gone)
        self.see_grants()

    @precondition(lambda self: self.held)
    @rule(
        data=st.data(),
        verdict=st.sampled_from(
            [Verdict.SUCCESS, Verdict.SUCCESS, Verdict.DROPPED, Verdict.LOST, Verdict.IGNORED]
        ),
        pause_s=st.sampled_from([0.0, 0.0, 0.0, 1.0, 20.0]),
        crossing_cancel=st.booleans(),
    )
    def give_back(self, data: st.DataObject, verdict: Verdict, pause_s: float, crossing_cancel: bool) -> None:
        permit = data.draw(st.sampled_from(self.held))
        admission = self.limiter.admission
        self.stage.call(self.limiter.adjust, lambda: admission._news(self.stage.loop.now_s))
        self.see_grants()
        before, generation = self.limiter.limit, self.limiter.generation
        first = min(self.line) if self.line and crossing_cancel else None

        def act() -> None:
            alone_s = self.limiter.release(permit, verdict, pause_s)
            assert alone_s in {0.0, pause_s if verdict is Verdict.DROPPED else 0.0}
            self.learn(pause_s - alone_s)
            if first is not None:
                first.task.cancel()

        self.held.remove(permit)
        self.stage.call(act)
        if first is not None:
            self.line.remove(first)
        self.check_limit(permit, verdict, before, generation)
        self.see_grants()

    @precondition(lambda self: len(self.held) < 20)
    @rule()
    def force(self) -> None:
        permit = self.limiter.force()
        assert permit.forced
        self.held.append(permit)

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 19.0, 60.0]))
    def pass_time(self, seconds: float) -> None:
        before, resting = len(self.held), self.stage.loop.now_s < self.pause_ends
        self.stage.advance(seconds)
        self.see_grants()
        if resting:
            assert len(self.held) <= before + 1, "more than a probe at the end of a pause"

    # What must hold

    def learn(self, pause_s: float) -> None:
        if pause_s and self.stage.loop.now_s + pause_s > self.pause_ends:
            self.pause_ends = self.stage.loop.now_s + pause_s

    def check_limit(self, permit: Permit, verdict: Verdict, before: float, generation: int) -> None:
        after = self.limiter.limit
        if verdict is Verdict.DROPPED and permit.generation < generation:
            assert self.limiter.generation == generation, "an old rejection cuts nothing"
        resisted = verdict in {Verdict.DROPPED, Verdict.LOST}
        assert self.limiter.generation - generation in ((0, 1) if resisted else (0,))
        starting = (
            self.limiter.admission.concurrency.starting
        )  # it may grow by those that were admitted meanwhile
        given_back = (
            self.limiter.admission.cause is Cause.CHANGED
        )  # one that was alone: it was not the number
        assert verdict is not Verdict.DROPPED or after <= before or starting or given_back

    def check_may_go(self) -> None:
        assert self.stage.loop.now_s >= self.pause_ends, "granted during a pause"
        probing = self.limiter.admission.recovery.probe is not None
        assert self.limiter.in_flight <= (12 if probing else int(self.limiter.limit)), (
            "granted above the limit"
        )

    def took(self, permit: Permit) -> None:
        self.held.append(permit)

    def see_grants(self) -> None:
        granted = [one for one in self.line if one.task.done()]
        self.line = [one for one in self.line if not one.task.done()]
        if granted:
            self.check_may_go()
            assert not self.line or max(granted)[:2] < min(self.line)[:2], "somebody was overtaken"
        for one in granted:
            self.took(one.task.result())

    @invariant()
    def counts_agree(self) -> None:
        assert self.limiter.in_flight == len(self.held)
        assert self.limiter.waiting == len(self.line)
        assert 1 <= self.limiter.limit <= 12

    @invariant()
    def nobody_waits_who_could_go(self) -> None:
        if not self.line or self.stage.loop.now_s < self.pause_ends:
            return
        full = self.limiter.in_flight >= int(self.limiter.limit)
        asking = self.limiter.admission.recovery.probe is not None  # the others wait for what it comes to
        timed = self.limiter._look_again_s()
        assert full or asking or (timed is not None and self.limiter._armed)

    def teardown(self) -> None:
        try:
            for _ in range(len(self.line) + 2):
                granted = [one.task.result() for one in self.line if one.task.done()]
                for permit in (*self.held, *granted):  # those given back before stay given back
                    self.stage.call(self.limiter.release, permit, Verdict.SUCCESS)
                for _ in range(30):  # a probe, its patience, then the rest at a gentle pace
                    self.stage.advance(60)
            assert (self.limiter.in_flight, self.limiter.waiting) == (0, 0), "somebody starves"
        finally:
            self.stage.close()


TestTurnstileMachine = TurnstileMachine.TestCase
PHASES = (
    Phase.generate,
    Phase.shrink,
)  # to explain a failure each line is traced, which takes ten times as long
TestTurnstileMachine.settings = settings(
    max_examples=150, stateful_step_count=60, deadline=None, phases=PHASES
)
