"""A run's events have the types that the pages say: `isinstance(event, RowChunk)` is code that a checker can reach."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETTINGS = """
[mypy]
mypy_path = {src}
# what others wrote takes a minute to read, and says nothing here
follow_imports = skip
[mypy-cottonpalm.*]
follow_imports = silent
"""
CODE = """
from typing import Any, assert_type

from cottonpalm import AsyncRun, BatchProcessor, Outcome, Run, RowChunk
from cottonpalm.events import RowFinished, RowRestarted, RowStarted


def plainly(processor: BatchProcessor) -> None:
    run: Run = processor.start(["a"], skip_stored=True)
    for outcome in run:
        assert_type(outcome, Outcome)


def streamed(processor: BatchProcessor) -> None:
    for event in processor.start(["a"], ["id"], stream=True):
        assert_type(event, RowStarted | RowChunk | RowRestarted | RowFinished)
        if isinstance(event, RowChunk):
            print(event.chunk)


def either(processor: BatchProcessor, stream: bool) -> None:
    for got in processor.start(["a"], stream=stream):
        assert_type(got, Any)


def answered(processor: BatchProcessor[str], unknown: BatchProcessor) -> None:
    assert_type(processor.batch(["a"]), list[str])
    assert_type(processor.invoke("a"), str)
    assert_type(unknown.batch(["a"]), list[Any])
    [failed] = processor.batch(["a"], return_exceptions=True)
    if isinstance(failed, Exception):
        print(failed.args)


async def awaited(processor: BatchProcessor, texts: BatchProcessor[str], flag: bool) -> None:
    assert_type(await texts.abatch(["a"]), list[str])
    assert_type(await texts.abatch(["a"], return_exceptions=flag), list[Any])
    run: AsyncRun = processor.astart(["a"])
    async for outcome in run:
        assert_type(outcome, Outcome)
    async for event in processor.astart(["a"], stream=True):
        if isinstance(event, RowFinished):
            assert_type(event.outcome, Outcome)
"""


def test_a_run_gives_outcomes_or_the_events_that_were_asked_for(tmp_path: Path) -> None:
    api = pytest.importorskip("mypy.api")
    code = tmp_path / "users.py"
    code.write_text(CODE)
    settings = tmp_path / "mypy.ini"
    settings.write_text(SETTINGS.format(src=ROOT / "src"))
    where = ["--config-file", str(settings), "--cache-dir", str(tmp_path / "cache")]
    said, errors, _ = api.run([*where, "--strict", "--warn-unreachable", str(code)])
    assert (said.strip(), errors) == ("Success: no issues found in 1 source file", "")
