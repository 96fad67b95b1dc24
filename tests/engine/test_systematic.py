"""A run whose first rows all fail for one reason stops there, and says the reason."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from cottonpalm import BatchProcessor, RunStopped
from cottonpalm.stats import SAME, FirstRows
from cottonpalm.testing import virtual_run
from cottonpalm.types import ErrorRecord, Kind, Outcome

pytestmark = pytest.mark.core
ERROR = ErrorRecord(Kind.FAIL_ROW, "BadRequestError", "temperature is not supported (req_0a1)")


def failed(index: int, error: ErrorRecord = ERROR) -> Outcome:
    return Outcome(index, "failed", error=error)


async def unsupported(row: int) -> int:
    await asyncio.sleep(0.1)
    raise ValueError(f"temperature is not supported (request {row:x}f7)")


def test_when_the_first_twenty_rows_fail_alike_the_run_stops_and_says_why() -> None:
    calls: list[int] = []

    async def call(row: int) -> int:
        calls.append(row)
        return await unsupported(row)

    async def main() -> RunStopped:
        with pytest.raises(RunStopped) as caught:
            await BatchProcessor(RunnableLambda(call), concurrency=4).abatch(list(range(2_000)))
        return caught.value

    stopped = virtual_run(main())
    assert stopped.reason == "fatal"
    words = "the first 20 rows that were over all failed alike: ValueError: temperature is not supported"
    assert words in str(stopped)
    assert "max_failures=1.0" in str(stopped)
    assert isinstance(stopped.__cause__, ValueError)
    assert 20 <= len(calls) < 20 + 2 * 4


def test_a_share_of_one_says_go_on_all_the_same() -> None:
    calls: list[int] = []

    async def call(row: int) -> int:
        calls.append(row)
        return await unsupported(row)

    async def main() -> list[Any]:
        processor = BatchProcessor(RunnableLambda(call), concurrency=4, max_failures=1.0)
        return await processor.abatch(list(range(150)), return_exceptions=True)

    assert all(isinstance(answer, ValueError) for answer in virtual_run(main()))
    assert len(calls) == 150


def test_rows_that_fail_fast_do_not_stop_a_run_whose_good_rows_are_slow() -> None:
    async def call(row: int) -> int:
        if row % 10 == 0:
            raise ValueError("too long")
        await asyncio.sleep(5)
        return row

    async def main() -> list[Any]:
        return await BatchProcessor(RunnableLambda(call), concurrency=300).abatch(
            list(range(400)), return_exceptions=True
        )

    answers = virtual_run(main())
    assert sum(isinstance(answer, ValueError) for answer in answers) == 40
    assert sum(isinstance(answer, int) for answer in answers) == 360


def test_a_row_that_hangs_among_the_first_does_not_let_all_others_fail() -> None:
    calls: list[int] = []

    async def call(row: int) -> int:
        calls.append(row)
        if row == 3:
            await asyncio.sleep(100_000)
        return await unsupported(row)

    async def main() -> None:
        async with BatchProcessor(RunnableLambda(call), concurrency=8).astart(list(range(2_000))) as run:
            async for _ in run:
                if run.stopped is not None:
                    break
            assert run.stopped is not None
            assert run.stopped.reason == "fatal"

    virtual_run(main())
    assert 20 <= len(calls) < 50


@pytest.mark.parametrize(
    "other",
    [
        ErrorRecord(Kind.FAIL_ROW, "KeyError", ERROR.message),
        ErrorRecord(Kind.FAIL_ROW, ERROR.type, "the prompt is too long"),
        ErrorRecord(Kind.REASK, ERROR.type, ERROR.message),
        ErrorRecord(Kind.TRANSIENT, ERROR.type, ERROR.message, retryable=True),
    ],
)
def test_one_row_that_fails_otherwise_shows_that_it_is_not_the_run(other: ErrorRecord) -> None:
    rows = FirstRows()
    for n in range(SAME - 1):
        rows.add(failed(n), began_s=0.0)
    rows.add(failed(SAME, other), began_s=0.0)
    rows.add(failed(SAME + 1), began_s=0.0)
    assert not rows.all_alike([])


def test_rows_that_fail_retryably_alike_are_no_reason_to_stop() -> None:
    rows = FirstRows()
    for n in range(2 * SAME):
        rows.add(failed(n, ErrorRecord(Kind.TRANSIENT, "Timeout", "late", retryable=True)), began_s=0.0)
    assert not rows.all_alike([])


def test_one_good_answer_ends_the_suspicion_for_good() -> None:
    rows = FirstRows()
    rows.add(Outcome(0, "ok"), began_s=0.0)
    for n in range(2 * SAME):
        rows.add(failed(n), began_s=0.0)
    assert not rows.all_alike([])


def test_exactly_twenty_are_needed_and_numbers_in_the_text_make_no_difference() -> None:
    rows = FirstRows()
    for n in range(SAME):
        assert not rows.all_alike([])
        error = ErrorRecord(Kind.FAIL_ROW, ERROR.type, f"temperature is not supported (req_{n:x}b{n})")
        rows.add(failed(n, error), began_s=float(n))
    assert rows.all_alike([])


def test_a_row_that_began_before_them_is_waited_for_until_those_in_flight_are_fewer() -> None:
    rows = FirstRows()
    for n in range(SAME):
        rows.add(failed(n), began_s=float(n))
    assert rows.all_alike([SAME - 0.5] * 100), "these began after the last of the twenty"
    assert not rows.all_alike([SAME - 1.0] + [100.0] * SAME)
    assert rows.all_alike([SAME - 1.0] + [100.0] * (SAME - 1))


def test_a_resume_of_a_run_that_has_answers_goes_on(tmp_path: Any) -> None:
    async def call(row: int) -> int:
        if row >= 5:
            raise ValueError("too long")
        return row

    def processor(**more: Any) -> BatchProcessor:
        return BatchProcessor(RunnableLambda(call), store=tmp_path / "s.db", run="r", concurrency=2, **more)

    processor().batch(list(range(5)))
    answers = processor().batch(list(range(60)), return_exceptions=True)
    assert sum(isinstance(answer, ValueError) for answer in answers) == 55
    with pytest.raises(RunStopped, match="all failed alike"):
        BatchProcessor(RunnableLambda(call), store=tmp_path / "s.db", run="other").batch(list(range(5, 60)))
    with pytest.raises(RunStopped, match="all failed alike"):
        BatchProcessor(RunnableLambda(call), store=tmp_path / "s.db", run="other").batch(list(range(5, 60)))


def test_a_reason_that_ends_with_a_full_stop_gets_no_second_one() -> None:
    first = FirstRows()
    for index in range(SAME):
        first.add(
            failed(index, ErrorRecord(Kind.FAIL_ROW, "BadRequestError", "The request is not valid.")),
            began_s=0.0,
        )
    assert "The request is not valid. If the others" in str(first)
