"""No stored row is repaid because rows were inserted, removed, moved or shuffled, and none is taken twice."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm.engine.input.identity import Matcher
from cottonpalm.engine.input.keys import content_key, id_key
from cottonpalm.protocols import RunStore, Slot, StoredRow
from cottonpalm.stores import MemoryStore
from cottonpalm.stores.sqlite.store import SqliteStore
from tests.contract.rows import write

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

pytestmark = pytest.mark.core


def stored(rows: Iterable[tuple[int, object]], status: int = 1) -> RunStore:
    run = MemoryStore().open_run("r", None)
    packed = [StoredRow(slot, content_key(value), content_key(value), status, b"") for slot, value in rows]
    run.write(packed, lambda error: None)
    return run


def match(matcher: Matcher, values: Sequence[object]) -> list[Slot]:
    return [matcher.match(content_key(value), content_key(value)) for value in values]


def slots(run: RunStore, values: Sequence[object], look_ahead: int = 4096) -> list[int]:
    return [slot.slot for slot in match(Matcher(run, look_ahead=look_ahead), values)]


WORDS = st.lists(st.sampled_from("abcdefghij"), max_size=30)


@given(WORDS, WORDS, st.integers(0, 6))
def test_as_many_rows_are_found_as_there_are_and_each_only_once(
    old: list[str], new: list[str], look_ahead: int
) -> None:
    run = stored(enumerate(old))
    matcher = Matcher(run, look_ahead=look_ahead)
    found = match(matcher, new)
    assert len({slot.slot for slot in found}) == len(found)
    assert matcher.added == len(new) - (Counter(old) & Counter(new)).total()
    for slot, value in zip(found, new, strict=True):
        assert slot.status == (1 if slot.slot < len(old) else 0)
        assert slot.slot >= len(old) or old[slot.slot] == value


@given(st.integers(0, 40), st.sets(st.integers(0, 39)), st.integers(0, 6))
def test_unchanged_rows_are_at_their_position_also_those_that_were_never_stored(
    count: int, missing: set[int], look_ahead: int
) -> None:
    run = stored((slot, slot) for slot in range(count) if slot not in missing)
    matcher = Matcher(run, look_ahead=look_ahead)
    found = match(matcher, range(count))
    assert [slot.slot for slot in found] == list(range(count))
    assert {slot.slot for slot in found if slot.status == 0} == missing & set(range(count))


@given(WORDS, WORDS, st.sets(st.integers(0, 29)))
def test_no_two_rows_share_a_slot_where_an_edited_input_meets_gaps(
    old: list[str], new: list[str], gaps: set[int]
) -> None:
    run = stored((slot, value) for slot, value in enumerate(old) if slot not in gaps)
    found = match(Matcher(run, look_ahead=3), new)
    assert len({slot.slot for slot in found}) == len(found)
    for slot, value in zip(found, new, strict=True):
        assert slot.status == 0 or old[slot.slot] == value


def test_inserted_rows_get_slots_behind_all_others() -> None:
    run = stored(enumerate("abcd"))
    assert slots(run, "aXbYcd") == [0, 4, 1, 5, 2, 3]


def test_equal_rows_take_the_stored_ones_in_order() -> None:
    run = stored(enumerate("aba"))
    assert slots(run, "aaba") == [0, 2, 1, 3]


@pytest.mark.parametrize("look_ahead", [0, 1, 16, 4096])
def test_blocks_moved_cut_or_turned_around_are_found_whatever_is_seen_ahead(look_ahead: int) -> None:
    count = 500
    run = stored((slot, slot) for slot in range(count))
    shuffled = random.Random(3).sample(range(count), count)
    for order in (
        [*range(300, 500), *range(300)],
        range(200, 500),
        [*range(100), *range(400, 500)],
        range(499, -1, -1),
        shuffled,
    ):
        assert slots(run, list(order), look_ahead) == list(order)


@pytest.mark.parametrize("look_ahead", [0, 8, 100])
@pytest.mark.parametrize("seed", range(4))
def test_many_blocks_of_many_distinct_rows_are_found_with_few_look_ups(
    tmp_path: Path, seed: int, look_ahead: int
) -> None:
    """More rows than are read in one page, in a file; some are removed, and new ones stand between."""
    rng, count = random.Random(seed), 6_000
    cuts = sorted(rng.sample(range(1, count), 11))
    blocks = [list(range(*ends)) for ends in pairwise([0, *cuts, count])]
    rng.shuffle(blocks)
    order = [row for block in blocks for row in [*block[rng.randrange(3) :], f"new {block[0]}"]]
    store = SqliteStore(tmp_path / "s.db")
    run = store.open_run("r", None)
    keys = [content_key(slot) for slot in range(count)]
    write(run, [StoredRow(slot, key, key, 1, b"") for slot, key in enumerate(keys)])
    looked, find = Counter[bytes](), run.find
    run.find = lambda key: looked.update([key]) or find(key)  # type: ignore[method-assign,func-returns-value]

    found = slots(run, order, look_ahead)

    new = [slot for slot, row in zip(found, order, strict=True) if isinstance(row, str)]
    assert [slot for slot, row in zip(found, order, strict=True) if not isinstance(row, str)] == [
        row for row in order if not isinstance(row, str)
    ]
    assert new == list(range(count, count + 12))
    assert looked.total() < 12 * 12  # a block costs a few, not one a row
    store.close()


def test_rows_written_after_the_matcher_was_made_are_not_matched() -> None:
    run = stored([(0, "a")])
    matcher = Matcher(run)
    assert matcher.match(content_key("a"), content_key("a")).slot == 0
    new = matcher.match(content_key("b"), content_key("b"))
    run.write([StoredRow(new.slot, new.key, new.content, 1, b"")], lambda error: None)
    assert [slot.slot for slot in match(matcher, "ba")] == [2, 3]


def test_with_an_id_a_changed_question_keeps_its_slot_but_not_its_answer() -> None:
    run = MemoryStore().open_run("r", None)
    rows = [StoredRow(slot, id_key(str(slot)), content_key(f"old {slot}"), 1, b"") for slot in range(3)]
    run.write(rows, lambda error: None)
    matcher = Matcher(run)
    questions = ["old 0", "new 1", "old 2"]
    found = [
        matcher.match(id_key(str(slot)), content_key(question)) for slot, question in enumerate(questions)
    ]
    assert [(slot.slot, slot.status) for slot in found] == [(0, 1), (1, 0), (2, 1)]
    assert found[1].content == content_key("new 1")
    assert (matcher.changed, matcher.added) == (1, 0)


@given(st.integers(1, 60), st.lists(st.integers(1, 20), max_size=10), st.sets(st.integers(0, 59), max_size=2))
def test_blocks_and_single_rows_tell_the_same(count: int, sizes: list[int], edited: set[int]) -> None:
    run = stored((slot, slot) for slot in range(count))
    values = [f"edited {slot}" if slot in edited else slot for slot in range(count)]
    matcher, at, done = Matcher(run), 0, 0
    for size in [*sizes, count]:
        keys = [content_key(value) for value in values[at : at + size]]
        at += size
        if matcher.all_done(keys, keys):
            done += len(keys)
        else:
            done += sum(matcher.match(key, key).status for key in keys)
    assert done == count - len(edited & set(range(count)))
    assert matcher.added == len(edited & set(range(count)))


def test_a_block_with_a_row_to_be_done_again_is_not_done() -> None:
    run = stored(enumerate("abc"))
    run.write([StoredRow(1, content_key("b"), content_key("b"), 2, b"")], lambda error: None)
    keys = [content_key(value) for value in "abc"]
    matcher = Matcher(run)
    assert not matcher.all_done(keys, keys)
    assert matcher.all_done(keys[:1], keys[:1])
    assert [slot.status for slot in match(matcher, "bc")] == [2, 1]


@given(WORDS, WORDS, st.integers(0, 6), st.lists(st.integers(1, 4), max_size=30))
def test_reading_in_blocks_finds_as_many_rows_of_an_edited_input_and_each_only_once(
    old: list[str], new: list[str], look_ahead: int, sizes: list[int]
) -> None:
    run = stored(enumerate(old))
    matcher, at, taken = Matcher(run, look_ahead=look_ahead), 0, []
    for size in [*sizes, *[4] * len(new)]:
        block = new[at : at + size]
        keys, first = [content_key(value) for value in block], matcher.next_slot
        at += size
        if matcher.all_done(keys, keys):
            taken += [*zip(range(first, first + len(block)), block, strict=True)]
        else:
            taken += [(matcher.match(key, key).slot, value) for key, value in zip(keys, block, strict=True)]
    assert len({slot for slot, _ in taken}) == len(taken) == len(new)
    assert matcher.added == len(new) - (Counter(old) & Counter(new)).total()
    assert all(old[slot] == value for slot, value in taken if slot < len(old))


@pytest.mark.parametrize("cut", [range(10), range(500, 503), range(0, 1_000, 300)])
def test_rows_that_were_removed_do_not_end_the_reading_in_blocks(cut: Sequence[int]) -> None:
    run = stored((slot, slot) for slot in range(2_000))
    kept = [slot for slot in range(2_000) if slot not in cut]
    matcher, blocks = Matcher(run), 0
    for at in range(0, len(kept), 100):
        keys = [content_key(value) for value in kept[at : at + 100]]
        if matcher.all_done(keys, keys):
            blocks += 1
        else:
            assert all(matcher.match(key, key).status == 1 for key in keys)
    assert matcher.added == 0
    assert blocks >= 15


def test_rows_of_one_kind_are_each_found_when_they_have_to_be_looked_up() -> None:
    run = stored((slot, "filler" if slot < 300 else "same") for slot in range(600))
    new = ["new 0", *["same"] * 310, *["filler"] * 300, "new 1"]
    found = [slot.slot for slot in match(Matcher(run, look_ahead=5), new)]
    assert found == [600, *range(300, 600), *range(601, 611), *range(300), 611]
