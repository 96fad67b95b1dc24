"""Any history of all limits together: asks, quotas, ceilings and a pause, with several things at once in each tick.

A tick is up to five actions in one step of the loop, before anybody who was woken has run. The model keeps who
waits, who holds a permit, and what was sent when; it knows nothing of how the limiter decides.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cottonpalm.request.limiter.limiter import Limiter, Permit
from cottonpalm.request.limiter.rules.ceilings import MINUTE_S
from cottonpalm.request.limiter.rules.concurrency import Concurrency
from cottonpalm.runtime import loop_shutdown
from cottonpalm.types import Quota, Usage, Verdict
from tests.request.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable


MOST_REQUESTS, MOST_TOKENS = 30.0, 3_000.0
MOST_IN_FLIGHT = 12
UNITS = ("requests", "tokens", "input tokens", "output tokens")
VERDICTS = (
    Verdict.SUCCESS,
    Verdict.SUCCESS,
    Verdict.DROPPED,
    Verdict.OVERLOADED,
    Verdict.LOST,
    Verdict.IGNORED,
)


class Waiting(NamedTuple):
    task: asyncio.Task[Permit]
    ask: int


QUOTAS = st.lists(
    st.builds(
        Quota,
        st.sampled_from(UNITS),
        st.sampled_from([500.0, 5_000.0]),
        st.sampled_from([0.0, 3.0, 20.0]),
        st.sampled_from([None, 0.5, 60.0]),
    ),
    max_size=2,
    unique_by=lambda quota: quota.unit,
).map(tuple)
ACTIONS = st.one_of(
    st.tuples(st.just("come"), st.integers(0, 400) | st.just(4_000), st.integers(-2, 2)),
    st.tuples(st.just("look in"), st.integers(0, 400), st.integers(-2, 2)),
    st.tuples(st.just("force"), st.integers(0, 400)),
    st.tuples(st.just("cancel"), st.integers(0, 99)),
    st.tuples(
        st.just("give back"),
        st.integers(0, 99),
        st.sampled_from(VERDICTS),
        st.sampled_from([None, 50, 300]),  # tokens really used
        st.sampled_from([0.0, 0.0, 0.0, 2.0, 20.0]),  # the wait the provider names
        QUOTAS,
    ),
    st.tuples(st.just("close a loop"), st.integers(0, 400), st.booleans(), st.booleans()),
)


class LimitsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage()
        self.stage.__enter__()
        self.line: list[Waiting] = []
        self.held: list[Permit] = []
        self.asked: dict[Permit, float] = {}  # by all that were ever sent: tokens...
        self.used: dict[
            Permit, tuple[float, int]
        ] = {}  # ... really used, and permits granted before that was known

    @initialize(requests=st.booleans(), tokens=st.booleans())
    def begin(self, requests: bool, tokens: bool) -> None:
        ceilings = [("requests", MOST_REQUESTS)] * requests + [("tokens", MOST_TOKENS)] * tokens
        self.limiter = Limiter("k", Concurrency(4, 1, MOST_IN_FLIGHT), ceilings)  # type: ignore[arg-type]
        self.most_requests = MOST_REQUESTS if requests else float("inf")
        self.most_tokens = MOST_TOKENS if tokens else float("inf")

    # What happens

    @rule(actions=st.lists(ACTIONS, min_size=1, max_size=5))
    def tick(self, actions: list[tuple]) -> None:
        closing = [action[1:] for action in actions if action[0] == "close a loop"]
        closes = [self.wait_on_another_loop(*about) for about in closing]

        def act() -> None:
            for name, *about in actions:
                getattr(self, name.replace(" ", "_"))(*about)

        self.stage.call(act)
        for close in closes:
            close()
        self.stage.settle()
        self.see_grants()

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 5.0, 19.0, 60.0]))
    def pass_time(self, seconds: float) -> None:
        self.stage.advance(seconds)
        self.see_grants()

    def come(self, ask: int, priority: int) -> None:
        task = self.stage.loop.create_task(self.limiter.aacquire(priority, ask))
        self.stage.tasks.append(task)
        self.line.append(Waiting(task, ask))

    def look_in(self, ask: int, priority: int) -> None:
        if (permit := self.limiter.try_acquire(priority, ask)) is not None:
            self.took(permit, ask)

    def force(self, ask: int) -> None:
        self.took(self.limiter.force(ask), ask)

    def cancel(self, which: int) -> None:
        """Also of one that was granted a permit in this tick and does not know yet."""
        if self.line:
            self.line.pop(which % len(self.line)).task.cancel()

    def give_back(
        self, which: int, verdict: Verdict, used: int | None, pause_s: float, quotas: tuple[Quota, ...]
    ) -> None:
        if not self.held:
            return
        permit = self.held.pop(which % len(self.held))
        usage = None if used is None else Usage(used // 2, used - used // 2)
        if usage is not None:
            self.used[permit] = used, self.limiter.granted
        self.limiter.release(permit, verdict, pause_s, quotas=quotas, usage=usage)
        self.limiter.release(permit, verdict, pause_s, quotas=quotas, usage=usage)  # does nothing

    def close_a_loop(self, ask: int, stays: bool, collected: bool) -> None:
        """Nothing happens in the tick: its task lined up before, and its loop closes after it."""

    def wait_on_another_loop(self, ask: int, stays: bool, collected: bool) -> Callable[[], None]:
        """A task that takes a permit; one that `stays` holds it when its loop closes.

        Then it is ended as we do it, or `collected` as garbage.
        """

        async def send() -> None:
            permit = await self.limiter.aacquire(0, ask)
            self.took(permit, ask)
            if stays:
                try:
                    await asyncio.get_running_loop().create_future()
                finally:
                    if permit in self.held:
                        self.held.remove(permit)
                    self.limiter.release(permit, Verdict.IGNORED)

        loop = asyncio.new_event_loop()
        task = loop.create_task(send())
        loop.call_soon(loop.stop)
        loop.run_forever()

        def close() -> None:
            loop.close()
            if collected:
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio would complain of our abuse
                task.get_coro().close()  # type: ignore[union-attr]
            else:
                loop_shutdown.end(task)

        return close

    # What must hold

    def took(self, permit: Permit, ask: int) -> None:
        self.held.append(permit)
        self.asked[permit] = ask
        if not permit.forced:
            assert permit.ordinal <= MOST_IN_FLIGHT, "granted above the limit"
            self.check_minute(permit)

    def check_minute(self, last: Permit) -> None:
        """What went in the minute up to this request, itself included, was below every ceiling."""
        minute = [
            self.tokens(permit, last)
            for permit in self.asked
            if last.at_s - MINUTE_S < permit.at_s and permit.number <= last.number
        ]
        assert len(minute) <= self.most_requests
        assert sum(minute) <= self.most_tokens or sum(tokens > 0 for tokens in minute) == 1, (
            "only what is too large by itself goes alone"
        )

    def tokens(self, permit: Permit, at: Permit) -> float:
        """What a request counted when another one went: what it used, if that was known by then."""
        used, granted = self.used.get(permit, (0.0, at.number))
        return used if granted < at.number else self.asked[permit]

    def see_grants(self) -> None:
        granted = [one for one in self.line if one.task.done()]
        self.line = [one for one in self.line if not one.task.done()]
        for one in granted:
            self.took(one.task.result(), one.ask)

    @invariant()
    def counts_agree(self) -> None:
        if hasattr(self, "limiter"):
            assert self.limiter.waiting == len(self.line)
            assert self.limiter.in_flight == len(self.held)
            assert 1 <= self.limiter.limit <= MOST_IN_FLIGHT

    @invariant()
    def nobody_waits_who_could_go(self) -> None:
        if not self.line:
            return
        limiter = self.limiter
        full = limiter.in_flight >= int(limiter.limit)
        timed = limiter._look_again_s() is not None and self.stage.loop in limiter._armed
        asking = limiter.admission.recovery.probe is not None  # the others wait for what it comes to
        assert full or asking or timed, "a lost wake-up"

    def teardown(self) -> None:
        try:
            for _ in range(len(self.line) + 2):
                for permit in [*self.held, *(one.task.result() for one in self.line if one.task.done())]:
                    self.stage.call(self.limiter.release, permit, Verdict.SUCCESS)  # once: more does nothing
                for _ in range(60):  # a quota that others seem to use up comes back at a fiftieth of its pace
                    self.stage.advance(60)
            assert (self.limiter.in_flight, self.limiter.waiting) == (0, 0), "somebody starves"
            self.stage.advance(MINUTE_S + 1)
            self.limiter.admission.book()
            for _, ceiling in self.limiter.admission.ceilings:
                assert ceiling.wait_s(self.stage.loop.now_s, ceiling.most) == 0, "tokens leaked"
        finally:
            self.stage.close()


TestLimitsMachine = LimitsMachine.TestCase
TestLimitsMachine.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
