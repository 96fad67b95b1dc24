"""What workers promise, whoever carries them: the answers, counts and money of one process, and its limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cottonpalm import BatchProcessor, Budget
from tests.scale.chains import asking, computing, rows
from tests.support.loopback import LoopbackProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def server() -> Iterator[LoopbackProcess]:
    with LoopbackProcess(latency=0.02) as started:
        yield started


def told(processor: Any) -> dict[str, Any]:
    """What a run says of itself that must not depend on who did it."""
    report, stats = processor.last_run.report, processor.last_run.stats
    return {
        "counts": (report.counts.ok, report.counts.failed, report.counts.requests, report.counts.retries),
        "usage": report.usage,
        "cost": report.cost_usd,
        "reported": stats.reported_pico,
        "uncertain": stats.uncertain_pico,
        "models": sorted(report.by_model),
        "errors": report.errors,
    }


@pytest.mark.core
def test_the_same_job_gives_equal_outputs_ledger_and_report_as_on_one_process(
    spread: Callable[..., Any], server: LoopbackProcess, tmp_path: Path
) -> None:
    asked = rows(120)
    more = {"budget": Budget(total=1.0), "run": "r"}
    here = BatchProcessor(asking(server.openai_url), store=tmp_path / "here.db", **more)
    there = spread(
        asking(server.openai_url), store=tmp_path / "there.db", **{**more, "budget": Budget(total=1.0)}
    )
    expected = here.batch(asked)
    assert there.batch(asked) == expected == [f"answer to: row {number}" for number in range(120)]
    assert told(there) == told(here)
    assert told(there)["reported"] > 0


@pytest.mark.parametrize("workers", [2])
def test_a_number_in_flight_is_kept_at_the_server_to_the_last_request(
    spread: Callable[..., Any], workers: int
) -> None:
    with LoopbackProcess(latency=0.05) as server:
        processor = spread(asking(server.openai_url), workers, concurrency=6)
        processor.batch(rows(150))
        assert server.stats().peak == 6


def test_requests_per_minute_are_kept_at_the_server_to_the_last_request(spread: Callable[..., Any]) -> None:
    with LoopbackProcess(latency=0.01) as server:
        processor = spread(asking(server.openai_url), rate_limit=RateLimit(requests_per_minute=40))
        with processor.start(rows(60)) as run:
            answered = [next(run) for _ in range(36)]
            run.stop()
        assert len(answered) == 36
        assert server.stats().requests <= 40


def test_equal_rows_are_asked_once_by_all_workers_together(
    spread: Callable[..., Any], server: LoopbackProcess
) -> None:
    texts = [{"x": f"equal {number % 15}"} for number in range(90)]
    before = server.stats().requests
    answers = spread(asking(server.openai_url), cache=Cache()).batch(texts)
    assert answers == [f"answer to: {row['x']}" for row in texts]
    assert server.stats().requests - before == 15


def test_a_key_set_in_code_a_client_of_ones_own_and_a_lock_are_named_before_any_call() -> None:
    for chain, why in (
        (
            ChatOpenAI(model="m", api_key="sk-of-nobody-123456"),
            "openai_api_key is set in code, and no key travels",
        ),
        (ChatOpenAI(model="m", api_key="none", http_client=httpx.Client()), "http_client cannot travel"),
        (RunnableLambda(lambda row, lock=threading.Lock(): row), "cannot travel to another process"),
    ):
        with pytest.raises(ConfigError, match=why) as caught:
            BatchProcessor(chain, executor="processes", workers=1).batch(["x"])
        assert "sk-of-nobody" not in str(caught.value)


def test_settings_that_do_not_go_together_are_refused() -> None:
    chain = RunnableLambda(str)
    for more, why in (
        ({"workers": 2}, 'workers=... needs executor="processes" or executor="ray"'),
        ({"executor": "ray", "workers": 0}, "workers=0: say how many"),
        ({"executor": "dask"}, "executor='dask': say"),
        ({"executor": "processes", "ray_address": "auto"}, 'ray_address=... needs executor="ray"'),
    ):
        with pytest.raises(ConfigError, match=re.escape(why)):
            BatchProcessor(chain, **more)  # type: ignore[arg-type]


def test_a_failed_row_is_one_failed_row_and_its_exception_comes_back(spread: Callable[..., Any]) -> None:
    processor = spread(computing(), retry=0)
    answers = processor.batch(list(range(60)), return_exceptions=True)
    assert [answer for answer in answers if isinstance(answer, int)] == [
        n * 2 for n in range(60) if n % 10 != 3
    ]
    assert str(answers[33]) == "33 is refused"
    assert {type(answers[n]) for n in range(3, 60, 10)} == {ValueError}
