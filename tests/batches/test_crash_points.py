"""Never paid twice: the process dies, or an answer is lost, at every point of a batch's life."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from random import Random
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from cottonpalm.errors import RunBusy, StoreError
from cottonpalm.providers.batches.lanes import Lane, credentials_of, whose
from cottonpalm.providers.batches.stages import Stage
from cottonpalm.providers.batches.troubles import BatchDenied
from tests.batches.kit import HEADERS, Disk, advanced, bring, desk_at, lane_at, packed_of, results
from tests.support.batch_provider import BatchProvider, Faults, by_chance

if TYPE_CHECKING:
    from pathlib import Path

    from cottonpalm.providers.batches.stages import Batch, Book

TEXTS = [f"row {number}" for number in range(6)]
ROWS = len(TEXTS)


class Died(BaseException):
    """The process is gone: nothing after this is done."""


class Dying(httpx.AsyncBaseTransport):
    """Dies at the n-th request that leaves the machine: before it is sent, or after it was answered."""

    def __init__(self, at: int, *, after: bool) -> None:
        self._inner, self._left, self._after = httpx.AsyncHTTPTransport(), at, after

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise Died
        response = await self._inner.handle_async_request(request)
        if self._left == 0:
            await response.aread()
            await response.aclose()
            raise Died
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class Mortal:
    """A book whose n-th write is the last thing that happens: it is not done, or it is done and nobody hears of it."""

    def __init__(self, book: Book, at: int, *, after: bool) -> None:
        self._book, self._left, self._after = book, at, after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._book, name)
        if name not in ("plan", "put", "keep", "close"):
            return method

        def write(*args: Any) -> Any:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise Died
            result = method(*args)
            if self._left == 0:
                raise Died
            return result

        return write


def wanted(book: Book) -> list[int]:
    """Rows that are neither out nor answered."""
    return [row for row in range(ROWS) if row not in results(book, ROWS)]


async def work(server: BatchProvider, book: Book, provider: str, folder: Path, transport: Any = None) -> None:
    """What a process does: bring home what is out, then submit what is wanted, until nothing is."""
    async with desk_at(book, transport=transport, listing_wait_s=0.25) as desk:
        for batch in book.batches():
            await bring(desk, batch)
        while rows := wanted(book):
            packed = packed_of(lane_at(server, provider), [TEXTS[row] for row in rows], folder, rows)
            await bring(desk, await desk.plan(packed))


def run_and_die(server: BatchProvider, path: Path, provider: str, folder: Path, **how: Any) -> bool:
    """One process that dies as told; whether it did."""
    disk = Disk(path)
    try:
        book = Mortal(disk.book, how["write"], after=how["after"]) if "write" in how else disk.book
        transport = Dying(how["request"], after=how["after"]) if "request" in how else None
        asyncio.run(work(server, book, provider, folder, transport))  # type: ignore[arg-type]
    except Died:
        return True
    finally:
        disk.close()
    return False


def finish(server: BatchProvider, path: Path, provider: str, folder: Path) -> None:
    disk = Disk(path)
    try:
        asyncio.run(work(server, disk.book, provider, folder))
        found = results(disk.book, ROWS)
        assert sorted(found) == list(range(ROWS))
        assert all(result is not None and result.final for result in found.values())
        assert all(batch.over for batch in disk.book.batches())
    finally:
        disk.close()
    assert not server.paid_twice()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("kind", ["write", "request"])
def test_a_process_that_dies_at_any_step_pays_no_row_twice_and_loses_none(
    server: BatchProvider, provider: str, kind: str, after: bool, tmp_path: Path
) -> None:
    server.faults = Faults(looks=1)
    at = 0
    died = True
    while died:
        at += 1
        server.bills.clear()
        path = tmp_path / f"{at}.db"
        died = run_and_die(server, path, provider, tmp_path, **{kind: at, "after": after})
        finish(server, path, provider, tmp_path)
        assert len(server.bills) == ROWS
    assert at > 3  # so many points there are at least


@pytest.mark.parametrize("ahead_s", [0.0, 7_200.0, -7_200.0])
@pytest.mark.parametrize("lose", ["before", "after"])
def test_a_submission_whose_answer_is_lost_is_found_or_sent_again_and_paid_once_whatever_the_providers_clock_says(
    server: BatchProvider, disk: Disk, provider: str, lose: Any, ahead_s: float, tmp_path: Path
) -> None:
    server.ahead_s = ahead_s
    server.script = lambda number, rows: Faults(
        lose=lose if not server.bills and attempts(server) == 1 else None
    )
    asyncio.run(work(server, disk.book, provider, tmp_path))
    assert attempts(server) == (2 if lose == "before" else 1)
    assert len(server.jobs) == 1
    assert len(server.bills) == ROWS


def attempts(server: BatchProvider) -> int:
    return server.requests["POST create"]


def test_a_listing_that_lags_is_waited_for(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path
) -> None:
    server.faults = Faults(lose="after", hidden=4)

    async def main() -> None:
        async with desk_at(disk.book, listing_wait_s=30.0) as desk:
            batch = await desk.plan(packed_of(lane_at(server, provider), TEXTS, tmp_path))
            await bring(desk, batch)

    asyncio.run(main())
    assert attempts(server) == 1
    assert server.requests["GET listing"] == 5
    assert len(server.bills) == ROWS


def test_a_batch_that_was_sent_twice_because_the_listing_lagged_too_long_is_told_and_both_results_count(
    server: BatchProvider, disk: Disk, tmp_path: Path
) -> None:
    """What cannot be closed: it is at least seen, stopped as far as it can be, and reported."""
    faults = [Faults(lose="after", hidden=6, missing=frozenset({1})), Faults(missing=frozenset({2}))]
    server.script = lambda number, rows: faults[number]

    async def main() -> Batch:
        async with desk_at(disk.book, listing_wait_s=0.0) as desk:
            batch = await desk.plan(packed_of(lane_at(server, "openai"), TEXTS, tmp_path))
            batch = await advanced(desk, batch, Stage.ENDED)
            for job in server.jobs.values():
                job.hidden = 0
            for job in server.jobs.values():
                job.seen(0.0)
                job.seen(0.0)
            return await bring(desk, batch)

    batch = asyncio.run(main())
    assert batch.sends == 2
    assert len(batch.twins) == 1
    assert len(results(disk.book, ROWS)) == ROWS  # row 1 from one of them, row 2 from the other


async def brought_beside_a_stranger(server: BatchProvider, disk: Disk, folder: Path) -> Batch:
    """A batch from its plan to its end; another program of the account submits one of as many rows just before."""
    stranger = packed_of(lane_at(server, "anthropic"), [f"theirs {n}" for n in range(ROWS)], folder)
    others = Disk(folder / "others.db")
    async with desk_at(others.book) as theirs, desk_at(disk.book) as ours:
        batch = await ours.plan(packed_of(lane_at(server, "anthropic"), TEXTS, folder))
        other = await theirs.plan(stranger)
        while other.stage is not Stage.SUBMITTED:
            other = await theirs.advance(other)
        batch = await bring(ours, batch)
    others.close()
    return batch


def test_what_only_looks_like_the_lost_batch_is_told_by_its_results_and_not_mistaken_for_it(
    server: BatchProvider, disk: Disk, tmp_path: Path
) -> None:
    """Anthropic keeps no tag: a batch of the same account with as many rows may be anybody's."""
    server.script = lambda number, rows: Faults(lose="before" if attempts(server) == 2 else None)
    batch = asyncio.run(brought_beside_a_stranger(server, disk, tmp_path))
    assert batch.stage is Stage.COLLECTED
    assert len(batch.strangers) == 1
    assert batch.sends == 2
    assert len(results(disk.book, ROWS)) == ROWS
    assert not server.paid_twice()


