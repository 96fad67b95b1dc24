"""The listings' attributes may be set, and what is set holds from the next call on."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.output_parsers import PydanticOutputParser
from pydantic import BaseModel

from cottonpalm import (
    CachedBatchProcessor,
    ChunkedBatchProcessor,
    ConfigError,
    CostAwareBatchProcessor,
    ResumableBatchProcessor,
    RunStopped,
    SmartRetryBatch,
)
from cottonpalm.testing import ScriptedChain
from tests.presets.kinds import PRESETS, Preset, rows_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.core


def saying(word: str) -> ScriptedChain:
    return ScriptedChain(then=lambda row: f"{word}: {row['x']}")


@pytest.mark.parametrize("preset", PRESETS, ids=repr)
def test_another_chain_in_place_of_the_first_runs_from_the_next_call_on(
    preset: Preset, tmp_path: Path
) -> None:
    processor, other = preset.make(saying("one"), tmp_path), saying("two")
    assert preset.run(processor, rows_of(3)) == ["one: row 0", "one: row 1", "one: row 2"]
    processor.chain = other
    assert processor.chain is other
    assert preset.run(processor, rows_of(3)) == ["two: row 0", "two: row 1", "two: row 2"]


def test_attempts_may_be_set() -> None:
    processor = SmartRetryBatch(ScriptedChain(then=lambda _: ConnectionError("reset")), 3)
    processor.max_retries = 1
    assert processor.batch_with_smart_retry(["row"]) == [None]
    assert len(processor.chain.rows) == processor.max_retries == 1  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="max_retries=0"):
        processor.max_retries = 0


def test_the_size_of_a_chunk_may_be_set() -> None:
    processor = ChunkedBatchProcessor(saying("a"), 100)
    processor.chunk_size = 2
    processor.batch(rows_of(5))
    last: Any = processor.processor.last_run
    assert processor.chunk_size == 2
    assert processor.processor._settings.chunk_size == 2
    assert last.stats.ok == 5
    with pytest.raises(ConfigError, match="chunk_size=0"):
        processor.chunk_size = 0


def test_the_size_of_the_cache_may_be_set_and_the_newest_answers_stay() -> None:
    processor = CachedBatchProcessor(saying("a"), 100)
    processor.batch(rows_of(5))
    processor.cache_size = 2
    assert processor.cache_size == len(processor.cache) == 2
    processor.batch(rows_of(5)[3:])
    assert processor.cache_hits == 2
    processor.batch(rows_of(9)[6:])
    assert len(processor.cache) == 2
    with pytest.raises(ConfigError, match="cache_size=0"):
        processor.cache_size = 0


def test_the_cache_is_a_mapping_of_answers() -> None:
    processor = CachedBatchProcessor(ScriptedChain(then=lambda row: [row["x"]]))
    assert not processor.cache
    processor.batch(rows_of(3))
    cache = processor.cache
    assert list(cache.values()) == [["row 0"], ["row 1"], ["row 2"]]
    first = next(iter(cache))
    assert first in cache
    assert cache.get(b"unknown") is None
    assert cache.get("a text") is None  # type: ignore[call-overload]
    cache[first].append("changed")
    assert cache.pop(first) == ["row 0"]
    assert len(cache) == 2
    with pytest.raises(TypeError, match="from the chain alone"):
        cache[first] = "mine"
    with pytest.raises(ConfigError, match="empty mapping"):
        processor.cache = {"a": "b"}  # type: ignore[assignment]
    processor.cache = {}  # type: ignore[assignment]
    assert dict(processor.cache) == {}
    processor.batch(rows_of(3))
    assert processor.cache_misses == 6


def test_a_budget_holds_over_a_change_of_the_chain() -> None:
    processor = CostAwareBatchProcessor(saying("a"))
    processor.batch(rows_of(2))
    spent = processor.cost_tracker["total_cost"]
    processor.chain = saying("b")
    processor.batch(rows_of(2))
    assert processor.cost_tracker["total_cost"] == pytest.approx(2 * spent)
    assert processor.cost_tracker["request_count"] == 4


def test_counts_of_hits_and_misses_may_be_set_back() -> None:
    processor = CachedBatchProcessor(saying("a"))
    processor.batch(rows_of(3) * 2)
    processor.cache_hits = processor.cache_misses = 0
    processor.batch(rows_of(4))
    assert (processor.cache_hits, processor.cache_misses) == (3, 1)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("AdaptiveBatchProcessor", "concurrency is now"),
        ("SmartRetryBatch", "0 of 12 rows were tried more than once"),
        ("CostAwareBatchProcessor", "10 requests so far, $0.00"),
        ("CachedBatchProcessor", "0 of 12 rows were hits"),
        ("ChunkedBatchProcessor", "chunk 1: 10 rows, 0 failed"),
        ("ResumableBatchProcessor", "checkpoint: 10 of 12 rows are done"),
        ("HybridBatchProcessor", "the rows run live"),
    ],
)
def test_what_a_listing_prints_as_it_goes_is_said_to_the_log(
    name: str, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (preset,) = [one for one in PRESETS if one.name.startswith(name)]
    with caplog.at_level("INFO", "cottonpalm"):
        preset.run(preset.make(saying("a"), tmp_path), rows_of(12))
    assert said in caplog.text


def test_each_failed_row_has_its_why_in_words() -> None:
    chain = ScriptedChain(then=lambda row: ValueError("no such column") if row["x"] == "row 1" else "fine")
    processor = ChunkedBatchProcessor(chain)
    assert processor.errors == {}
    assert processor.batch(rows_of(3)) == ["fine", None, "fine"]
    assert processor.errors == {1: "ValueError: no such column"}
    processor.batch(rows_of(1))
    assert processor.errors == {}


@pytest.mark.parametrize("preset", [one for one in PRESETS if not one.name.startswith("Streaming")], ids=repr)
def test_what_messages_name_is_there_in_each_class(preset: Preset, tmp_path: Path) -> None:
    """A log line and the note of an exception say `processor.last_run.outcomes()` and `processor.retry()`."""
    chain = ScriptedChain(ValueError("this once"), then=lambda row: row["x"])
    processor = preset.make(chain, tmp_path)
    with suppress(ValueError):
        preset.run(processor, rows_of(3))
    assert [outcome.status for outcome in processor.last_run.outcomes()].count("failed") == 1
    assert [outcome.status for outcome in processor.retry()] == ["ok"]


def test_another_tracker_in_place_of_the_first_counts_from_nothing() -> None:
    processor = CostAwareBatchProcessor(saying("a"), budget_per_hour=1.0)
    processor.batch(rows_of(2))
    fresh = {"total_cost": 0.0, "start_time": 0.0, "request_count": 0}
    processor.cost_tracker = fresh
    processor.batch(rows_of(2))
    assert processor.cost_tracker is fresh
    assert fresh["total_cost"] > 0
    assert fresh["request_count"] == 2
    fresh["total_cost"] = 2.0
    with pytest.raises(RunStopped, match="over budget"):
        processor.check_budget()


class Word(BaseModel):
    """An answer of a class of its own."""

    text: str


def test_a_checkpoint_reads_the_answers_of_a_chain_that_was_put_in_later(tmp_path: Path) -> None:
    typed = ScriptedChain(Word(text="one"), ValueError("not today")) | PydanticOutputParser(
        pydantic_object=Word
    )
    processor = ResumableBatchProcessor(saying("a"), tmp_path / "checkpoint")
    processor.chain = typed
    assert set(processor._checkpoint.types) == set(processor.processor.types) != set()
