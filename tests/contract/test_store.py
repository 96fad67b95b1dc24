"""What every store promises, whatever is behind it."""

from __future__ import annotations

import gc
import random
import threading
from typing import TYPE_CHECKING

import pytest

from cottonpalm import clock
from cottonpalm.engine.input.keys import content_key
from cottonpalm.errors import ChainChanged, RunBusy, StoreError
from cottonpalm.protocols import Spent, Store
from cottonpalm.store_extras import ComparesBlocks, NumbersOutcomes
from tests.contract.rows import row, write

if TYPE_CHECKING:
    from tests.contract.conftest import Reopen

pytestmark = pytest.mark.core


def test_a_row_reported_done_is_there_for_whoever_opens_the_run_next(reopen: Reopen) -> None:
    first = reopen().open_run("r", None)
    write(first, [row(0), row(1, status=2)])
    first.close()
    again = reopen().open_run("r", None)
    assert (first.created, again.created) == (True, False)
    assert again.read([1, 0, 7]) == {0: b'{"o":0}', 1: b'{"o":1}'}
    assert [(slot.slot, slot.status) for slot in again.scan(-1, 10)] == [(0, 1), (1, 2)]


def test_a_reader_sees_a_row_as_soon_as_it_is_reported_done(store: Store) -> None:
    run = store.open_run("r", None)
    seen: list[list[int]] = []
    over = threading.Event()

    def done(error: BaseException | None) -> None:
        seen.append([slot.slot for slot in run.scan(-1, 10)])
        over.set()

    run.write([row(3)], done)
    assert over.wait(30)
    assert seen == [[3]]


def test_a_newer_outcome_replaces_the_older_one_and_their_costs_add_up(store: Store) -> None:
    run = store.open_run("r", None)
    write(run, [row(0, status=2, cost=5)])
    write(run, [row(0, status=1, cost=7, record=b"{}")])
    assert run.counts() == {1: 1}
    assert run.read([0]) == {0: b"{}"}
    assert store.runs()[0].cost_pico == 12


def test_what_was_reported_is_part_of_a_runs_cost_before_its_rows_are_done(store: Store) -> None:
    run = store.open_run("r", None)
    write(run, [row(0, cost=5)], Spent("a", reported=12))
    assert store.runs()[0].cost_pico == 12
    write(run, [row(1, cost=20)])
    assert store.runs()[0].cost_pico == 25


def test_outcomes_are_numbered_in_the_order_of_writing_over_all_lives_of_a_run(reopen: Reopen) -> None:
    run = reopen().open_run("r", None)
    assert isinstance(run, NumbersOutcomes)
    assert (run.last_seq(), run.newer(0, -1, 10)) == (0, [])
    write(run, [row(4), row(2, status=2)])
    write(run, [row(3)])
    assert (run.last_seq(), run.newer(0, -1, 10)) == (3, [(2, 2), (3, 3), (4, 1)])
    run.close()
    run = reopen().open_run("r", None)
    assert isinstance(run, NumbersOutcomes)
    write(run, [row(2)])
    assert (run.last_seq(), run.newer(2, -1, 10)) == (4, [(2, 4), (3, 3)])
    assert run.newer(0, -1, 2) == [(2, 4), (3, 3)]
    assert run.newer(0, 2, 2) == [(3, 3), (4, 1)]


def test_a_group_that_queues_up_behind_another_gets_the_next_numbers(store: Store) -> None:
    run = store.open_run("r", None)
    assert isinstance(run, NumbersOutcomes)
    for slot in range(0, 30, 3):
        run.write([row(slot), row(slot + 1), row(slot + 2)], lambda _: None)
    write(run, [])
    assert run.newer(0, -1, 99) == [(slot, slot + 1) for slot in range(30)]


def test_counts_follow_every_change_of_a_row(store: Store) -> None:
    run, statuses, rng = store.open_run("r", None), dict[int, int](), random.Random(3)
    for _ in range(40):
        group = [row(slot, status=rng.choice([1, 2, 3]), cost=1) for slot in rng.sample(range(700), 45)]
        write(run, group)
        statuses.update({each.slot: each.status for each in group})
    wanted = {kind: list(statuses.values()).count(kind) for kind in (1, 2, 3)}
    assert run.counts() == wanted
    [info] = store.runs()
    assert (info.ok, info.failed, info.retryable) == (wanted[1], wanted[2] + wanted[3], wanted[2])
    assert info.cost_pico == 40 * 45


