"""What workers promise, whoever carries them: the same answers, counts and money as one process, and the same limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cottonpalm import BatchProcessor, Budget
from tests.scale.chains import asking, computing, rows
from tests.support.loopback import LoopbackProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Spread = "Callable[..., Any]"


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
        "models": {name: share for name, share in report.by_model.items()} and sorted(report.by_model),
        "errors": {
            name: sum(kinds.values()) if isinstance(kinds, dict) else kinds
            for name, kinds in report.errors.items()
        },
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


def test_a_failed_row_is_one_failed_row_and_its_exception_comes_back(spread: Callable[..., Any]) -> None:
    processor = spread(computing(), retry=0)
    answers = processor.batch(list(range(60)), return_exceptions=True)
    assert [answer for answer in answers if isinstance(answer, int)] == [
        n * 2 for n in range(60) if n % 10 != 3
    ]
    assert str(answers[33]) == "33 is refused"
    assert {type(answers[n]) for n in range(3, 60, 10)} == {ValueError}
