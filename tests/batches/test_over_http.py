"""Batches over real HTTP: what each provider may do with one, and what is left of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest

from cottonpalm import clock
from cottonpalm.providers.batches.lanes import credentials_of
from cottonpalm.providers.batches.stages import Stage
from cottonpalm.providers.batches.troubles import BatchDenied, may_pass
from tests.batches.kit import (
    HEADERS,
    advanced,
    body_of,
    bring,
    desk_at,
    lane_at,
    packed_of,
    results,
    text_in,
    url_of,
)
from tests.support.batch_provider import Faults

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cottonpalm.providers.batches.stages import Batch
    from tests.batches.kit import Disk
    from tests.support.batch_provider import BatchProvider

TEXTS = [f"row {number}" for number in range(10)]


def run(
    server: BatchProvider,
    disk: Disk,
    provider: str,
    folder: Path,
    texts: list[str] = TEXTS,
    *,
    listing_wait_s: float = 0.05,
) -> Batch:
    async def main() -> Batch:
        async with desk_at(disk.book, listing_wait_s=listing_wait_s) as desk:
            batch = await desk.plan(packed_of(lane_at(server, provider), texts, folder))
            return await bring(desk, batch)

    return asyncio.run(main())


def test_each_row_gets_the_answer_that_a_live_request_would_have_got(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path
) -> None:
    batch = run(server, disk, provider, tmp_path)
    assert batch.stage is Stage.COLLECTED
    with httpx.Client() as http:
        for row, result in results(disk.book, len(TEXTS)).items():
            assert result is not None
            body = {k: v for k, v in body_of(provider, TEXTS[row]).items() if k != "stream"}
            live = http.post(url_of(server, provider), headers=HEADERS[provider], json=body).json()
            if provider == "anthropic":  # all that differs is the tier that it was served in
                assert result.body is not None
                assert result.body["usage"].pop("service_tier") == "batch"
            assert result.body == live
    lanes = [bill.lane for bill in server.bills]
    assert lanes == ["batch"] * 10 + ["live"] * 10


def test_shuffled_and_doubled_results_are_matched_by_their_custom_id_alone(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path
) -> None:
    server.faults = Faults(shuffle=5, twice=frozenset({1, 4, 7}))
    run(server, disk, provider, tmp_path)
    found = results(disk.book, len(TEXTS))
    assert {row: text_in(provider, result) for row, result in found.items()} == {
        row: f"answer to: {text}" for row, text in enumerate(TEXTS)
    }


def test_rows_of_which_nothing_came_back_are_to_be_asked_again(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path
) -> None:
    server.faults = Faults(missing=frozenset({2, 5}))
    batch = run(server, disk, provider, tmp_path)
    assert sorted(results(disk.book, len(TEXTS))) == [0, 1, 3, 4, 6, 7, 8, 9]
    lost = {member.row: result.lost for member, result in disk.book.lost(batch.tag)}
    assert lost in (
        {2: "missing", 5: "missing"},
        {2: "cancelled", 5: "cancelled"},
    )  # Anthropic counts them so


def test_an_expired_batch_keeps_what_was_paid_for(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path
) -> None:
    server.faults = Faults(expire=0.6)
    batch = run(server, disk, provider, tmp_path)
    assert batch.stage is Stage.COLLECTED
    kept = [] if provider == "gemini" else [0, 1, 2, 3, 4, 5]  # Gemini gives nothing back of an expired batch
    assert sorted(results(disk.book, len(TEXTS))) == kept
    assert {result.lost for _, result in disk.book.lost(batch.tag)} == {"expired"}


@pytest.mark.parametrize(("status", "stays"), [(400, True), (401, False), (403, False)])
def test_what_the_account_was_refused_is_doubted_later_and_what_a_row_was_refused_is_not(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path, status: int, stays: bool
) -> None:
    server.faults = Faults(refused=frozenset({3}), refused_as=status)
    run(server, disk, provider, tmp_path)
    assert 3 in results(disk.book, len(TEXTS))
    disk.book.doubt(may_pass)
    assert sorted({*range(10)} - results(disk.book, len(TEXTS)).keys()) == ([] if stays else [3])


def test_a_refused_row_has_the_error_that_a_live_request_would_have_got(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path
) -> None:
    server.faults = Faults(refused=frozenset({3}), broken=frozenset({6}))
    batch = run(server, disk, provider, tmp_path)
    found = results(disk.book, len(TEXTS))
    refused = found[3]
    assert refused is not None
    assert (refused.status, refused.final, refused.good) == (400, True, False)
    assert refused.body is not None
    assert "not valid" in refused.body["error"]["message"]
    assert [(member.row, result.status) for member, result in disk.book.lost(batch.tag)] == [(6, 500)]


def test_a_batch_whose_rows_were_all_refused_has_no_file_of_answers_and_is_collected(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path
) -> None:
    server.faults = Faults(all_refused=True)
    batch = run(server, disk, provider, tmp_path)
    assert batch.stage is Stage.COLLECTED
    assert {result.status for result in results(disk.book, 10).values() if result} == {400}
    assert not server.bills


def test_a_batch_that_fails_in_validation_costs_nothing_and_names_the_line(
    server: BatchProvider, disk: Disk, tmp_path: Path
) -> None:
    server.faults = Faults(invalid="invalid_request")
    batch = run(server, disk, "openai", tmp_path)
    assert batch.stage is Stage.COLLECTED
    assert "invalid_request" in batch.why
    lost = {member.row: result.lost for member, result in disk.book.lost(batch.tag)}
    assert lost == {0: "failed", **dict.fromkeys(range(1, 10), "cancelled")}
    assert not server.bills


def test_a_full_queue_is_no_fault_of_any_row(server: BatchProvider, disk: Disk, tmp_path: Path) -> None:
    server.queued_tokens = 5
    batch = run(server, disk, "openai", tmp_path)
    assert batch.state is not None
    assert batch.state.queue_full
    assert {result.lost for _, result in disk.book.lost(batch.tag)} == {"cancelled"}


def test_a_full_queue_that_is_told_at_once_is_waited_for(
    server: BatchProvider, disk: Disk, tmp_path: Path
) -> None:
    async def main() -> Batch:
        async with desk_at(disk.book) as desk:
            first = await desk.plan(packed_of(lane_at(server, "gemini"), TEXTS, tmp_path))
            second = await desk.plan(
                packed_of(lane_at(server, "gemini"), TEXTS, tmp_path, rows=range(10, 20))
            )
            while first.stage is not Stage.SUBMITTED:
                first = await desk.advance(first)
            server.queued_tokens = 60
            for _ in range(4):
                second = await desk.advance(second)
            assert second.stage is Stage.UPLOADED
            assert "quota" in desk.troubles[second.tag]
            await bring(desk, first)
            return await bring(desk, second)

    assert asyncio.run(main()).stage is Stage.COLLECTED
    assert len(server.bills) == 20


def test_polling_that_fails_for_a_while_loses_nothing(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path
) -> None:
    server.weather.reads = [429, 500, 0, 503, 502, 0, 429, 500]
    batch = run(server, disk, provider, tmp_path)
    assert batch.stage is Stage.COLLECTED
    assert len(results(disk.book, 10)) == 10
    assert server.requests["POST create"] == 1


def test_a_download_that_breaks_off_is_fetched_again(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path
) -> None:
    server.weather.cut = 2
    run(server, disk, provider, tmp_path)
    assert len(results(disk.book, 10)) == 10
    assert not server.paid_twice()


@pytest.mark.parametrize("refused", [0, 6])
def test_a_download_that_ends_early_and_says_nothing_is_fetched_again_whatever_was_refused_beside_it(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path, refused: int
) -> None:
    """As many lines as there are answers came back, but not all of them hold one."""
    server.faults = Faults(refused=frozenset(range(refused)))
    server.weather.short = 1
    run(server, disk, provider, tmp_path, listing_wait_s=30.0)
    found = [result for result in results(disk.book, 10).values() if result is not None]
    assert (len(found), sum(result.good for result in found)) == (10, 10 - refused)


@pytest.mark.parametrize("ahead_s", [0.0, 86_400.0, -86_400.0])
@pytest.mark.parametrize("refused", [0, 6])
def test_a_batch_that_says_where_its_answers_are_some_time_after_its_end_is_looked_at_until_it_does(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path, ahead_s: float, refused: int
) -> None:
    """Whatever else it names meanwhile, and whatever the time is by the provider's clock."""
    server.ahead_s = ahead_s
    server.faults = Faults(refused=frozenset(range(refused)), late=3)
    batch = run(server, disk, provider, tmp_path, listing_wait_s=30.0)
    found = [result for result in results(disk.book, 10).values() if result is not None]
    assert (len(found), sum(result.good for result in found)) == (10, 10 - refused)
    assert batch.stage is Stage.COLLECTED


