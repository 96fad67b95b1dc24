"""A wait that comes to nothing is thrown into the request, which may know what to make of it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx2
import pytest

from cottonpalm.providers import ProviderDown
from cottonpalm.request.row_account import ROW, RowAccount
from cottonpalm.runtime.wait_queue import RowClosed
from cottonpalm.types import Verdict
from tests.request.kit import a_run, in_flight

pytestmark = pytest.mark.core
URL = "http://x/v1/chat/completions"
ASKED = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def answer(_: Any) -> Any:
    body = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}
    return httpx2.Response(200, json=body)


def test_a_request_in_line_that_is_sent_away_is_remembered_by_its_row() -> None:
    """Else the row would ask the dead provider again before it goes to its fallback."""

    async def main() -> None:
        run = a_run(1, has_fallbacks=True)
        row = RowAccount(run, 0)
        ROW.set(row)
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as client:
            await client.post(URL, json=ASKED)  # the limiter is known now
            (limiter,) = (found for found in run.flow.seen() if found.key not in run.flow.rows_keys)
            held = limiter.force()
            waiting = asyncio.create_task(client.post(URL, json=ASKED))
            while not limiter.waiting:
                await asyncio.sleep(0)
            run.failover.send_away(limiter.key)
            with pytest.raises(ProviderDown):
                await waiting
            limiter.release(held, Verdict.IGNORED)
            assert row.spent is not None
            assert row.attempts == 1
            with pytest.raises(ProviderDown):  # from memory, though a permit is free
                await client.post(URL, json=ASKED)
            assert row.attempts == 1
        assert in_flight(run) == 0

    asyncio.run(main())


def test_the_same_holds_on_a_thread() -> None:
    run = a_run(1, has_fallbacks=True)
    row = RowAccount(run, 0)
    errors: list[BaseException] = []
    with httpx2.Client(transport=httpx2.MockTransport(answer)) as client:

        def ask() -> None:
            ROW.set(row)
            try:
                client.post(URL, json=ASKED)
            except ProviderDown as error:
                errors.append(error)

        def on_a_thread() -> threading.Thread:
            thread = threading.Thread(target=ask)
            thread.start()
            return thread

        on_a_thread().join(10)
        (limiter,) = (found for found in run.flow.seen() if found.key not in run.flow.rows_keys)
        held = limiter.force()
        thread, waited = on_a_thread(), threading.Event()
        while not limiter.waiting:
            waited.wait(0.001)
        run.failover.send_away(limiter.key)
        thread.join(10)
        limiter.release(held, Verdict.IGNORED)
        on_a_thread().join(10)
    assert len(errors) == 2
    assert row.attempts == 1


def test_a_row_that_is_over_while_its_request_sleeps_is_refused_and_holds_nothing() -> None:
    async def main() -> None:
        run = a_run(1)
        row = RowAccount(run, 0)
        ROW.set(row)
        transport = httpx2.MockTransport(lambda _: httpx2.Response(500, headers={"retry-after": "0.01"}))
        async with httpx2.AsyncClient(transport=transport) as client:
            asking = asyncio.create_task(client.post(URL, json=ASKED))
            while not row.attempts or in_flight(run):
                await asyncio.sleep(0)
            row.close()
            with pytest.raises(RowClosed):
                await asking
        assert in_flight(run) == 0

    asyncio.run(main())
