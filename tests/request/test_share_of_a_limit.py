"""A process's share of a limit, renewal by renewal: what it writes, what it may use meanwhile, what it gives back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cottonpalm import clock
from cottonpalm.request.limiter.limiter import IN_FLIGHT, Limiter, Permit
from cottonpalm.request.limiter.portions import Given, InFlight, Leased
from cottonpalm.request.limiter.rules.binding import Snapshot, binding
from cottonpalm.request.limiter.rules.ceilings import SLACK, WINDOW_S
from cottonpalm.request.limiter.rules.concurrency import Concurrency
from cottonpalm.stores.rules.division import KEPT_S, POOL, TTL_S, Row
from cottonpalm.types import Verdict
from tests.request.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cottonpalm.request.limiter.portions import Gate, Renewed

pytestmark = pytest.mark.core
ME, OTHER, NOW = b"me", b"other", 1_000_000.0


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        clock.replace(stage.loop.time, lambda: NOW)
        yield stage


class Process:
    """A limiter and one of its gates; its rows are a list."""

    def __init__(self, stage: Stage, most: int = 50, per_minute: float | None = None) -> None:
        self.stage = stage
        ceilings = [] if per_minute is None else [("requests", per_minute)]
        self.limiter = Limiter("host/model#account", Concurrency(most, 1, most), ceilings)  # type: ignore[arg-type]
        self.tasks: list[object] = []

    def given(self, total: float) -> Given:
        if self.limiter.admission.ceilings:
            [(unit, ceiling)] = self.limiter.admission.ceilings
            return Given(self.limiter, unit, total, ceiling)
        return Given(self.limiter, IN_FLIGHT, total)

    def use(self, number: int) -> list[Permit]:
        """So many are in flight."""
        return [self.limiter.force() for _ in range(number)]

    def wait(self, number: int) -> None:
        for _ in range(number):
            self.tasks.append(self.stage.start(self.limiter.aacquire()))


def other(
    amount: float, want: float, *, least: float = 1.0, total: float = 0.0, left_s: float = TTL_S
) -> Row:
    return Row(OTHER, amount, least, want, total, firm=True, expires=NOW + left_s)


def renewed(gate: Gate, *rows: Row) -> tuple[Row, Renewed]:
    done = gate.renew(rows, ME, NOW)
    return done.rows[0], done


def kept(row: Row) -> Row:
    """The row as it is read at the next renewal."""
    return row


# -- a number that the user named


def test_alone_it_has_all_of_it_and_says_what_it_wants(stage: Stage) -> None:
    process = Process(stage)
    gate = process.given(10.0)
    row, done = renewed(gate)
    done.then()
    assert row == Row(ME, 10.0, 1.0, 10.0, 10.0, True, NOW + TTL_S), "who is new wants all"
    assert not done.soon
    idle, done = renewed(gate, kept(row))
    done.then()
    assert (idle.amount, idle.least, idle.want) == (10.0, 0.0, 0.0), "and with nothing to do nothing"
    assert process.limiter.shares == {IN_FLIGHT: 10}


def test_it_wants_a_quarter_more_than_it_uses_and_all_where_requests_wait_and_it_is_nearly_full(
    stage: Stage,
) -> None:
    process = Process(stage)
    gate = process.given(10.0)
    row, done = renewed(gate)
    done.then()
    process.use(4)
    row, done = renewed(gate, row)
    assert (row.least, row.want) == (1.0, 1.25 * 4 + 1)
    done.then()
    process.use(4)
    process.wait(4)
    row, done = renewed(gate, row)
    done.then()
    assert process.limiter.waiting > 0
    assert (row.least, row.want) == (1.0, 10.0)


def test_requests_that_have_just_ended_together_are_no_want_of_less(stage: Stage) -> None:
    process = Process(stage)
    gate = process.given(10.0)
    row, done = renewed(gate)
    done.then()
    sent = process.use(4)
    row, done = renewed(gate, row)
    done.then()
    for permit in sent:
        process.limiter.release(permit, Verdict.SUCCESS)
    row, done = renewed(gate, row)
    done.then()
    assert (row.least, row.want) == (1.0, 1.25 * 4 + 1), "the next ones are on their way"
    row, done = renewed(gate, row)
    assert (row.least, row.want) == (0.0, 0.0), "but none came"


def test_a_newcomer_takes_only_what_is_free_and_uses_it_when_it_is_written(stage: Stage) -> None:
    process = Process(stage)
    gate = process.given(10.0)
    row, done = renewed(gate, other(8.0, 10.0, total=10.0))
    assert row.amount == 2.0
    assert done.soon, "five are its fair share"
    done.then()
    assert process.limiter.shares[IN_FLIGHT] == 2
    process.wait(9)
    row, done = renewed(gate, row, other(5.0, 10.0, total=10.0))
    assert row.amount == 5.0
    assert process.limiter.shares[IN_FLIGHT] == 2, "not before it is written"
    done.then()
    assert process.limiter.shares[IN_FLIGHT] == 5
    assert not done.soon


def test_who_has_more_than_its_part_uses_less_at_once_and_holds_what_is_still_in_flight(stage: Stage) -> None:
    process = Process(stage)
    gate = process.given(10.0)
    row, done = renewed(gate)
    done.then()
    permits = process.use(10)
    process.wait(3)
    row, done = renewed(gate, row, other(0.0, 10.0, total=10.0))
    assert process.limiter.shares[IN_FLIGHT] == 5, "at once"
    assert row.amount == 10.0, "others must not take what is in use"
    assert done.soon
    done.then()
    for permit in permits[:5]:
        stage.call(process.limiter.release, permit, Verdict.IGNORED)
    row, done = renewed(gate, row, other(2.0, 10.0, total=10.0))
    assert row.amount == 5.0
    assert not done.soon


def test_what_others_leave_of_it_is_what_binds_and_not_the_provider(stage: Stage) -> None:
    """It was "concurrency", and the advice to add an endpoint, of a provider that had refused nothing."""
    process = Process(stage, most=10)
    _, done = renewed(process.given(10.0), other(8.0, 10.0, total=10.0))
    done.then()
    process.wait(5)
    limiter = process.limiter
    standing = Snapshot(
        limiter.key,
        int(limiter.limit),
        limiter.maximum,
        limiter.in_flight,
        limiter.waiting,
        pause_s=0.0,
        down=False,
        held_by=limiter.held_by,
    )
    assert (standing.limit, standing.maximum, standing.held_by) == (2, 2, "in flight")
    assert binding("concurrency", 0, [standing], busy=False)[0] == "maximum"


def test_where_they_were_told_different_totals_the_smaller_counts(stage: Stage) -> None:
    process = Process(stage)
    gate = process.given(10.0)
    row, done = renewed(gate, other(0.0, 4.0, total=4.0))
    done.then()
    assert row.amount == 2.0


def test_who_was_held_for_dead_begins_anew(stage: Stage) -> None:
    process = Process(stage)
    gate = process.given(10.0)
    row, done = renewed(gate)
    done.then()
    process.wait(3)
    process.use(7)
    row, done = renewed(gate, other(10.0, 10.0, total=10.0))
    assert row.amount == 10.0, "what it has in flight is in use all the same"
    assert process.limiter.shares[IN_FLIGHT] == 0
    assert done.soon
    process.wait(3)
    row, done = renewed(gate, row, other(4.0, 4.0, total=10.0))
    done.then()
    assert process.limiter.shares[IN_FLIGHT] == 6


def test_who_cannot_reach_the_rows_has_a_tenth_and_one_at_least(stage: Stage) -> None:
    for total, amount, left in ((40.0, 40.0, 4), (5.0, 5.0, 1), (40.0, 2.0, 2)):
        process = Process(stage)
        gate = process.given(total)
        _, done = renewed(gate, *([] if amount == total else [other(total - amount, total, total=total)]))
        done.then()
        gate.lost()
        assert process.limiter.shares[IN_FLIGHT] == left, (total, amount)
        gate.free()
        assert process.limiter.shares == {}


def test_who_leaves_gives_a_number_back_at_once_and_a_minutes_use_when_the_minute_is_over(
    stage: Stage,
) -> None:
    process = Process(stage)
    gate = process.given(10.0)
    row, done = renewed(gate)
    done.then()
    process.use(3)
    gone = gate.leave([row], ME, NOW)
    assert gone.rows == (Row(ME, 0.0, 0.0, 0.0, 10.0, True, NOW),)
    gone.then()
    assert process.limiter.shares == {}
    assert gate.kept_s == 0.0
    minute = Process(stage, per_minute=100.0)
    gate = minute.given(100.0)
    assert gate.kept_s == KEPT_S
    row, done = renewed(gate)
    done.then()
    minute.use(3)
    gone = gate.leave([row], ME, NOW)
    assert gone.rows == (Row(ME, 3.0, 0.0, 0.0, 100.0, True, NOW, ((NOW + TTL_S + WINDOW_S, 3.0),)),)
    gone.then()
    [(_, ceiling)] = minute.limiter.admission.ceilings
    assert ceiling.portion == 100.0


def test_a_portion_of_a_minute_is_held_by_what_it_used_and_by_nothing_else(stage: Stage) -> None:
    process = Process(stage, per_minute=100.0)
    gate = process.given(100.0)
    row, done = renewed(gate)
    done.then()
    process.use(60)
    process.wait(50)
    row, done = renewed(gate, row, other(0.0, 100.0, total=100.0))
    done.then()
    [(_, ceiling)] = process.limiter.admission.ceilings
    assert ceiling.portion == 50.0
    assert row.amount == 60.0
    assert process.limiter.shares == {}, "it is no number in flight"


def test_a_portion_of_a_minute_tells_what_was_used_of_it_and_what_may_be_before_it_ends(stage: Stage) -> None:
    process = Process(stage, per_minute=100.0)
    gate = process.given(100.0)
    row, done = renewed(gate)
    done.then()
    soon = 100.0 * (TTL_S / WINDOW_S + SLACK)
    assert row.used == ((NOW + TTL_S + WINDOW_S, 100.0),), "nobody knows how large its requests are"
    process.use(10)
    row, done = renewed(gate, row)
    done.then()
    assert row.amount == 100.0
    assert row.used == ((NOW + TTL_S + WINDOW_S, 10.0), (NOW + TTL_S + WINDOW_S, soon + 1))
    process.use(88)
    row, done = renewed(gate, row)
    done.then()
    assert row.used[-1] == (NOW + TTL_S + WINDOW_S, 2.0), "no more than what is left to it"
    assert row.taken(NOW) == 100.0


def test_of_tokens_it_needs_at_least_what_the_next_one_in_line_asks_for(stage: Stage) -> None:
    limiter = Limiter("host/model#account", Concurrency(50, 1, 50), [("tokens", 1_000.0)])
    [(unit, ceiling)] = limiter.admission.ceilings
    gate = Given(limiter, unit, 1_000.0, ceiling)
    row, done = renewed(gate)
    done.then()
    assert row.least == 1.0, "nobody waits"
    limiter.force(900)
    waiting = stage.start(limiter.aacquire(0, 400))
    row, done = renewed(gate, row)
    done.then()
    assert limiter.waiting == 1
    assert (row.least, row.want) == (400.0, 1_000.0)
    del waiting


# -- the number in flight that is learnt


def learning(stage: Stage, limit: float, *, firm: bool, used: int = 0) -> tuple[Limiter, InFlight]:
    concurrency = Concurrency(limit, 1, 500)
    if firm:
        concurrency.moved(limit, firm=True)
    limiter = Limiter("host/model#account", concurrency)
    for _ in range(used):
        limiter.force()
    return limiter, InFlight(limiter)


def test_while_nobody_met_resistance_nothing_is_divided(stage: Stage) -> None:
    limiter, gate = learning(stage, 20.0, firm=False, used=6)
    done = gate.renew([other(5.0, 50.0)._replace(firm=False)], ME, NOW)
    done.then()
    row, pool = done.rows
    assert row.amount == 0.0, "who is new holds nothing yet"
    assert not row.firm
    assert (pool.holder, pool.amount, pool.firm) == (POOL, 0.0, False)
    done = gate.renew([row, other(5.0, 50.0)._replace(firm=False)], ME, NOW)
    row, _ = done.rows
    assert row.amount == 6.0, "what it used of its limit is known to fit"
    assert limiter.admission.concurrency.limit == 20.0


def test_a_newcomer_beside_one_that_knows_the_limit_waits_until_some_is_ceded(stage: Stage) -> None:
    limiter, gate = learning(stage, 20.0, firm=False)
    limiter.shares[gate.unit] = 0
    for _ in range(60):
        stage.start(limiter.aacquire())
    done = gate.renew([other(40.0, 40.0)], ME, NOW)
    done.then()
    row, _pool = done.rows
    assert row.amount == 0.0
    assert limiter.shares == {gate.unit: 0}, "nothing goes"
    assert done.soon
    done = gate.renew([row, other(20.0, 40.0), Row(POOL, 20.0, 0.0, 0.0, 0.0, True, NOW + TTL_S)], ME, NOW)
    row, pool = done.rows
    assert row.amount == 20.0
    assert row.firm
    assert pool.amount == 0.0
    assert limiter.shares == {gate.unit: 0}, "not before it is written"
    done.then()
    assert limiter.shares == {}
    assert limiter.admission.concurrency.limit == 20.0
    assert not limiter.admission.concurrency.starting


def test_who_knows_the_limit_cedes_to_one_that_has_none_and_owes_what_is_still_in_use(stage: Stage) -> None:
    limiter, gate = learning(stage, 40.0, firm=True, used=35)
    first = gate.renew([], ME, NOW)
    first.then()
    row, pool = first.rows
    done = gate.renew([row._replace(amount=40.0), pool, other(0.0, 40.0)], ME, NOW)
    done.then()
    row, pool = done.rows
    assert limiter.admission.concurrency.limit == 20.0
    assert row.amount == 35.0, "20, and 15 that are ceded and still in use"
    assert pool.amount == 5.0
    assert done.soon
    assert row.amount + pool.amount == 40.0


def test_what_a_dead_one_held_goes_to_the_pool_and_its_row_is_emptied(stage: Stage) -> None:
    limiter, gate = learning(stage, 10.0, firm=True, used=10)
    first = gate.renew([], ME, NOW)
    first.then()
    row = first.rows[0]._replace(amount=10.0)
    done = gate.renew([row, other(30.0, 30.0, left_s=-1.0)], ME, NOW)
    done.then()
    mine, pool, dead = done.rows
    assert (dead.holder, dead.amount) == (OTHER, 0.0)
    assert mine.amount + pool.amount == 40.0
    assert limiter.admission.concurrency.limit == mine.amount


def test_what_is_known_is_told_with_whether_more_would_fit(stage: Stage) -> None:
    limiter, gate = learning(stage, 20.0, firm=False, used=7)
    assert gate.learnt() is None, "nothing was accepted yet"
    stage.call(limiter.release, limiter.force(), Verdict.SUCCESS)
    told = gate.learnt()
    assert told is not None
    assert told[:2] == (8.0, False)
    firm_limiter, firm = learning(stage, 12.0, firm=True, used=3)
    stage.call(firm_limiter.release, firm_limiter.force(), Verdict.SUCCESS)
    told = firm.learnt()
    assert told is not None
    assert told[:2] == (12.0, True)


def test_a_run_begins_with_seven_tenths_of_what_was_known_unless_it_knows_better(stage: Stage) -> None:
    for known, firm, starts in ((100.0, True, 70), (100.0, False, 70), (20.0, False, None), (20.0, True, 14)):
        limiter, gate = learning(stage, 20.0, firm=False)
        assert gate.resume(known, firm) == starts
        assert limiter.admission.concurrency.limit == (starts or 20)
        assert limiter.admission.concurrency.starting
    begun, gate = learning(stage, 20.0, firm=False, used=1)
    assert gate.resume(100.0, True) is None
    assert begun.admission.concurrency.limit == 20


def test_who_leaves_puts_what_it_knew_into_the_pool(stage: Stage) -> None:
    limiter, gate = learning(stage, 30.0, firm=True, used=4)
    first = gate.renew([], ME, NOW)
    first.then()
    rows = [first.rows[0], Row(POOL, 5.0, 0.0, 0.0, 0.0, False, NOW + TTL_S)]
    gone = gate.leave(rows, ME, NOW)
    pool, mine = gone.rows
    assert pool == Row(POOL, 35.0, 0.0, 0.0, 0.0, True, NOW + TTL_S)
    assert mine == Row(ME, 0.0, 0.0, 0.0, 0.0, False, NOW)
    gone.then()
    assert limiter.shares == {}
    rising, gate = learning(stage, 30.0, firm=False, used=4)
    pool, _ = gate.leave([], ME, NOW).rows
    assert (pool.amount, pool.firm) == (0.0, False), "who knows no limit leaves none"
    assert rising.in_flight == 4


def test_all_that_is_divided_of_one_limiter(stage: Stage) -> None:
    limiter = Limiter("host/model#account", Concurrency(8, 1, 8), [("requests", 60.0), ("tokens", 900.0)])
    all_of_it = Leased(limiter, b"whose", 8, [3])
    assert [gate.unit for gate in all_of_it.gates] == [IN_FLIGHT, "requests", "tokens", "learnt in flight"]
    assert (all_of_it.whose, all_of_it.runs) == (b"whose", [3])
    assert Leased(limiter, b"whose", None, [3]).gates[0].unit == "requests"
    assert "account" not in repr(all_of_it)