@pytest.mark.parametrize(("refused", "rows"), [(0, 10), (3, 10), (0, 3)])
def test_an_expired_batch_that_says_later_where_its_answers_are_is_looked_at_until_it_does(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path, refused: int, rows: int
) -> None:
    """Its other file says meanwhile what was refused, and what was not asked."""
    server.faults = Faults(refused=frozenset(range(refused)), expire=0.65, late=3)
    batch = run(server, disk, provider, tmp_path, TEXTS[:rows], listing_wait_s=30.0)
    found = [result for result in results(disk.book, rows).values() if result is not None]
    done = 0 if provider == "gemini" else int(rows * 0.65)  # which keeps nothing of it
    assert (len(server.bills), sum(result.good for result in found)) == (max(0, done - refused),) * 2
    assert batch.stage is Stage.COLLECTED


def test_a_batch_that_ended_and_never_says_where_its_answers_are_is_lost_by_our_own_clock(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path
) -> None:
    server.ahead_s = 86_400.0
    server.faults = Faults(late=10**6)
    batch = run(server, disk, provider, tmp_path)
    assert batch.stage is Stage.LOST


def test_a_batch_that_vanishes_while_its_results_are_waited_for_is_lost(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path
) -> None:
    server.faults = Faults(late=10**6)

    async def main() -> Batch:
        async with desk_at(disk.book) as desk:
            batch = await desk.plan(packed_of(lane_at(server, provider), TEXTS, tmp_path))
            batch = await advanced(desk, batch, Stage.ENDED)
            assert await desk.advance(batch) == batch
            server.jobs.clear()
            return await bring(desk, batch)

    assert asyncio.run(main()).stage is Stage.LOST