def test_scans_go_page_by_page_in_slot_order(store: Store) -> None:
    run = store.open_run("r", None)
    slots = random.Random(5).sample(range(2_000), 1_000)
    write(run, [row(slot) for slot in slots])
    after, seen = -1, []
    while page := run.scan(after, 77):
        seen += [slot.slot for slot in page]
        after = seen[-1]
    assert seen == sorted(slots)
    assert run.last_slot() == max(slots)
    assert set(run.read(slots)) == set(slots)


def test_find_knows_all_rows_that_were_there_when_the_run_was_opened(reopen: Reopen) -> None:
    run = reopen().open_run("r", None)
    write(run, [row(0, question="a"), row(1, question="b"), row(2, question="a")])
    run.close()
    run = reopen().open_run("r", None)
    assert [slot.slot for slot in run.find(content_key("a"))] == [0, 2]
    write(run, [row(9, question="c"), row(1, question="d")])
    assert [slot.slot for slot in run.find(content_key("a"))] == [0, 2]
    assert run.find(content_key("b")) == []  # its slot holds another row now
    assert run.find(content_key("none")) == []


def test_find_knows_rows_between_empty_slots_and_any_number_of_equal_ones(reopen: Reopen) -> None:
    run = reopen().open_run("r", None)
    slots = [slot for slot in range(5_000) if slot % 1_000 != 7 and not 2_000 <= slot < 3_500]
    write(run, [row(slot, question=slot % 2 or slot) for slot in slots])
    run.close()
    run = reopen().open_run("r", None)
    assert [slot.slot for slot in run.find(content_key(1))] == [slot for slot in slots if slot % 2]
    for slot in range(2, 5_000, 2):
        assert [found.slot for found in run.find(content_key(slot))] == [slot] * (slot in slots)
    assert not any(run.find(content_key(f"new {n}")) for n in range(1_000))


def test_runs_do_not_see_each_other(store: Store) -> None:
    one, two = store.open_run("one", None), store.open_run("two", None)
    write(one, [row(0, question="a")])
    write(two, [row(0, question="b"), row(1, question="a")])
    assert (one.counts(), two.counts()) == ({1: 1}, {1: 2})
    assert [slot.slot for slot in two.find(content_key("a"))] == [1]
    assert one.last_slot() == 0
    assert store.open_run("three", None).last_slot() == -1


def test_blocks_are_the_same_only_if_keys_contents_and_statuses_all_are(store: Store) -> None:
    run = store.open_run("r", None)
    write(run, [row(slot, status=2 if slot == 3 else 1) for slot in range(5)])
    assert isinstance(run, ComparesBlocks)
    keys = [content_key(slot) for slot in range(6)]
    assert run.same_rows(0, keys[:3], keys[:3], {1})
    assert not run.same_rows(0, keys[:4], keys[:4], {1})
    assert run.same_rows(0, keys[:5], keys[:5], {1, 2})
    assert not run.same_rows(0, keys[:6], keys[:6], {1, 2})
    assert not run.same_rows(0, keys[1:3], keys[1:3], {1})
    assert not run.same_rows(0, keys[:2], keys[1:3], {1})


def test_meta_is_merged_and_kept(reopen: Reopen) -> None:
    run = reopen().open_run("r", None)
    run.set_meta(offset=5, output="a.jsonl")
    run.set_meta(offset=6)
    run.close()
    assert reopen().open_run("r", None).meta() == {"offset": 6, "output": "a.jsonl"}


def test_meta_may_be_set_from_the_callback_of_a_write(store: Store) -> None:
    run = store.open_run("r", None)
    over = threading.Event()

    def done(error: BaseException | None) -> None:
        run.set_meta(seen=True)
        over.set()

    run.write([row(0)], done)
    assert over.wait(30)
    assert run.meta() == {"seen": True}


def test_a_second_opener_of_one_process_is_not_told_to_stop_that_process(reopen: Reopen) -> None:
    run = reopen().open_run("r", None)
    with pytest.raises(
        RunBusy, match=r"by another call in this process, since \d{4}-.*: wait for it or stop it, or"
    ):
        reopen().open_run("r", None)
    run.close()
    reopen().open_run("r", None)


def test_a_run_lost_without_close_gives_its_lease_back(reopen: Reopen) -> None:
    write(reopen().open_run("r", None), [row(0)])
    gc.collect()
    assert reopen().open_run("r", None).counts() == {1: 1}


def test_a_run_in_use_cannot_be_removed_and_a_removed_one_is_gone(reopen: Reopen) -> None:
    store = reopen()
    run = store.open_run("r", None)
    write(run, [row(0)])
    with pytest.raises(RunBusy):
        store.remove("r")
    run.close()
    store.remove("r")
    store.remove("never there")
    assert store.runs() == []
    assert store.open_run("r", None).scan(-1, 10) == []


