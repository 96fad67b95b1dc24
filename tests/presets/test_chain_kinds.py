"""Ten classes, all kinds of chain: what comes back is what the chain says of each row, in order."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.presets.kinds import KINDS, PRESETS, Counted, Preset, invoked, plain, rows_of
from tests.support.loopback import Loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROWS = rows_of(23)


@pytest.fixture(scope="module")
def server() -> Iterator[Loopback]:
    with Loopback() as running:
        yield running


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("preset", PRESETS, ids=repr)
def test_the_outputs_are_those_of_invoke_in_order(
    preset: Preset, kind: str, server: Loopback, tmp_path: Path
) -> None:
    chain = KINDS[kind](server)
    outputs = preset.run(preset.make(chain, tmp_path), ROWS)
    assert list(map(plain, outputs)) == [preset.expected(invoked(chain, row)) for row in ROWS]


@pytest.mark.parametrize("preset", PRESETS, ids=repr)
def test_no_rows_give_no_answers_and_no_file(preset: Preset, tmp_path: Path) -> None:
    assert preset.run(preset.make(Counted().chain, tmp_path), []) == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("preset", PRESETS, ids=repr)
def test_one_bad_row_leaves_the_others_answered_and_each_is_called_once(
    preset: Preset, tmp_path: Path
) -> None:
    counted = Counted(bad="row 3")
    processor = preset.make(counted.chain, tmp_path)
    wanted = [None if row["x"] == "row 3" else f"answer to {row['x']}" for row in ROWS]
    if preset.none:
        assert preset.run(processor, ROWS) == wanted
    else:
        with pytest.raises(ValueError, match="this row cannot be answered"):
            preset.run(processor, ROWS)
    if preset.name != "StreamingBatchProcessor":
        assert [outcome.output for outcome in processor.processor.last_run.outcomes()] == wanted
    assert counted.calls == {row["x"]: 1 for row in ROWS}


def test_the_other_rows_of_a_stream_are_whole_when_one_fails(tmp_path: Path) -> None:
    [preset] = [preset for preset in PRESETS if preset.name.startswith("Streaming")]
    processor = preset.make(Counted().chain, tmp_path)
    seen: dict[int, str] = {}

    async def read() -> None:
        async for index, piece in processor.stream_batch(ROWS):
            seen[index] = seen.get(index, "") + piece

    with pytest.raises(ValueError, match="this row"):
        asyncio.run(read())
    assert seen == {n: f"answer to row {n}" for n in range(len(ROWS)) if n != 3}


@pytest.mark.parametrize("preset", [one for one in PRESETS if "Streaming" not in one.name], ids=repr)
def test_a_call_from_inside_a_running_loop_is_answered(preset: Preset, tmp_path: Path) -> None:
    async def main() -> Any:
        return preset.run(preset.make(Counted(bad="").chain, tmp_path), ROWS)

    assert asyncio.run(main()) == [f"answer to {row['x']}" for row in ROWS]


@pytest.mark.parametrize("preset", PRESETS, ids=repr)
def test_several_threads_may_use_one_object_at_once(preset: Preset, tmp_path: Path) -> None:
    processor = preset.make(Counted(bad="").chain, tmp_path)
    batches = [[{"x": f"{thread} {n}"} for n in range(17)] for thread in range(4)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda rows: preset.run(processor, rows), batches))
    assert answers == [[f"answer to {row['x']}" for row in rows] for rows in batches]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


AT_ONCE = 2
TIMES = 6  # more than twice what may be open: one thing left open by each call would show


@pytest.mark.parametrize("preset", PRESETS, ids=repr)
def test_nothing_is_left_open(
    preset: Preset, tmp_path: Path, eventually: Callable[[Callable[[], object]], None]
) -> None:
    with Loopback() as server:
        processor = preset.make(KINDS["openai"](server), tmp_path, concurrency=AT_ONCE)
        preset.run(
            processor, ROWS[:5]
        )  # connections and threads that are kept for the next call are there now
        files, threads = open_files(), threading.active_count()
        for _ in range(TIMES):
            preset.run(processor, ROWS[:5])
        eventually(lambda: server.in_flight == 0)
        eventually(
            lambda: open_files() <= files + 2 * AT_ONCE
        )  # both ends of a connection are in this process
        eventually(lambda: threading.active_count() <= threads + AT_ONCE)
    assert not list(tmp_path.iterdir())


def test_a_stream_that_is_left_early_leaves_no_task_and_no_request(
    tmp_path: Path, eventually: Callable[[Callable[[], object]], None]
) -> None:
    [preset] = [preset for preset in PRESETS if preset.name.startswith("Streaming")]

    async def read_one(server: Loopback) -> set[asyncio.Task[Any]]:
        pieces = preset.make(KINDS["openai"](server), tmp_path).stream_batch(ROWS)
        async with aclosing(pieces):
            async for _ in pieces:
                break  # a reader who has seen enough
        for _ in range(2_000):  # the loop closes the generators of the SDK, in tasks of its own
            if len(asyncio.all_tasks()) == 1:
                break
            await asyncio.sleep(0.01)
        return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[operator]

    with Loopback() as server:
        assert asyncio.run(read_one(server)) == set()
        eventually(lambda: server.in_flight == 0)
