"""What is seen of a run at workers: the events, what binds and the limits are those of one process."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from cottonpalm import (
    BatchProcessor,
    Binding,
    Budget,
    BudgetShare,
    CostSpike,
    LimitChanged,
    Limits,
    RateLimit,
    RequestFinished,
    RowFinished,
    RunStopped,
)
from tests.live.conftest import until
from tests.scale.chains import MODEL, asking, rows
from tests.support.loopback import LoopbackProcess

if TYPE_CHECKING:
    from pathlib import Path

    from cottonpalm import Event

EXECUTORS = [{}, {"executor": "processes", "workers": 2}]


def test_the_limit_begins_with_the_workers() -> None:
    """It was 0 until then, in the report's numbers and in its plot."""
    with LoopbackProcess(latency=0.05) as server:
        processor = BatchProcessor(asking(server.openai_url), concurrency=4, executor="processes", workers=2)
        processor.batch(rows(60))
    assert processor.last_run is not None
    moments = processor.last_run.report.over_time
    assert {moment.limit for moment in moments if moment.in_flight == 0} >= {None}
    assert all(moment.limit is None or moment.limit > 0 for moment in moments)


@pytest.mark.as_shipped
@pytest.mark.parametrize("executor", EXECUTORS, ids=["here", "processes"])
def test_what_workers_sent_stands_in_the_reports_transports(executor: Any) -> None:
    """It was empty, as each worker counted for itself."""
    with LoopbackProcess() as server:
        prompt, model, parser = asking(server.openai_url).steps
        for chain, way in (
            (prompt | model | parser, "fast"),
            (prompt | model.bind(stream=True) | parser, "stock: a streamed answer"),
        ):
            processor = BatchProcessor(chain, concurrency=4, **executor)
            processor.batch(rows(20), return_exceptions=True)
            assert processor.last_run is not None
            sent = processor.last_run.report.transports
            assert sum(sent.values()) == 20
            assert sent[way] >= 10, "all but the first few of each worker"


def test_runs_that_share_a_number_are_held_by_it_and_not_by_the_provider(tmp_path: Path) -> None:
    """It was "concurrency", with the advice to add an endpoint, of a provider that had refused nothing."""
    with LoopbackProcess(latency=0.1) as server:
        both = [
            BatchProcessor(
                asking(server.openai_url), concurrency=4, store=tmp_path / "s.db", run=name, limits=Limits()
            )
            for name in "ab"
        ]
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(lambda processor: processor.batch(rows(60)), both))
    for processor in both:
        assert processor.last_run is not None
        report = processor.last_run.report
        assert report.bound_s["maximum"] > report.bound_s.get("concurrency", 0.0)
        assert "Add an endpoint" not in report.text()
    assert any(
        "other runs on this store have the rest" in str(each.last_run.report.bound_by) for each in both
    )


class Seen:
    """An observer that keeps all."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def see(self, event: Event) -> None:
        self.events.append(event)

    def all(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.mark.parametrize("executor", EXECUTORS, ids=["here", "processes"])
def test_events_name_the_rows_of_the_input_and_what_concerns_the_run_is_told_once(executor: Any) -> None:
    seen = Seen()
    with LoopbackProcess(latency=0.01) as server:
        BatchProcessor(
            asking(server.openai_url, max_tokens=400),
            prices={MODEL: (0.01, 1.0)},
            # so much that two may ask for their most at once: no answer is kept short, and asked for again
            budget=Budget(total=0.0016),
            concurrency=2,
            observers=[seen],
            **executor,
        ).batch([*rows(60), {"x": "dear " * 300}, *rows(90)[60:]], return_exceptions=True)
    assert Counter(event.index for event in seen.all(RequestFinished)) == Counter(range(91))
    ended: set[int] = set()
    for event in seen.events:
        if isinstance(event, RowFinished):
            ended.add(event.outcome.index)
        assert not (isinstance(event, RequestFinished) and event.index in ended)
    assert [event.index for event in seen.all(CostSpike)] == [60]
    assert [(event.share, event.budget_usd) for event in seen.all(BudgetShare)] == [(0.5, 0.0016)]


@pytest.mark.parametrize("executor", EXECUTORS, ids=["here", "processes"])
def test_what_binds_is_what_the_workers_meet_and_the_limit_is_that_of_all(
    executor: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    seen = Seen()
    with LoopbackProcess(latency=0.01) as server:
        processor = BatchProcessor(
            asking(server.openai_url, model="of-no-known-price"),
            rate_limit=RateLimit(requests_per_minute=300),
            concurrency=6,
            observers=[seen],
            **executor,
        )
        with processor.start(rows(300)) as run:
            with suppress(RunStopped):
                for _ in run:
                    whole = any(
                        event.limit > 3 for event in seen.all(LimitChanged)
                    )  # not one worker's part of it
                    if whole and "own requests" in {event.what for event in seen.all(Binding)}:
                        run.stop()
            report = run.report
    assert "source" not in report.bound_s  # workers wait for rows, the run does not
    assert report.bound_s["own requests"] > 0
    assert 3 < max(event.limit for event in seen.all(LimitChanged)) <= 6
    assert "(0 at the end)" not in report.text()
    assert caplog.text.count("no price is known") == 1
    assert "no price is known" not in capfd.readouterr().err  # no worker says so for itself


@pytest.mark.parametrize("executor", EXECUTORS, ids=["here", "processes"])
def test_how_long_a_provider_wants_to_be_left_alone_is_known_wherever_the_rows_run(executor: Any) -> None:
    with LoopbackProcess() as server:
        server.script({"always": {"status": 429, "headers": {"retry-after": "30"}}})
        with BatchProcessor(asking(server.openai_url), concurrency=2, **executor).start(rows(10)) as run:
            pause_s = until(lambda: run.stats.pause_s)
            assert 20 < pause_s < 40  # what is added to it is another test
            run.stop()


@pytest.mark.parametrize("executor", EXECUTORS, ids=["here", "processes"])
def test_the_last_rows_are_said_to_wait_for_a_provider_that_is_down(executor: Any) -> None:
    """They were said to be the last rows, and no more, where workers ask."""
    server = LoopbackProcess(latency=0.5).__enter__()
    with BatchProcessor(asking(server.openai_url), concurrency=4, **executor).start(rows(8)) as run:
        next(iter(run))
        server.__exit__(None, None, None)
        assert until(lambda: run.stats.binding.what == "down")
        run.stop()