def test_fresh_drops_what_the_run_holds(reopen: Reopen) -> None:
    run = reopen().open_run("r", {"a": 1})
    write(run, [row(0, cost=3)])
    run.set_meta(offset=5)
    run.close()
    store = reopen()
    again = store.open_run("r", {"a": 2}, fresh=True)
    assert (again.scan(-1, 10), again.meta(), again.last_slot()) == ([], {}, -1)
    assert store.runs()[0].cost_pico == 0
    again.close()
    reopen().open_run("r", {"a": 2})


def test_a_changed_chain_is_refused_saying_what_changed_and_the_lease_is_free_again(reopen: Reopen) -> None:
    reopen().open_run("r", {"steps[0] P": {"template": "Say {x}"}}).close()
    with pytest.raises(ChainChanged, match=r'the prompt changed.*"Say {x}" -> "Shout {x}"'):
        reopen().open_run("r", {"steps[0] P": {"template": "Shout {x}"}})
    reopen().open_run("r", {"steps[0] P": {"template": "Say {x}"}}).close()
    reopen().open_run("r", None).close()


def test_changed_user_code_only_warns_and_only_once(reopen: Reopen, caplog: pytest.LogCaptureFixture) -> None:
    reopen().open_run("r", {"steps[0] L": {"$code": "source:1"}}).close()
    for _ in range(2):
        reopen().open_run("r", {"steps[0] L": {"$code": "source:2"}}).close()
    assert [record.message.count("steps[0] L") for record in caplog.records] == [1]


def test_runs_are_listed_oldest_first_with_their_counts_and_holder(store: Store) -> None:
    one = store.open_run("one", None)
    write(one, [row(0), row(1, status=2), row(2, status=3), row(3, status=3)])
    one.close()
    held = store.open_run("two", None)
    first, second = store.runs()
    assert (first.name, first.ok, first.failed, first.retryable, first.holder) == ("one", 1, 3, 1, None)
    assert second.name == "two"
    assert second.holder is not None
    held.close()


def test_a_closed_run_takes_no_more_rows(store: Store) -> None:
    run = store.open_run("r", None)
    run.close()
    run.close()
    with pytest.raises(StoreError, match="closed"):
        write(run, [row(0)])


def test_an_empty_group_is_done_at_once(store: Store) -> None:
    write(store.open_run("r", None), [])


def test_many_groups_from_many_threads_all_arrive(store: Store) -> None:
    run = store.open_run("r", None)

    def work(lane: int) -> None:
        for at in range(20):
            write(run, [row(slot) for slot in range(lane * 1_000 + at * 7, lane * 1_000 + at * 7 + 7)])

    threads = [threading.Thread(target=work, args=(lane,)) for lane in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert run.counts() == {1: 560}


def test_what_a_run_spent_is_kept_apart_from_its_rows_and_begins_anew_with_it(reopen: Reopen) -> None:
    first = reopen().open_run("r", None)
    write(first, [row(0, cost=7)])
    unkept = first.spent()
    assert (unkept.reported, unkept.uncertain, unkept.leased) == (7, 0, 7), (
        "a run without an account has its rows'"
    )
    over = threading.Event()
    first.write([], lambda _: over.set(), Spent("a", 10, 5, 40, ((1_000.0, 15),)))
    assert over.wait(30)
    over.clear()
    first.write([row(1)], lambda _: over.set(), Spent("a", 12, 5, 40, ((1_005.0, 2),)))
    assert over.wait(30)
    first.close()
    again = reopen().open_run("r", None)
    kept = again.spent()
    assert kept[:4] == ("a", 12, 5, 40)
    assert sorted(kept.steps) == [(1_000.0, 15), (1_005.0, 2)]
    again.close()
    fresh = reopen().open_run("r", None, fresh=True)
    assert fresh.spent()[1:] == (0, 0, 0, ())
    fresh.close()


def test_what_a_clock_that_was_ahead_noted_as_spent_is_noted_for_now_by_the_next_write(
    reopen: Reopen,
) -> None:
    run, before = reopen().open_run("r", None), clock.wall()
    write(run, [], Spent("a", 9, 0, 9, ((before - 5, 1), (before + 90_000, 3), (before + 90_005, 5))))
    write(run, [], Spent("a", 9, 0, 9))
    steps = run.spent().steps
    assert sum(pico for _, pico in steps) == 9
    assert min(steps) == (before - 5, 1)
    assert max(at for at, _ in steps) <= clock.wall()
    run.close()
