"""The batches of a run on their way: what is cancelled before it is written down."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from cottonpalm import BatchLane
from cottonpalm.engine.executors.batch.post import Post
from cottonpalm.providers.batches.lanes import credentials_of
from cottonpalm.providers.batches.stages import Stage
from tests.batches.kit import HEADERS, body_of, desk_at, lane_at
from tests.request.kit import a_run

if TYPE_CHECKING:
    from cottonpalm.providers.batches.stages import Batch, Member
    from tests.batches.kit import Disk
    from tests.support.batch_provider import BatchProvider


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_batch_that_is_cancelled_while_it_is_written_down_gives_its_requests_back(
    server: BatchProvider, disk: Disk, turns: int
) -> None:
    """A deadline may come at any turn of the loop. The book then holds none of them as out: they are asked anew."""
    lane = lane_at(server, "openai")
    asked: Any = SimpleNamespace(
        wanted=SimpleNamespace(key=b"question", lane=lane, call=SimpleNamespace(content=b"question")),
        body=body_of("openai", "question"),
        money=SimpleNamespace(reserved=0, give_back=lambda: None),
    )
    row: Any = SimpleNamespace(slot=0, key=b"row", content=b"row")

    async def cancelled() -> tuple[Batch, list[Member]]:
        ended: asyncio.Future[tuple[Batch, list[Member]]] = asyncio.get_running_loop().create_future()
        async with desk_at(disk.book) as desk:
            post = Post(
                disk.book,
                desk,
                a_run(),
                BatchLane(hosts=server.hosts),
                over=lambda batch, _members, lost: ended.set_result((batch, lost)),
                failed=ended.set_exception,
            )
            post.knows({lane: credentials_of(lane.base, HEADERS["openai"])})
            post.add(row, asked)
            post.flush()
            for _ in range(turns):
                await asyncio.sleep(0)
            [batch] = post.open.values()
            await post.cancel(batch)
            try:
                return await asyncio.wait_for(ended, 60)
            finally:
                await post.close()

    batch, lost = asyncio.run(cancelled())
    assert (batch.stage, batch.cancelling) == (Stage.ABANDONED, True)
    assert [member.row for member in lost] == [0], "its row is told"
    assert None not in disk.book.asked(0).values(), "the book says that it is out"
    assert not server.jobs