def test_results_that_are_no_longer_kept_are_lost_and_said_to_be(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path
) -> None:
    server.faults = Faults(gone=True)
    batch = run(server, disk, provider, tmp_path)
    assert batch.stage is Stage.LOST
    assert "no longer keeps" in batch.why
    assert len(disk.book.lost(batch.tag)) == 10


def test_a_submission_that_is_refused_for_the_moment_is_sent_again(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path
) -> None:
    server.weather.creates = [429, 429]
    run(server, disk, provider, tmp_path)
    assert len(results(disk.book, 10)) == 10
    assert len(server.jobs) == 1


def test_a_submission_that_is_refused_for_good_is_abandoned_with_the_reason(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path
) -> None:
    server.weather.creates = [400]
    batch = run(server, disk, provider, tmp_path)
    assert batch.stage is Stage.ABANDONED
    assert "not now" in batch.why
    assert not server.jobs


def test_a_key_that_is_not_accepted_stops_with_a_message_and_leaves_everything_as_it_was(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path
) -> None:
    async def main() -> None:
        async with desk_at(disk.book, credentials=lambda lane: {}) as desk:
            batch = await desk.plan(packed_of(lane_at(server, provider), TEXTS, tmp_path))
            with pytest.raises(BatchDenied, match="does not let this account"):
                await bring(desk, batch)

    asyncio.run(main())
    [batch] = disk.book.batches()
    assert batch.stage is Stage.INTENT


