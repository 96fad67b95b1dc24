"""Stored rows as a report glances at them: the same as they unpack, in one pass, from any store."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda

from cottonpalm import BatchProcessor
from cottonpalm.engine.kept_report import KeptReport
from cottonpalm.live.stories import rows_of
from cottonpalm.observers import kept
from cottonpalm.observers.words.excerpt import LONGEST, excerpt
from cottonpalm.store_extras import ReadsOn
from cottonpalm.stores import open_store
from cottonpalm.stores.codec.glances import about, glances
from cottonpalm.stores.codec.records import pack, unpack
from cottonpalm.stores.memory import MemoryStore
from cottonpalm.types import ErrorRecord, Kind, Outcome, Usage
from tests.report.made import made

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cottonpalm.observers.report import Report
    from cottonpalm.protocols import Store

pytestmark = pytest.mark.core
OUTCOMES = [
    Outcome(
        0, "ok", "an answer", latency_s=1.5, attempts=1, usage=Usage(10, 5), cost_pico=7, input="a question"
    ),
    Outcome(
        1,
        "failed",
        None,
        error=ErrorRecord(Kind.REASK, "E", "why"),
        attempts=3,
        latency_s=9.0,
        input={"a": "b"},
    ),
    Outcome(2, "ok", {"l": 99, "e": ["x"]}, cached=True, latency_s=0.1, id="row-2"),
    Outcome(3, "failed", "half \ud800", error=ErrorRecord(Kind.TRANSIENT, "E\ud800", "m\ud800"), attempts=1),
]


def answers(row: Any) -> Any:
    if row == "bad":
        raise ValueError("this row is bad")
    return row


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: f"row {outcome.index}")
def test_a_glance_says_what_the_whole_record_says(outcome: Outcome) -> None:
    record = pack(outcome, keep_input=True, types={})
    [glance] = glances([(outcome.index, record)])
    whole = unpack(record, outcome.index, {})
    usage = whole.usage or Usage()
    assert glance[:5] == (
        outcome.index,
        whole.latency_s,
        whole.cost_pico,
        usage.input_tokens + usage.output_tokens,
        whole.attempts,
    )
    error = whole.error
    assert glance.error == (None if error is None else (str(error.kind), error.type, error.message))


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_one_pass_counts_what_the_store_holds(where: str, tmp_path: Path) -> None:
    store: Store = MemoryStore() if where == "memory" else open_store(str(tmp_path / "r.db"))
    given = ["bad" if n % 50 == 7 else f"row {n}" for n in range(3000)]
    BatchProcessor(RunnableLambda(answers), store=store, run="r", fingerprint="1").batch(
        given, return_exceptions=True
    )
    stored = store.look("r")
    seen = rows_of(stored)
    assert (seen.ok, seen.failed) == (2940, 60)
    assert seen.failed_at == [n for n in range(3000) if n % 50 == 7]
    example = seen.kinds["fail_row"].example
    assert (example.at, seen.texts[example.at]) == (7, "bad")
    assert rows_of(None).rows == 0
    store.close()


def test_records_are_read_on_in_order_and_are_those_that_are_asked_for(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "r.db"))
    for name in ("before", "r", "after"):
        BatchProcessor(RunnableLambda(answers), store=store, run=name, fingerprint="1").batch(
            list(range(100))
        )
    stored = store.look("r")
    assert isinstance(stored, ReadsOn)
    pages = [stored.records(-1, 40), stored.records(39, 40), stored.records(79, 40), stored.records(99, 40)]
    assert [len(page) for page in pages] == [40, 40, 20, 0]
    together = dict(pages[0] + pages[1] + pages[2])
    assert together == stored.read(range(100))
    assert list(together) == list(range(100))
    store.close()


def test_the_report_of_a_run_from_python_is_kept_at_its_end_and_before_that_when_asked(
    tmp_path: Path,
) -> None:
    store = open_store(str(tmp_path / "r.db"))

    def now() -> kept.Kept | None:
        [info] = store.runs()
        return kept.read(info.meta.get(kept.META))

    more = threading.Event()

    def source() -> Iterator[int]:
        yield from range(20)
        assert more.wait(30)
        yield from range(20, 40)

    processor = BatchProcessor(RunnableLambda(answers), store=store, run="r", fingerprint="1")
    with processor.start(source()) as run:
        for n, _ in enumerate(run):
            if n == 9:
                run.keep_report()
                middle = now()
                assert middle is not None
                assert not middle.over
                assert 10 <= middle.rows <= 20
                more.set()
    end = now()
    assert end is not None
    assert (end.over, end.reason, end.rows) == (True, None, 40)
    assert end.report.counts == run.report.counts
    processor.batch(list(range(40)))
    assert now() == end, "a life that did nothing leaves it"
    processor.batch(list(range(60)))
    last = now()
    assert last is not None
    assert (last.rows, last.report.counts.stored) == (20, 40)
    assert [rows for _, _, rows in last.lives] == [40]
    store.close()


def test_a_report_that_is_kept_while_the_run_ends_does_not_undo_its_end(tmp_path: Path) -> None:
    """As when the thread of a command keeps how it goes, and its run ends before that is written."""
    ends: list[threading.Thread] = []

    def looked() -> Report:
        if not ends:
            ends.append(threading.Thread(target=lambda: kept_report.write(over=True)))
            ends[0].start()
            ends[0].join(0.1)
        return made(rows=3)

    with closing(open_store(tmp_path / "s.db")) as store, closing(store.open_run("r", "v1")) as run:
        kept_report = KeptReport(run, looked)
        kept_report.write(over=False)
        ends[0].join()
        now = kept.read(run.meta()[kept.META])
        assert now is not None
        assert now.over
        kept_report.write(over=False)
        now = kept.read(run.meta()[kept.META])
        assert now is not None
        assert now.over, "one that comes later tells nothing either"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("text", "text"),
        ({"id": "7", "text": "the longest of them"}, "the longest of them"),
        ([HumanMessage("first"), AIMessage("second"), HumanMessage("asked")], "asked"),
        ({"messages": [HumanMessage("asked")]}, "asked"),
        (HumanMessage([{"type": "text", "text": "of parts"}]), "of parts"),
        (7, "7"),
        (None, "id"),
        ("x" * 9999, "x" * LONGEST),
    ],
)
def test_an_excerpt_is_what_the_row_asks(row: Any, said: str) -> None:
    assert excerpt(row, "id") == said
    assert (
        about(pack(Outcome(0, "ok", "x", input=row, id="id"), keep_input=row is not None, types={})) == said
    )
