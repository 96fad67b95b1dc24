"""However a stream ends, its permit and its money are settled once, and before anything else can go wrong."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from cottonpalm import clock
from cottonpalm.providers import BrokenAnswer, CutAnswer
from cottonpalm.request.money.ledger import Ledger
from cottonpalm.request.money.rules.prices import PriceBook
from cottonpalm.request.row_account import ROW, RowAccount
from cottonpalm.types import PICO
from tests.request.kit import a_run, in_flight
from tests.request.test_streams import WHOLE, _sse, through_a_stream

if TYPE_CHECKING:
    from cottonpalm.request.run_account import RunAccount

pytestmark = pytest.mark.core
ASKED = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9, "stream": True}
URL = "http://x/v1/chat/completions"


class Body(httpx2.AsyncByteStream, httpx2.SyncByteStream):
    """A stream whose pieces and whose close are scripted."""

    def __init__(self, pieces: list[bytes], closing: Any = None) -> None:
        self.pieces, self.closing, self.closed = pieces, closing, 0

    async def __aiter__(self) -> Any:
        for piece in self.pieces:
            yield piece

    def __iter__(self) -> Any:
        yield from self.pieces

    async def aclose(self) -> None:
        if self.closing is not None:
            await self.closing()
        self.closed += 1

    def close(self) -> None:
        if self.closing is not None:
            self.closing()
        self.closed += 1


def a_paid_run(**settings: Any) -> RunAccount:
    ledger = Ledger(PICO)
    run = a_run(ledger=ledger, prices=PriceBook({"m": (1.0, 1.0)}), **settings)
    ledger.attach(run.spending)
    return run


def settled(run: RunAccount) -> bool:
    """Nothing is held any more: no permit, no reserved money, no open request."""
    return in_flight(run) == 0 and run.ledger.reserved == 0 and run.ledger.in_flight == 0  # type: ignore[union-attr]


async def read_through(
    run: RunAccount, body: Body, *, leave_after: int | None = None
) -> tuple[RowAccount, Any]:
    """Read a stream under a row that stays open; the error it raised."""
    row = RowAccount(run, 0)
    token = ROW.set(row)
    error = None
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=body))
    try:
        async with (
            asyncio.timeout(10),
            httpx2.AsyncClient(transport=transport) as client,
            client.stream("POST", URL, json=ASKED) as response,
        ):
            count = 0
            async for _ in response.aiter_raw():
                count += 1
                if count == leave_after:
                    break
    except Exception as exc:
        error = exc
    finally:
        ROW.reset(token)
    return row, error


def fails() -> None:
    raise OSError("closing failed")


async def afails() -> None:
    raise OSError("closing failed")


def test_a_stream_whose_close_fails_keeps_no_permit_and_no_money() -> None:
    run = a_paid_run()
    row, error = asyncio.run(read_through(run, Body([_sse(*WHOLE)], afails)))
    assert error is None, "all of the answer had come"
    assert row.usage.input_tokens == 5
    assert settled(run)


def test_a_stream_whose_close_is_cancelled_keeps_no_permit_and_no_money() -> None:
    async def main() -> None:
        run, closing = a_paid_run(), asyncio.Event()

        async def never() -> None:
            closing.set()
            await asyncio.Event().wait()

        reading = asyncio.create_task(read_through(run, Body([_sse(*WHOLE)], never)))
        await closing.wait()
        reading.cancel()
        await asyncio.wait([reading])
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        assert settled(run)
        assert run.ledger.spent > 0

    asyncio.run(main())


def test_a_reader_that_closes_while_the_pump_closes_neither_loses_the_permit_nor_cuts_the_close_short() -> (
    None
):
    async def main() -> None:
        run, closing, may_close = a_paid_run(), asyncio.Event(), asyncio.Event()

        async def slowly() -> None:
            closing.set()
            await may_close.wait()

        body = Body([_sse(WHOLE[0]), _sse(*WHOLE[1:])], slowly)
        reading = asyncio.create_task(read_through(run, body, leave_after=1))
        await closing.wait()
        assert settled(run), "settled first, then closed"
        may_close.set()
        row, error = await reading
        assert error is None
        assert body.closed == 1, "the connection goes back to its pool"
        assert row.usage.input_tokens == 5

    asyncio.run(main())


def test_a_word_of_the_users_that_raises_in_a_stream_reaches_him_and_keeps_no_permit() -> None:
    def classify(_: BaseException) -> Any:
        raise LookupError("the user's own slip")

    class Breaks(Body):
        async def __aiter__(self) -> Any:
            yield _sse(WHOLE[0])
            raise httpx2.ReadError("broke off")

    run = a_paid_run(classify=classify)
    _, error = asyncio.run(read_through(run, Breaks([])))
    assert isinstance(error, LookupError)
    assert settled(run)


def test_a_sync_stream_whose_close_fails_keeps_no_permit_and_no_money() -> None:
    run = a_paid_run()
    row = RowAccount(run, 0)
    token = ROW.set(row)
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=Body([_sse(*WHOLE)], fails)))
    try:
        with httpx2.Client(transport=transport) as client, client.stream("POST", URL, json=ASKED) as response:
            response.read()
    finally:
        ROW.reset(token)
    assert settled(run)


def test_a_word_of_the_users_that_raises_in_a_sync_stream_keeps_no_permit() -> None:
    def classify(_: BaseException) -> Any:
        raise LookupError("the user's own slip")

    class Breaks(Body):
        def __iter__(self) -> Any:
            yield _sse(WHOLE[0])
            raise httpx2.ReadError("broke off")

    run = a_paid_run(classify=classify)
    row = RowAccount(run, 0)
    token = ROW.set(row)
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=Breaks([])))
    try:
        with httpx2.Client(transport=transport) as client, pytest.raises(LookupError):
            client.post(URL, json=ASKED)
        assert settled(run), "before the row is over"
    finally:
        ROW.reset(token)


def test_a_stream_that_is_cancelled_before_its_first_piece_keeps_no_permit() -> None:
    async def main() -> None:
        run = a_paid_run()
        row = RowAccount(run, 0)
        ROW.set(row)
        transport = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=Body([_sse(*WHOLE)])))
        async with httpx2.AsyncClient(transport=transport) as client:
            request = client.build_request("POST", URL, json=ASKED)
            response = await client.send(request, stream=True)
            (pump,) = (task for task in asyncio.all_tasks() if task is not asyncio.current_task())
            pump.cancel()  # before its first step
            await asyncio.wait([pump])
            await asyncio.sleep(0)
            assert settled(run)
            await response.aclose()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("pieces", "breaks", "raised"),
    [
        ([WHOLE[0]], True, httpx2.ReadError),
        ([WHOLE[0]], False, BrokenAnswer),
        ([WHOLE[0].replace("null", '"network_error"'), *WHOLE[2:]], False, BrokenAnswer),
        ([WHOLE[0].replace("null", '"length"'), *WHOLE[2:]], False, CutAnswer),
    ],
    ids=["breaks off", "ends too soon", "is given up", "is cut"],
)
def test_a_sync_stream_that_is_no_whole_answer_raises_after_what_came_of_it(
    pieces: list[str], breaks: bool, raised: type[Exception]
) -> None:
    class Ends(Body):
        def __iter__(self) -> Any:
            yield _sse(*pieces)
            if breaks:
                raise httpx2.ReadError("broke off")

    run, read = a_paid_run(), list[bytes]()
    row = RowAccount(run, 0)
    token = ROW.set(row)
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=Ends([])))
    try:
        with (
            httpx2.Client(transport=transport) as client,
            pytest.raises(raised),
            client.stream("POST", URL, json=ASKED) as response,
        ):
            read.extend(response.iter_raw())
        assert settled(run), "before the row is over"
    finally:
        ROW.reset(token)
    assert b"".join(read).startswith(_sse(pieces[0])), "what came is shown"


@pytest.mark.parametrize(
    ("error", "pauses"),
    [
        ({"code": "rate_limit_exceeded", "type": "requests", "message": "slow down"}, True),
        ({"code": "server_error", "type": "server_error", "message": "try later"}, False),
    ],
    ids=["a throttle", "a fault"],
)
@pytest.mark.parametrize("retry_after", ["90", None])
def test_an_error_in_a_stream_pauses_all_where_it_is_a_throttle_that_names_a_wait(
    error: dict[str, str], pauses: bool, retry_after: str | None
) -> None:
    headers = {} if retry_after is None else {"retry-after": retry_after}
    row, _ = through_a_stream([_sse(json.dumps({"error": error}))], headers)
    [limiter] = list(row.run.flow.limiters)
    assert (limiter.paused_until - clock.now() > 60) is (pauses and retry_after is not None)
    assert limiter.accepted == 0
    assert row.usage is None
