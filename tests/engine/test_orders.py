"""Other processes ask something of a run through its store, and see how it stands. Real files, a real clock."""

from __future__ import annotations

import asyncio
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from langchain_core.runnables import RunnableLambda

from cottonpalm import BatchProcessor, RunStopped, clock
from cottonpalm.engine.kept_report import KeptReport
from cottonpalm.engine.order_desk import Handles, OrderDesk
from cottonpalm.live.reading import Reading
from cottonpalm.observers import kept
from cottonpalm.protocols import StoredRow
from cottonpalm.store_extras import FindsRows, GivesOrders, Orders
from cottonpalm.stores import open_store
from tests.report.made import made

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cottonpalm.run import Run

pytestmark = pytest.mark.core


def until(holds: Callable[[], Any]) -> Any:
    """Wait for something that comes within seconds, on another thread; what it gave."""
    for _ in range(600):
        if found := holds():
            return found
        threading.Event().wait(0.02)
    raise AssertionError("it never came")


class Slow:
    """A chain whose rows end when they are let go."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.free = threading.Event()

    async def __call__(self, row: int) -> int:
        self.begun.append(row)
        while not self.free.is_set():
            await asyncio.sleep(0.005)
        return row


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Any]:
    """The store as another process opens it."""
    store = open_store(tmp_path / "s.db")
    assert isinstance(store, GivesOrders)
    yield store
    store.close()


def started(chain: Any, tmp_path: Path, rows: int = 40, **more: Any) -> Run:
    processor = BatchProcessor(
        RunnableLambda(chain), store=tmp_path / "s.db", run="r", concurrency=4, retry=0, **more
    )
    return processor.start(list(range(rows)))


def test_a_run_is_paused_and_goes_on_from_another_process(tmp_path: Path, outside: Any) -> None:
    slow = Slow()
    with started(slow, tmp_path) as run:
        until(lambda: len(slow.begun) == 4)
        outside.order("r", held=True)
        until(lambda: run._engine._backpressure.held)
        slow.free.set()
        until(lambda: run.stats.ok == 4)
        assert len(slow.begun) == 4  # those in flight are finished, no other begins
        outside.order("r", held=False)
        assert len(list(run)) == 40


def test_a_cap_from_outside_holds_and_is_lifted(tmp_path: Path, outside: Any) -> None:
    slow = Slow()
    with started(slow, tmp_path) as run:
        until(lambda: len(slow.begun) == 4)
        outside.order("r", most=1)
        until(lambda: run.limit == 1)
        outside.order("r", most=None)
        until(lambda: run.limit == 4)  # the user's own
        slow.free.set()
        assert len(list(run)) == 40


def test_a_cancel_from_outside_keeps_what_is_done_and_the_same_run_goes_on(
    tmp_path: Path, outside: Any
) -> None:
    slow = Slow()
    with started(slow, tmp_path) as run:
        until(lambda: len(slow.begun) == 4)
        outside.order("r", stop=True)
        until(lambda: run.stopped)
        slow.free.set()
        with pytest.raises(RunStopped, match="it was cancelled from the live page"):
            list(run)
    assert outside.runs()[0].ok == 4
    with started(slow, tmp_path) as run:  # the order was for the process that is gone
        assert len(list(run)) == 40
    assert outside.ordered("r") == Orders()
    assert sorted(slow.begun) == list(range(40))


def test_a_run_shows_how_it_stands_while_somebody_looks_and_only_then(tmp_path: Path, outside: Any) -> None:
    slow, seen = Slow(), []
    slow.free.set()

    async def third_fails(row: int) -> int:
        if row == 3:
            raise ValueError("row three is bad")
        if row > 20:
            await slow(row)
        return row

    class Sees:
        def see(self, event: Any) -> None:
            seen.append(event)

    slow.free.clear()
    with started(third_fails, tmp_path, observers=[Sees()]) as run:
        until(lambda: run.stats.ok >= 20)
        assert outside.shown("r") is None
        outside.order("r", watched=clock.wall() + 60)
        shown = orjson.loads(until(lambda: outside.shown("r")))
        assert (shown["ok"], shown["failed"], shown["held"], shown["cap"]) == (20, 1, False, 4)
        assert any(
            "failed row 4 (index 3): " in said and "row three is bad" in said for _, said in shown["notes"]
        )
        life = kept.read(shown["report"])
        assert life is not None
        assert (life.report.counts.ok, life.report.errors) == (20, {"fail_row": {"ValueError": 1}})
        slow.free.set()
        list(run)


def test_a_run_that_shows_how_it_goes_just_before_its_end_is_over_for_those_who_look(
    tmp_path: Path, outside: Any
) -> None:
    """The desk takes one more turn after the report of the end is kept."""
    with closing(open_store(tmp_path / "s.db")) as store, closing(store.open_run("r", None)) as run:
        report = KeptReport(run, lambda: made(rows=3))
        nothing = lambda *_: None  # noqa: E731
        handles = Handles(None, nothing, nothing, nothing, lambda: {"report": report.current()})
        outside.order("r", watched=clock.wall() + 60)
        desk = OrderDesk(run, handles)  # type: ignore[arg-type]
        desk.open()
        report.write(over=True)
        until(lambda: outside.shown("r"))
        desk.close()
    found = Reading(outside).run("r")
    assert found.life is not None
    assert (found.life.over, found.said) == (True, None)


def test_pages_of_rows_come_in_order_by_status_and_from_both_sides(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s.db")
    run = store.open_run("r", None)
    done = threading.Event()
    rows = [
        StoredRow(slot, bytes([slot]), b"", 2 + slot % 2 if slot % 7 == 0 else 1, b'{"o":"%d_%%"}' % slot)
        for slot in range(100)
    ]
    run.write(rows, lambda error: done.set())
    assert done.wait(10)
    found = store.look("r")
    assert isinstance(found, FindsRows)
    every = (1, 2, 3)
    assert found.page(-1, 1000, every, 3, back=False) == [0, 1, 2]
    assert found.page(2, 1000, (2, 3), 3, back=False) == [7, 14, 21]
    assert found.page(-1, 50, (2, 3), 3, back=True) == [49, 42, 35]
    assert found.page(-1, 1000, (2,), 99, back=False) == list(range(0, 100, 14))
    assert found.page(97, 1000, (1,), 9, back=False) == [99]
    assert found.holding([1, 2, 12, 13], "2_") == [2, 12]
    assert found.holding([1, 2], '_%"') == []
    plan = store._reader.rows(
        "EXPLAIN QUERY PLAN SELECT id FROM item WHERE id > 0 AND status <> 1 AND status IN (2,3)"
    )
    assert any(
        "item_not_ok" in str(line) for line in plan
    )  # a few failed rows of a million are found at once
    run.close()
    store.close()
