"""How a run's events reach its observers: one by one, or in groups."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from cottonpalm import BatchProcessor, Cache, clock
from cottonpalm.engine.output.telling import GROUP, LATEST_S, Telling
from cottonpalm.events import (
    CacheHit,
    ChunkFinished,
    Event,
    Paused,
    RequestFinished,
    RowFinished,
    RowStarted,
    RunEnded,
    RunStarted,
)
from cottonpalm.observers.told import Told
from cottonpalm.testing import virtual_run
from cottonpalm.types import ErrorRecord, Kind, Outcome, Usage
from tests.engine.helpers import Probe, Watch

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest


class Groups(Watch):
    """An observer that keeps the groups it is told of."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[list[tuple[float, Event]]] = []
        self.told: list[float] = []

    def see_all(self, events: Sequence[tuple[float, Event]]) -> None:
        self.groups.append(list(events))
        self.told.append(clock.wall())
        self.events += [event for _, event in events]


def test_an_observer_of_groups_is_told_the_same_in_the_same_order_as_one_of_single_events() -> None:
    one, many = Watch(), Groups()
    processor = BatchProcessor(Probe(0.0), observers=[one, many], concurrency=1000)
    virtual_run(processor.abatch(list(range(1000))))
    assert many.events == one.events
    assert max(map(len, many.groups)) == GROUP
    assert len(many.groups) < len(many.events) / 10


def test_an_event_waits_for_others_a_tenth_of_a_second_at_most_and_keeps_its_own_time() -> None:
    many = Groups()
    virtual_run(BatchProcessor(Probe(10.0), observers=[many], concurrency=1).abatch([1, 2, 3]))
    waited = [told - at for told, group in zip(many.told, many.groups, strict=True) for at, _ in group]
    assert max(waited) <= LATEST_S + 1e-6
    began = [at for group in many.groups for at, event in group if isinstance(event, RowStarted)]
    assert [round(later - at) for at, later in pairwise(began)] == [10, 10]


def test_what_is_rare_is_told_at_once_and_brings_along_what_waited() -> None:
    many = Groups()

    async def main() -> None:
        telling = Telling([many])
        telling.open(asyncio.get_running_loop())
        telling.emit(RowStarted(0))
        assert many.events == []
        telling.emit(Paused("h/m", 7.0))
        assert many.events == [RowStarted(0), Paused("h/m", 7.0)]
        telling.close()

    virtual_run(main())


def test_an_observer_of_groups_that_raises_is_switched_off_and_the_others_hear_all() -> None:
    class Broken(Groups):
        def see_all(self, events: Sequence[tuple[float, Any]]) -> None:
            super().see_all(events)
            raise SystemExit(3)

    broken, after = Broken(), Groups()
    answers = virtual_run(BatchProcessor(Probe(), observers=[broken, after]).abatch([1, 2, 3]))
    assert len(answers) == 3
    assert len(broken.groups) == 1
    assert len(after.of(RowFinished)) == 3


def test_a_run_that_is_cancelled_leaves_no_event_untold() -> None:
    many = Groups()

    async def main() -> None:
        task = asyncio.ensure_future(BatchProcessor(Probe(100.0), observers=[many]).abatch([1, 2]))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        assert [len(many.of(kind)) for kind in (RunStarted, RowStarted, RowFinished, RunEnded)] == [
            1,
            2,
            2,
            1,
        ]

    virtual_run(main())


def test_only_the_last_event_of_a_group_can_be_another_one_than_those_that_each_row_has() -> None:
    many = Groups()
    virtual_run(BatchProcessor(Probe(0.01), observers=[many], chunk_size=7).abatch(list(range(100))))
    each = RowStarted, RequestFinished, RowFinished
    assert all(isinstance(event, each) for group in many.groups for _, event in group[:-1])
    assert len(many.of(ChunkFinished)) == 15


def test_told_events_are_sorted_by_kind_in_order_and_a_group_stays_itself() -> None:
    fine, failed = (
        Outcome(0, "ok"),
        Outcome(1, "failed", error=ErrorRecord(Kind.FAIL_ROW, "ValueError", "no")),
    )
    asked = RequestFinished(0, "h/m", 200, None, 0.5, None)
    events: list[Event] = [
        RowStarted(0),
        RowStarted(1),
        asked,
        RowFinished(fine),
        RowFinished(failed),
        Paused("h/m", 1),
    ]
    told = Told.of(enumerate(events))
    assert told.kinds == (
        [(0, RowStarted(0)), (1, RowStarted(1))],
        [(2, asked)],
        [(3, RowFinished(fine)), (4, RowFinished(failed))],
        [(4, RowFinished(failed))],
        [(5, Paused("h/m", 1))],
    )
    assert Told.of(told) is told


class EachRun(Watch):
    """An observer that gives each run a watch of its own, or breaks."""

    def __init__(self, *, breaks: bool = False) -> None:
        super().__init__()
        self.runs: list[Groups] = []
        self.breaks = breaks

    def of_run(self) -> Groups:
        if self.breaks:
            raise ValueError("no observer today")
        self.runs.append(Groups())
        return self.runs[-1]


def test_an_observer_of_several_runs_gives_each_one_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    observer, broken = EachRun(), EachRun(breaks=True)
    processor = BatchProcessor(Probe(1.0), observers=[observer, broken])

    async def together() -> None:
        await asyncio.gather(processor.abatch([1, 2, 3]), processor.ainvoke(4))

    virtual_run(together())
    assert sorted(len(run.of(RowFinished)) for run in observer.runs) == [1, 3]
    assert [(type(run.events[0]), type(run.events[-1])) for run in observer.runs] == [
        (RunStarted, RunEnded)
    ] * 2
    assert observer.events == []
    assert caplog.text.count("failed and is now switched off") == 2


def test_rows_that_the_cache_answers_are_told_in_groups_too() -> None:
    many = Groups()
    virtual_run(BatchProcessor(Probe(), observers=[many], cache=Cache()).abatch([1] * 500))
    assert len(many.of(CacheHit)) == 499
    assert len(many.groups) < 10


def test_what_requests_and_rows_came_to_is_added_up_by_the_way_they_ended() -> None:
    used, key = Usage(5, 6), "h/m"
    events: list[Event] = [
        RequestFinished(0, key, 429, Kind.THROTTLE, 0.1, None),
        RequestFinished(0, key, 200, None, 0.2, used),
        RequestFinished(1, key, 200, None, 0.3, None),
        RowFinished(Outcome(0, "ok", latency_s=0.4, cost_pico=7)),
        RowFinished(Outcome(1, "ok", latency_s=0.0, cached=True)),
        RowFinished(Outcome(2, "failed", latency_s=0.5, cost_pico=2)),
        RowFinished(Outcome(3, "ok", latency_s=0.6, cost_pico=9, stored=True)),
    ]
    told = Told.of(enumerate(events))
    assert told.tries == [(key, 429, Kind.THROTTLE, [0.1], [], []), (key, 200, None, [0.2, 0.3], [5], [6])]
    assert told.ended == [("ok", 1, [0.4, 0.0], 7), ("failed", 0, [0.5], 2)]