def test_what_looks_like_the_lost_batch_and_has_no_result_at_all_is_not_mistaken_for_it(
    server: BatchProvider, disk: Disk, tmp_path: Path
) -> None:
    """What was paid in the one that was ours was never fetched: its rows were asked and paid a second time."""
    nothing = Faults(missing=frozenset(range(ROWS)))
    server.script = lambda number, rows: Faults(lose="after") if number else nothing
    batch = asyncio.run(brought_beside_a_stranger(server, disk, tmp_path))
    assert (batch.stage, len(batch.strangers), len(server.jobs)) == (Stage.COLLECTED, 1, 2)
    assert len(results(disk.book, ROWS)) == ROWS
    assert not server.paid_twice()


def test_a_result_of_another_batch_does_not_make_a_stranger_of_the_one_that_was_found(
    server: BatchProvider, disk: Disk, tmp_path: Path
) -> None:
    """It was taken for somebody else's at that line, and made and paid a second time."""
    server.script = lambda number, rows: Faults(lose=None if number else "after", foreign=True)

    async def main() -> Batch:
        async with desk_at(disk.book) as desk:
            return await bring(
                desk, await desk.plan(packed_of(lane_at(server, "anthropic"), TEXTS, tmp_path))
            )

    batch = asyncio.run(main())
    assert (batch.stage, batch.strangers, len(server.jobs)) == (Stage.COLLECTED, (), 1)
    assert len(results(disk.book, ROWS)) == ROWS


