"""Streams left early: what they cost stays booked, and nothing of them outlives the moment they are left."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest

from cottonpalm.providers import classify
from cottonpalm.request.row_account import ROW, RowAccount
from cottonpalm.types import Kind
from tests.request.kit import in_flight, one, openai
from tests.request.test_stream_ends import ASKED, URL, Body, a_paid_run, settled
from tests.request.test_streams import WHOLE, _sse
from tests.support import replies
from tests.support.loopback import Loopback

pytestmark = pytest.mark.core


class Slow(Body):
    """Pieces, and then nothing until it is cut off."""

    async def __aiter__(self) -> Any:
        for piece in self.pieces:
            yield piece
        await asyncio.Event().wait()


def pumps() -> list[asyncio.Task[Any]]:
    """The tasks that read streams on the side."""
    return [task for task in asyncio.all_tasks() if "AsyncTap._pump" in repr(task.get_coro())]


def test_a_stream_that_is_left_early_is_over_at_once_and_its_bound_stays_booked() -> None:
    async def main() -> None:
        run, body = a_paid_run(), Slow([_sse(WHOLE[0])])
        row = RowAccount(run, 0)
        ROW.set(row)
        transport = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=body))
        async with httpx2.AsyncClient(transport=transport) as client:
            async with client.stream("POST", URL, json=ASKED) as response:
                async for _ in response.aiter_raw():
                    break
                bound = run.ledger.reserved  # type: ignore[union-attr]
                assert bound > 0
                assert (in_flight(run), len(pumps())) == (1, 1)
            assert not row.closed
            assert settled(run), "before the row is over"
            assert pumps() == []
            assert body.closed == 1
        assert (run.spending.uncertain, run.spending.reported) == (bound, 0)
        assert row.on_wire == 0

    asyncio.run(main())


def test_a_row_that_ends_leaves_no_pump_and_no_permit_behind_its_open_stream() -> None:
    async def main() -> None:
        run, body = a_paid_run(), Slow([_sse(WHOLE[0])])
        transport = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=body))
        async with httpx2.AsyncClient(transport=transport) as client:

            async def leaves_it_open() -> Any:
                request = client.build_request("POST", URL, json=ASKED)
                response = await client.send(request, stream=True)
                await anext(response.aiter_raw())
                return response

            await one(run, 0, leaves_it_open)
            assert settled(run), "with the row, not later"
            async with asyncio.timeout(10):
                while pumps():
                    await asyncio.sleep(0)
        assert run.spending.uncertain > 0

    asyncio.run(main())


def test_a_stream_that_was_read_to_its_usage_and_then_left_costs_what_it_says() -> None:
    async def main() -> None:
        run = a_paid_run()
        row = RowAccount(run, 0)
        ROW.set(row)
        body = Slow([_sse(*WHOLE[:3]), b"data: [DONE]\n\n"])
        transport = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=body))
        async with httpx2.AsyncClient(transport=transport) as client:
            async with client.stream("POST", URL, json=ASKED) as response:
                async for _ in response.aiter_raw():
                    await asyncio.sleep(0)
                    break
            assert settled(run)
        assert run.spending.uncertain == 0
        assert run.spending.reported == 6 * 10**6

    asyncio.run(main())


def test_half_lines_of_two_streams_that_interleave_do_not_mix() -> None:
    def of(name: str, into: int) -> bytes:
        said = {"model": name, "choices": [{"index": 0, "delta": {"content": name}, "finish_reason": "stop"}]}
        used = {"model": name, "choices": [], "usage": {"prompt_tokens": into, "completion_tokens": 1}}
        return _sse(json.dumps(said), json.dumps(used), "[DONE]")

    async def main() -> None:
        run, turn = a_paid_run(), asyncio.Condition()
        order = {"next": 0}

        class Turns(Body):
            def __init__(self, number: int, content: bytes) -> None:
                super().__init__([content[at : at + 7] for at in range(0, len(content), 7)])
                self.number = number

            async def __aiter__(self) -> Any:
                for piece in self.pieces:
                    async with turn:
                        await turn.wait_for(lambda: order["next"] in (self.number, 2))
                        yield piece
                        order["next"] = 1 - self.number if order["next"] != 2 else 2
                        turn.notify_all()
                async with turn:
                    order["next"] = 2  # the other goes on alone
                    turn.notify_all()

        streams = [Turns(0, of("m", 50)), Turns(1, of("m", 7))]
        waiting = iter(streams)
        transport = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=next(waiting)))
        async with httpx2.AsyncClient(transport=transport) as client:

            async def read() -> bytes:
                async with client.stream("POST", URL, json=ASKED) as response:
                    return await response.aread()

            async with asyncio.timeout(20), asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(run, number, read)) for number in range(2)]
            (first, row), (second, other) = (task.result() for task in tasks)
        assert [first, second] == [of("m", 50), of("m", 7)]
        assert [row.usage.input_tokens, other.usage.input_tokens] == [50, 7]
        assert settled(run)

    asyncio.run(main())


def test_a_400_inside_a_stream_is_no_retry() -> None:
    inside = json.dumps(
        {"error": {"code": "invalid_prompt", "type": "invalid_request_error", "message": "no"}}
    )

    async def main() -> None:
        with Loopback(script=lambda _: replies.Reply(raw=f"data: {inside}\n\ndata: [DONE]\n\n")) as server:
            async with openai(server) as model:
                run = a_paid_run(refuses_unbounded=False)

                async def read() -> list[str]:
                    return [chunk.text async for chunk in model.astream("hi")]

                result, row = await one(run, 0, read)
                assert classify(result).kind is Kind.FAIL_ROW
                assert row.attempts == server.requests == 1
                assert settled(run)

    asyncio.run(main())
