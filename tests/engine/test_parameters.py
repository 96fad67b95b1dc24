"""What each way to run rows takes beside them: ids, priorities, a sample, the rows again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from cottonpalm import BatchProcessor, ConfigError, RetryPolicy
from cottonpalm.testing import ScriptedChain

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.core
ROWS, IDS = ["a", "b", "c"], ["1", "2", "3"]


def stored(chain: ScriptedChain, path: Path, **more: Any) -> BatchProcessor:
    return BatchProcessor(chain, store=path / "runs.db", run="named", concurrency=1, **more)


def ids_of(processor: BatchProcessor) -> list[str | None]:
    assert processor.last_run is not None
    return [outcome.id for outcome in processor.last_run.outcomes()]


def echo() -> ScriptedChain:
    return ScriptedChain(then=str)


def test_a_row_is_known_by_its_id_whatever_it_says_now(tmp_path: Path) -> None:
    chain = echo()
    processor = stored(chain, tmp_path)
    assert processor.batch(ROWS, ids=IDS) == ROWS
    assert ids_of(processor) == IDS
    assert processor.batch(["b", "a", "d"], ids=["2", "1", "4"]) == ["b", "a", "d"]
    assert chain.rows == [*ROWS, "d"]
    assert asyncio.run(processor.abatch(["c"], ids=["3"])) == ["c"]
    assert chain.rows == [*ROWS, "d"]


def test_started_runs_take_ids_and_priorities(tmp_path: Path) -> None:
    chain = echo()
    processor = stored(chain, tmp_path)
    with processor.start(ROWS, ids=lambda row: row.upper(), priorities=[1, 3, 2]) as run:
        found = {outcome.id: outcome.output for outcome in run}
    assert found == {"A": "a", "B": "b", "C": "c"}
    assert chain.rows == ["b", "c", "a"]

    async def more() -> list[str | None]:
        async with processor.astart(["d", "e"], ids=["D", "E"], priorities=[1, 2]) as run:
            return sorted([str(outcome.id) async for outcome in run])

    assert asyncio.run(more()) == ["D", "E"]
    assert chain.rows[3:] == ["e", "d"]


@pytest.mark.parametrize("keyword", ["ids", "priorities"])
def test_an_async_function_of_a_row_is_refused_as_nobody_awaits_it(keyword: str) -> None:
    async def later(row: str) -> str:
        return row

    given: dict[str, Any] = {keyword: later}
    with pytest.raises(ConfigError, match=rf"^{keyword}=.* must be a function without async"):
        BatchProcessor(ScriptedChain()).start(ROWS, **given)


def test_a_plan_finds_stored_rows_by_their_ids(tmp_path: Path) -> None:
    processor = stored(echo(), tmp_path)
    processor.batch(ROWS, ids=IDS)
    rows, ids = ["c", "new"], ["3", "9"]
    assert (processor.plan(rows, ids=ids).stored, processor.plan(rows).stored) == (1, 0)
    assert asyncio.run(processor.aplan(rows, ids=ids)).stored == 1


def test_a_plan_on_a_loop_may_run_a_sample(tmp_path: Path) -> None:
    plan = asyncio.run(stored(echo(), tmp_path).aplan(list("abcdefgh"), sample=3))
    assert (plan.sampled, plan.rows) == (3, 8)


def test_rows_that_were_not_kept_are_given_again_to_a_retry_with_their_ids(tmp_path: Path) -> None:
    chain = ScriptedChain("a", ValueError("no"), "c", then=str)
    processor = stored(chain, tmp_path, store_inputs=False)
    processor.batch(ROWS, ids=IDS, return_exceptions=True)
    outcomes = list(processor.retry(rows=ROWS, ids=IDS))
    assert [(one.id, one.output) for one in outcomes if one.output is not None][-1] == ("2", "b")
    assert chain.rows == [*ROWS, "b"]


def test_exceptions_come_in_place_of_answers_as_rows_complete_where_that_is_asked() -> None:
    async def main() -> dict[int, Any]:
        processor = BatchProcessor(ScriptedChain(then=lambda row: ValueError(row) if row == "b" else row))
        return {n: got async for n, got in processor.abatch_as_completed(ROWS, return_exceptions=True)}

    found = asyncio.run(main())
    assert (found[0], type(found[1]), found[2]) == ("a", ValueError, "c")


def test_every_send_may_count_as_a_try() -> None:
    def rejected(row: Any) -> Any:
        import openai

        from tests.presets.test_attributes import sdk_error

        return sdk_error(openai, "RateLimitError", 429, {"retry-after-ms": "1"})

    chain = ScriptedChain(then=rejected)
    policy = RetryPolicy(retries=1, count_all=True)
    BatchProcessor(chain, retry=policy).batch(["a"], return_exceptions=True)
    assert len(chain.rows) == 2


def test_rows_as_they_complete_take_ids_and_priorities(tmp_path: Path) -> None:
    chain = echo()
    processor = stored(chain, tmp_path)
    pairs = list(processor.batch_as_completed(ROWS, ids=IDS, priorities=[1, 3, 2]))
    assert sorted(pairs) == [(0, "a"), (1, "b"), (2, "c")]
    assert chain.rows == ["b", "c", "a"]

    async def again() -> list[tuple[int, Any]]:
        found = processor.abatch_as_completed(["a", "new"], ids=["1", "9"], priorities=[1, 2])
        return sorted([pair async for pair in found])

    assert asyncio.run(again()) == [(0, "a"), (1, "new")]  # row "1" is known by its id
    assert chain.rows[3:] == ["new"]


@pytest.mark.parametrize("awaited", [False, True])
def test_a_started_run_asks_nothing_before_its_block_and_gives_the_store_back_if_it_is_dropped(
    tmp_path: Path, awaited: bool
) -> None:
    async def main() -> None:
        chain = echo()
        processor = stored(chain, tmp_path)
        held: list[Any] = [(processor.astart if awaited else processor.start)(ROWS)]
        assert held[0].stats.total == 3
        assert "not begun" in repr(held[0])
        await asyncio.sleep(0)
        with pytest.warns(RuntimeWarning, match="never begun, so no row was asked"):
            held.clear()
        assert chain.rows == []
        assert await processor.abatch(ROWS) == ROWS

    asyncio.run(main())


def test_the_failed_rows_of_a_store_are_started_again_from_their_stored_inputs(tmp_path: Path) -> None:
    chain = ScriptedChain(
        ValueError("not now"), "B", ValueError("nor now"), "A again", ValueError("nor then"), "C"
    )
    processor = stored(chain, tmp_path, retry=0)
    processor.batch(ROWS, ids=IDS, return_exceptions=True)
    with processor.start_failed() as run:
        found = [(outcome.index, outcome.id, outcome.input, outcome.output) for outcome in run]
    assert sorted(found) == [(0, "1", "a", "A again"), (2, "3", "c", None)]

    async def last() -> list[Any]:
        async with processor.astart(ROWS, ids=IDS, skip_stored=True, retry_failed=True) as run:
            return [outcome.output async for outcome in run]

    assert asyncio.run(last()) == ["C"]
    assert chain.rows == ["a", "b", "c", "a", "c", "c"]
    with processor.start_failed() as run:
        assert list(run) == []
    with pytest.raises(ConfigError, match="no store"):
        BatchProcessor(chain).start_failed()


def test_a_list_of_configs_is_refused_where_one_config_is_for_every_row() -> None:
    processor, configs = BatchProcessor(echo()), [{"tags": [row]} for row in ROWS]

    async def streamed() -> None:
        async for _ in processor.stream_batch(ROWS, configs):  # type: ignore[arg-type]
            pass

    calls: list[Callable[[], Any]] = [
        lambda: processor.start(ROWS, config=configs),  # type: ignore[arg-type]
        lambda: processor.astart(ROWS, config=configs),  # type: ignore[arg-type]
        lambda: processor.plan(ROWS, config=configs),  # type: ignore[arg-type]
        lambda: asyncio.run(streamed()),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match="one config"):
            call()
    assert processor.batch(ROWS, configs) == ROWS


@pytest.mark.parametrize("config", [5, "fast", [{}, {}, 5]])
def test_what_is_no_config_is_refused(config: Any) -> None:
    processor = BatchProcessor(echo())
    for call in (processor.batch, processor.plan):
        with pytest.raises(ConfigError, match="config"):
            call(ROWS, config=config)
    with pytest.raises(ConfigError, match="config="):
        processor.invoke("a", config)