def test_what_only_looks_like_ours_is_not_cancelled_when_ours_is(
    server: BatchProvider, disk: Disk, tmp_path: Path
) -> None:
    stranger = packed_of(lane_at(server, "anthropic"), [f"theirs {n}" for n in range(ROWS)], tmp_path)
    others = Disk(tmp_path / "others.db")
    server.script = lambda number, rows: Faults(lose="before" if attempts(server) == 2 else None, looks=4)

    async def main() -> Batch:
        async with desk_at(others.book) as theirs, desk_at(disk.book) as ours:
            batch = await ours.plan(packed_of(lane_at(server, "anthropic"), TEXTS, tmp_path))
            other = await theirs.plan(stranger)
            while other.stage is not Stage.SUBMITTED:
                other = await theirs.advance(other)
            while batch.stage is not Stage.SUBMITTED:
                batch = await ours.advance(batch)
            return await bring(ours, await ours.cancel(batch))

    batch = asyncio.run(main())
    others.close()
    assert (batch.stage, len(batch.strangers)) == (Stage.ABANDONED, 1)
    assert [job.end for job in server.jobs.values()] == ["done"]


def test_a_lost_submission_is_not_repeated_with_another_key_which_cannot_see_the_first(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path
) -> None:
    server.script = lambda number, rows: Faults(lose="after")

    async def main(key: dict[str, str]) -> None:
        def credentials(lane: Lane) -> dict[str, str]:
            return credentials_of(lane.base, key)

        async with desk_at(disk.book, listing_wait_s=0.0, credentials=credentials) as desk:
            planned = disk.book.batches() or [
                await desk.plan(packed_of(lane_at(server, provider), TEXTS, tmp_path))
            ]
            batch = planned[0]
            while not batch.sends:
                batch = await desk.advance(batch)
            if batch.whose != whose(credentials(batch.lane), batch.tag):
                await bring(desk, batch)

    asyncio.run(main(HEADERS[provider]))
    with pytest.raises(BatchDenied, match="submitted with another one"):
        asyncio.run(main({name: f"{value}-other" for name, value in HEADERS[provider].items()}))
    assert attempts(server) == 1


def test_whoever_holds_an_older_state_of_a_batch_does_not_submit_it_again(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path
) -> None:
    async def main() -> Batch:
        async with desk_at(disk.book) as desk:
            old = batch = await desk.plan(packed_of(lane_at(server, provider), TEXTS, tmp_path))
            batch = await advanced(desk, batch, Stage.SUBMITTED)
            return await bring(desk, old)

    assert asyncio.run(main()).stage is Stage.COLLECTED
    assert attempts(server) == 1


def test_nothing_is_submitted_while_an_earlier_submission_is_not_explained(
    server: BatchProvider, disk: Disk, tmp_path: Path
) -> None:
    server.script = lambda number, rows: Faults(lose="after" if attempts(server) == 1 else None, hidden=2)

    async def main() -> None:
        async with desk_at(disk.book, listing_wait_s=30.0) as desk:
            lane = lane_at(server, "anthropic")
            first = await desk.plan(packed_of(lane, TEXTS[:3], tmp_path))
            second = await desk.plan(packed_of(lane, TEXTS[3:], tmp_path, rows=range(3, 6)))
            first = await desk.advance(first)
            assert first.stage is Stage.CREATING
            second = await desk.advance(second)
            assert second.stage is Stage.INTENT
            assert "is looked for" in desk.troubles[second.tag]
            await bring(desk, first)
            await bring(desk, second)

    asyncio.run(main())
    assert len(server.jobs) == 2
    assert not server.paid_twice()


def test_a_request_that_is_out_cannot_be_planned_again(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path
) -> None:
    """Even two programs that held the same run at once would submit a row once."""

    async def main() -> None:
        async with desk_at(disk.book) as one, desk_at(disk.book) as two:
            await one.plan(packed_of(lane_at(server, provider), TEXTS, tmp_path))
            with pytest.raises(StoreError, match="not submitted again"):
                await two.plan(packed_of(lane_at(server, provider), TEXTS, tmp_path))

    asyncio.run(main())
    assert len(disk.book.batches()) == 1


def test_a_second_process_does_not_get_the_run_at_all(disk: Disk, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from cottonpalm.stores import open_store;"
        "open_store(Path(sys.argv[1])).open_run('r', None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "book.db")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "RunBusy" in done.stderr
    with pytest.raises(RunBusy):
        disk.store.open_run("r", None)


@pytest.mark.parametrize("seed", range(6))
def test_random_faults_and_deaths_leave_every_row_answered_once(
    server: BatchProvider, provider: str, seed: int, tmp_path: Path
) -> None:
    rng, path = Random(f"{provider}{seed}"), tmp_path / "book.db"
    server.script = lambda number, rows: by_chance(rng, rows, Faults(gone=False))
    for _ in range(5):
        kind = rng.choice(("write", "request"))
        run_and_die(
            server, path, provider, tmp_path, **{kind: rng.randint(1, 12), "after": rng.random() < 0.5}
        )
    finish(server, path, provider, tmp_path)
