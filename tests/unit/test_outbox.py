"""The queue between a run and its reader, on the loop and from other threads."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from cottonpalm.engine.output.outbox import Outbox, Piece
from cottonpalm.testing import virtual_run

pytestmark = pytest.mark.core


def test_what_is_queued_is_read_before_the_end_and_the_error_is_raised_once() -> None:
    async def main() -> None:
        outbox = Outbox(8)
        outbox.put([1, 2])
        outbox.close(OSError("over"))
        outbox.close(KeyError("too late"))
        assert [await outbox.receive(), await outbox.receive()] == [1, 2]
        with pytest.raises(OSError, match="over"):
            await outbox.receive()
        with pytest.raises(StopAsyncIteration):
            await outbox.receive()

    virtual_run(main())


def test_a_reader_on_the_loop_sleeps_until_something_comes() -> None:
    async def main() -> list[Any]:
        outbox = Outbox(8)
        loop = asyncio.get_running_loop()
        loop.call_later(5, outbox.put, ["late"])
        loop.call_later(9, outbox.close)
        got = [await outbox.receive()]
        with pytest.raises(StopAsyncIteration):
            await outbox.receive()
        return [*got, loop.time()]

    assert virtual_run(main()) == ["late", 9.0]


def test_a_reader_that_is_cancelled_while_it_waits_loses_nothing() -> None:
    async def main() -> Any:
        outbox = Outbox(8)
        reader = asyncio.ensure_future(outbox.receive())
        await asyncio.sleep(1)
        reader.cancel()
        await asyncio.wait([reader])
        outbox.put(["kept"])
        return await outbox.receive()

    assert virtual_run(main()) == "kept"


def test_credit_is_told_every_quarter_of_the_room_and_when_all_is_read() -> None:
    outbox, told = Outbox(8), []
    outbox.on_credit(lambda: told.append(outbox.taken))
    outbox.put(range(7))
    for _ in range(7):
        outbox.receive_sync()
    assert told == [2, 4, 6, 7]


def test_readers_on_several_threads_share_what_comes_and_all_end() -> None:
    outbox, got, lock = Outbox(8), [], threading.Lock()

    def reader() -> None:
        while True:
            try:
                one = outbox.receive_sync()
            except StopIteration:
                return
            with lock:
                got.append(one)

    readers = [threading.Thread(target=reader) for _ in range(4)]
    for thread in readers:
        thread.start()
    for n in range(2_000):
        outbox.put([n])
    outbox.close()
    for thread in readers:
        thread.join(20)
    assert not any(thread.is_alive() for thread in readers)
    assert sorted(got) == list(range(2_000))


def test_chunks_wait_for_a_slow_reader_and_go_on_when_there_is_room() -> None:
    async def main() -> None:
        outbox = Outbox(4)
        outbox.on_credit(outbox.make_space)
        sent = 0

        async def speak(row: int) -> None:
            nonlocal sent
            for n in range(20):
                await outbox.put_piece(Piece(row, n))
                sent += 1

        speakers = [asyncio.ensure_future(speak(row)) for row in range(3)]
        await asyncio.sleep(1)
        assert sent <= 4 + len(speakers)
        got: list[Piece] = []
        while len(got) < 60:
            got.append(await outbox.receive())
            await asyncio.sleep(0)
            assert len(outbox) <= 4 + len(speakers)
        await asyncio.wait(speakers)
        for row in range(3):
            assert [chunk.chunk for chunk in got if chunk.row == row] == list(range(20))

    virtual_run(main())


def test_a_speaker_that_is_cancelled_does_not_take_the_others_place() -> None:
    async def main() -> None:
        outbox = Outbox(1)
        outbox.on_credit(outbox.make_space)
        await outbox.put_piece(Piece(0, "first"))
        gone, waits = (asyncio.ensure_future(outbox.put_piece(Piece(n, "next"))) for n in (1, 2))
        await asyncio.sleep(1)
        gone.cancel()
        await asyncio.wait([gone])
        assert (await outbox.receive()).row == 0
        assert (await outbox.receive()).row == 2
        assert waits.done()

    virtual_run(main())