def test_a_cancelled_batch_keeps_what_was_done_and_the_rest_is_to_be_asked_again(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path
) -> None:
    server.faults = Faults(looks=5, cancel_looks=2)

    async def main() -> Batch:
        async with desk_at(disk.book) as desk:
            batch = await desk.plan(packed_of(lane_at(server, provider), TEXTS, tmp_path))
            while not server.bills:
                batch = await desk.advance(batch)
            batch = await desk.cancel(batch)
            return await bring(desk, batch)

    batch = asyncio.run(main())
    assert batch.stage is Stage.COLLECTED
    good = [row for row, result in results(disk.book, 10).items() if result and result.good]
    assert len(good) == len(server.bills) < 10
    assert {result.lost for _, result in disk.book.lost(batch.tag)} == {"cancelled"}


def test_a_batch_that_was_never_submitted_is_cancelled_for_nothing(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path
) -> None:
    packed = packed_of(lane_at(server, provider), TEXTS, tmp_path)

    async def main() -> Batch:
        async with desk_at(disk.book) as desk:
            return await desk.cancel(await desk.plan(packed))

    assert asyncio.run(main()).stage is Stage.ABANDONED
    assert not server.jobs
    assert not list(packed.blocks(b"\n"))  # its lines are dropped


def test_the_lines_are_dropped_once_the_provider_has_them(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path
) -> None:
    packed = packed_of(lane_at(server, provider), TEXTS, tmp_path)
    assert list(packed.blocks(b"\n"))

    async def main() -> None:
        async with desk_at(disk.book) as desk:
            batch = await desk.plan(packed)
            batch = await advanced(desk, batch, Stage.SUBMITTED)

    asyncio.run(main())
    assert not list(packed.blocks(b"\n"))


def test_a_batch_of_another_account_is_not_taken_for_lost(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path
) -> None:
    async def submit() -> None:
        async with desk_at(disk.book) as desk:
            batch = await desk.plan(packed_of(lane_at(server, provider), TEXTS, tmp_path))
            batch = await advanced(desk, batch, Stage.SUBMITTED)

    async def collect_with_another_key() -> None:
        other = {name: f"{value}-other" for name, value in HEADERS[provider].items()}
        async with desk_at(disk.book, credentials=lambda lane: credentials_of(lane.base, other)) as desk:
            [batch] = disk.book.batches()
            with pytest.raises(BatchDenied, match="submitted with another one"):
                await bring(desk, batch)

    asyncio.run(submit())
    asyncio.run(collect_with_another_key())
    assert results(disk.book, 10) == dict.fromkeys(range(10))  # all still out


@pytest.mark.parametrize("stage", [Stage.SUBMITTED, Stage.ENDED])
def test_a_batch_of_another_account_is_not_lost_and_can_be_given_up(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path, stage: Stage
) -> None:
    async def main(key: dict[str, str], *, again: bool = True, cancels: bool = False) -> Batch:
        async with desk_at(disk.book, credentials=lambda lane: credentials_of(lane.base, key)) as desk:
            planned = disk.book.batches() or [
                await desk.plan(packed_of(lane_at(server, provider), TEXTS, tmp_path))
            ]
            batch = planned[0]
            batch = await advanced(desk, batch, stage)
            return await bring(desk, await desk.cancel(batch) if cancels else batch) if again else batch

    asyncio.run(main(HEADERS[provider], again=False))
    other = {name: f"{value}-other" for name, value in HEADERS[provider].items()}
    with pytest.raises(BatchDenied, match="submitted with another one"):
        asyncio.run(main(other))
    batch = asyncio.run(main(other, cancels=True))
    assert batch.stage is Stage.LOST
    assert len(disk.book.lost(batch.tag)) == 10


