"""What every store promises of batches: durable before anything is sent, no request in two, nothing forgotten."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from cottonpalm.errors import StoreError
from cottonpalm.providers.batches.lanes import Lane
from cottonpalm.providers.batches.lines import BatchFault, BatchState, Phase, Result
from cottonpalm.providers.batches.stages import AskedRow, Batch, Book, KeepsBatches, Member, Stage

if TYPE_CHECKING:
    from cottonpalm.protocols import RunStore, Store
    from tests.contract.conftest import Reopen

pytestmark = pytest.mark.core

LANE = Lane("openai", "https://api.openai.com", "/v1", "/v1/chat/completions", "gpt-5-mini", (("a", "b"),))
MEMBERS = [Member(0, b"a"), Member(0, b"b"), Member(1, b"a")]
BATCH = Batch("0af3b1c2d4e5", LANE, Stage.INTENT, 3, 300, 30, 7, 1790000000.5)
STATE = BatchState(
    "batch_1", Phase.FAILED, 3, 1, 2, 1.0, 3.0, "t", "file", ("out", "err"), (BatchFault("c", "m", 2),)
)


def book_of(run: RunStore) -> Book:
    assert isinstance(run, KeepsBatches)
    return run.book()


@pytest.fixture
def book(store: Store) -> Book:
    return book_of(store.open_run("r", None))


def answer(text: str, status: int = 200) -> Result:
    return Result("", status, {"text": text})


def test_a_batch_is_there_as_it_was_written_after_the_store_was_opened_anew(reopen: Reopen) -> None:
    store = reopen()
    run = store.open_run("r", None)
    full = replace(
        BATCH,
        stage=Stage.ENDED,
        sent_at=5.5,
        ended_at=3.0,
        batch_id="batch_1",
        state=STATE,
        proven=False,
        strangers=("s1", "s2"),
        sends=2,
        twins=("t1",),
        cancelling=True,
        why="because",
    )
    book_of(run).plan(BATCH, MEMBERS)
    book_of(run).put(full)
    run.close()
    store.close()
    again = reopen()
    assert again.batches("r") == [full]  # type: ignore[attr-defined]  # without the lease, as `status` looks
    found = book_of(again.open_run("r", None))
    assert found.batches() == [full]
    assert found.members(BATCH.tag) == MEMBERS
    assert found.known() == {"batch_1": False}


def test_a_request_that_is_out_is_in_no_second_batch_and_nothing_of_that_one_is_kept(book: Book) -> None:
    book.plan(BATCH, MEMBERS)
    second = replace(BATCH, tag="b" * 12)
    with pytest.raises(StoreError, match=r"row 1 \(index 0\) is in a batch already"):
        book.plan(second, [Member(5, b"x"), Member(0, b"b")])
    assert book.batches() == [BATCH]
    assert not book.asked(5)


def test_one_batch_does_not_hold_a_request_twice(book: Book) -> None:
    with pytest.raises(StoreError, match="not submitted again"):
        book.plan(BATCH, [Member(0, b"a"), Member(0, b"a")])
    assert book.batches() == []


def test_results_are_kept_by_line_and_what_has_none_is_still_out(book: Book) -> None:
    book.plan(BATCH, MEMBERS)
    book.keep(BATCH.tag, [(2, answer("two")), (0, answer("zero"))])
    assert book.asked(0) == {b"a": answer("zero"), b"b": None}
    assert book.asked(1) == {b"a": answer("two")}
    assert book.asked(2) == {}


def test_it_is_known_in_which_lane_a_request_was_asked(book: Book) -> None:
    other = replace(LANE, model="gpt-5", headers=())
    book.plan(BATCH, MEMBERS)
    book.plan(replace(BATCH, tag="0af3b1c2d4e6", lane=other, rows=1), [Member(0, b"c")])
    assert book.lanes(0) == {b"a": LANE, b"b": LANE, b"c": other}
    assert book.lanes(2) == {}


def test_a_final_result_stays_and_a_good_one_wins_over_a_refusal(book: Book) -> None:
    book.plan(BATCH, MEMBERS)
    book.keep(
        BATCH.tag, [(0, answer("refused", 400)), (1, answer("good")), (2, Result("", 0, lost="expired"))]
    )
    book.keep(BATCH.tag, [(0, answer("good")), (1, answer("refused", 400)), (2, answer("late"))])
    book.keep(BATCH.tag, [(0, answer("another")), (2, Result("", 0, lost="missing"))])
    assert book.asked(0) == {b"a": answer("good"), b"b": answer("good")}
    assert book.asked(1) == {b"a": answer("late")}


def test_what_was_not_executed_is_to_be_asked_again_and_says_why(book: Book) -> None:
    book.plan(BATCH, MEMBERS)
    lost = Result(f"{BATCH.tag}-1", 0, lost="expired", why="no time")
    broken = Result(f"{BATCH.tag}-2", 503, {"error": "busy"})
    book.keep(BATCH.tag, [(0, answer("zero")), (1, lost), (2, broken)])
    assert book.asked(0) == {b"a": answer("zero")}
    assert book.lost(BATCH.tag) == [(MEMBERS[1], lost), (MEMBERS[2], broken)]
    book.plan(replace(BATCH, tag="b" * 12), [MEMBERS[1], MEMBERS[2]])  # so it may go into the next batch
    assert book.asked(0) == {b"a": answer("zero"), b"b": None}


def test_what_a_provider_says_of_a_line_is_kept_also_where_it_quotes_what_no_text_column_holds(
    book: Book,
) -> None:
    """Otherwise nothing of the batch would be stored in Postgres, though all of it is paid."""
    book.plan(BATCH, MEMBERS)
    lost = Result("", 0, lost="failed", why="invalid: 'a\0b'")
    book.keep(BATCH.tag, [(0, answer("zero")), (1, lost)])
    assert book.asked(0) == {b"a": answer("zero")}
    assert [result.why for _, result in book.lost(BATCH.tag)] == ["invalid: 'a\ufffdb'"]
    ended = BatchState("batch_1", Phase.FAILED)
    book.close(replace(BATCH, stage=Stage.COLLECTED, state=ended, why="row 3: 'a\0b'"))
    assert book.lost(BATCH.tag)[-1][1].why == "row 3: 'a\ufffdb'"


@pytest.mark.parametrize(
    ("phase", "lost"),
    [
        (Phase.COMPLETED, "missing"),
        (Phase.EXPIRED, "expired"),
        (Phase.CANCELLED, "cancelled"),
        (Phase.FAILED, "failed"),
    ],
)
def test_a_batch_that_is_over_leaves_no_line_out(book: Book, phase: Phase, lost: str) -> None:
    book.plan(BATCH, MEMBERS)
    book.keep(BATCH.tag, [(1, answer("one"))])
    over = replace(BATCH, stage=Stage.COLLECTED, state=replace(STATE, phase=phase), why="so it was")
    assert book.close(over) == 2
    assert book.batches() == [over]
    assert [(member, found.lost, found.why) for member, found in book.lost(BATCH.tag)] == [
        (MEMBERS[0], lost, "so it was"),
        (MEMBERS[2], lost, "so it was"),
    ]


def test_results_of_a_row_that_is_done_are_dropped_but_not_what_is_out(book: Book) -> None:
    book.plan(BATCH, MEMBERS)
    book.keep(BATCH.tag, [(0, answer("zero")), (2, answer("two"))])
    book.forget([0])
    assert book.asked(0) == {b"b": None}
    assert book.asked(1) == {b"a": answer("two")}


def test_it_is_known_which_rows_requests_are_of_until_they_are_done(store: Store) -> None:
    book, other = (book_of(store.open_run(name, None)) for name in ("one", "two"))
    rows = [AskedRow(number, bytes([number]) * 16, b"c" * 16) for number in (2, 0, 1)]
    book.keep_rows(rows)
    book.keep_rows([edited := rows[2]._replace(content=b"d" * 16)])
    assert book.rows() == [rows[1], edited, rows[0]]
    book.forget([1])
    assert book.rows() == [rows[1], rows[0]]
    assert other.rows() == []


def test_runs_do_not_see_each_others_batches_but_all_provider_ids_are_known(store: Store) -> None:
    one, two = (book_of(store.open_run(name, None)) for name in ("one", "two"))
    one.plan(BATCH, MEMBERS)
    one.put(replace(BATCH, batch_id="batch_1"))
    two.plan(replace(BATCH, tag="b" * 12), MEMBERS)  # the same rows, of another run
    assert [batch.tag for batch in two.batches()] == ["b" * 12]
    with pytest.raises(StoreError, match="not of this run"):
        two.keep(BATCH.tag, [(0, answer("zero"))])


def test_how_long_batches_took_is_known_of_those_that_are_over(book: Book) -> None:
    tags = ["a" * 12, "b" * 12, "c" * 12]
    for row, tag in enumerate(tags):
        book.plan(replace(BATCH, tag=tag), [Member(row, b"k")])
    over = [replace(BATCH, tag=tag, stage=Stage.COLLECTED, sent_at=5.0, ended_at=65.0) for tag in tags[:2]]
    for batch in over:
        book.close(batch)
    assert book.past() == over[::-1]
    assert book.past(limit=1) == over[1:]


@pytest.mark.parametrize("stage", [stage for stage in Stage if replace(BATCH, stage=stage).out])
def test_a_run_whose_batches_may_cost_money_is_neither_begun_anew_nor_removed(
    store: Store, stage: Stage
) -> None:
    run = store.open_run("r", None)
    book = book_of(run)
    out = replace(BATCH, stage=stage, batch_id="batch_1")
    book.plan(BATCH, MEMBERS)
    book.put(out)
    run.close()
    for forget in (lambda: store.open_run("r", None, fresh=True), lambda: store.remove("r")):
        with pytest.raises(
            StoreError, match=r"1 batch that it submitted and has not collected \(batch_1 at openai\)"
        ):
            forget()
    run = store.open_run("r", None)  # nothing was forgotten, and the lease is free
    book_of(run).close(replace(out, stage=Stage.COLLECTED))
    run.close()
    run = store.open_run("r", None, fresh=True)
    assert book_of(run).batches() == []
    assert book_of(run).asked(0) == {}
    run.close()
    store.remove("r")
    assert store.batches("r") == []  # type: ignore[attr-defined]


def test_what_tools_answered_is_kept_with_its_row_until_the_row_is_done(store: Store) -> None:
    run, other = store.open_run("r", None), store.open_run("s", None)
    book = book_of(run)
    book.keep_tools(0, {b"a": b"1", b"b": b"2"})
    book.keep_tools(0, {b"a": b"another"})
    book.keep_tools(1, {b"a": b"3"})
    assert (book.tools(0), book.tools(1), book.tools(2)) == ({b"a": b"1", b"b": b"2"}, {b"a": b"3"}, {})
    assert book_of(other).tools(0) == {}
    book.forget([0])
    assert (book.tools(0), book.tools(1)) == ({}, {b"a": b"3"})
    run.close()
    store.remove("r")
    assert book_of(store.open_run("r", None)).tools(1) == {}


def test_a_batch_that_nobody_planned_or_that_was_removed_meanwhile_is_not_written(book: Book) -> None:
    book.plan(BATCH, MEMBERS)
    with pytest.raises(StoreError, match=r"batch cccccccccccc was removed by another process"):
        book.put(replace(BATCH, tag="c" * 12, stage=Stage.ENDED))
    assert book.batches() == [BATCH]