def test_a_batch_that_vanishes_while_it_is_watched_is_lost(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path
) -> None:
    async def main() -> Batch:
        async with desk_at(disk.book) as desk:
            batch = await desk.plan(packed_of(lane_at(server, provider), TEXTS, tmp_path))
            batch = await advanced(desk, batch, Stage.SUBMITTED)
            server.jobs.clear()
            return await bring(desk, batch)

    batch = asyncio.run(main())
    assert batch.stage is Stage.LOST
    assert "any more" in batch.why


def test_a_batch_that_a_look_does_not_find_for_a_moment_is_not_lost(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path
) -> None:
    async def main() -> Batch:
        async with desk_at(disk.book, listing_wait_s=60.0) as desk:
            batch = await desk.plan(packed_of(lane_at(server, provider), TEXTS, tmp_path))
            batch = await advanced(desk, batch, Stage.SUBMITTED)
            server.weather.reads = [404, 404]
            return await bring(desk, batch)

    assert asyncio.run(main()).stage is Stage.COLLECTED
    assert server.paid_twice() == {}
    assert len(server.jobs) == 1


def test_results_that_are_not_found_for_a_moment_long_after_the_end_are_not_lost(
    server: BatchProvider, disk: Disk, provider: str, tmp_path: Path
) -> None:
    async def main() -> Batch:
        async with desk_at(disk.book, listing_wait_s=60.0) as desk:
            batch = await desk.plan(packed_of(lane_at(server, provider), TEXTS, tmp_path))
            batch = await advanced(desk, batch, Stage.ENDED)
            disk.book.put(batch := replace(batch, ended_at=clock.wall() - 3600))
        async with desk_at(disk.book, listing_wait_s=60.0) as desk:
            server.weather.reads = [404, 404]
            return await bring(desk, batch)

    assert asyncio.run(main()).stage is Stage.COLLECTED
    assert len(results(disk.book, 10)) == 10


def test_a_batch_that_a_look_does_not_find_for_a_moment_is_not_lost_though_the_clock_is_set_meanwhile(
    server: BatchProvider, disk: Disk, tmp_path: Path, set_clock: Callable[[float], None]
) -> None:
    async def main() -> Batch:
        async with desk_at(disk.book, listing_wait_s=60.0) as desk:
            batch = await desk.plan(packed_of(lane_at(server, "openai"), TEXTS, tmp_path))
            batch = await advanced(desk, batch, Stage.SUBMITTED)
            server.weather.reads = [404, 404]
            batch = await desk.advance(batch)
            set_clock(3600.0)
            return await bring(desk, batch)

    assert asyncio.run(main()).stage is Stage.COLLECTED
    assert len(server.jobs) == 1


def test_a_submission_whose_answer_was_lost_is_looked_for_as_long_though_the_clock_is_set_meanwhile(
    server: BatchProvider, disk: Disk, tmp_path: Path, set_clock: Callable[[float], None]
) -> None:
    server.faults = Faults(lose="after", hidden=2)

    async def main() -> Batch:
        async with desk_at(disk.book, listing_wait_s=60.0) as desk:
            batch = await desk.plan(packed_of(lane_at(server, "openai"), TEXTS, tmp_path))
            batch = await advanced(desk, batch, Stage.CREATING)
            set_clock(3600.0)
            return await bring(desk, batch)

    assert asyncio.run(main()).stage is Stage.COLLECTED
    assert len(server.jobs) == 1


def test_a_submission_that_was_lost_with_its_process_is_looked_for_no_longer_than_else_where_the_clock_was_set_back(
    server: BatchProvider, disk: Disk, tmp_path: Path, set_clock: Callable[[float], None]
) -> None:
    server.faults = Faults(lose="before")

    async def main() -> Batch:
        async with desk_at(disk.book) as desk:
            batch = await desk.plan(packed_of(lane_at(server, "openai"), TEXTS, tmp_path))
            batch = await advanced(desk, batch, Stage.CREATING)
        set_clock(-86_400.0)
        server.faults = Faults()
        async with desk_at(disk.book) as desk:
            return await asyncio.wait_for(bring(desk, batch), 20)

    assert asyncio.run(main()).stage is Stage.COLLECTED
    assert len(server.jobs) == 1
