"""Whose connections a client holds, and which one is used on which loop."""

from __future__ import annotations

import asyncio
import gc

import httpx
import httpx2
import pytest

from cottonpalm.request.transport import client_loops
from tests.support.loopback import Loopback

pytestmark = pytest.mark.core


@pytest.mark.parametrize("http", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_a_client_that_another_loop_used_before_we_saw_it_is_twinned_and_its_own_loop_keeps_it(
    http: object,
) -> None:
    with Loopback() as server:
        client = http.AsyncClient(trust_env=False)  # type: ignore[attr-defined]

        async def asks() -> None:
            await client.post(server.openai_url + "/chat/completions", json={"model": "m", "messages": []})
            assert not client_loops._is_from_elsewhere(client, asyncio.get_running_loop())
            assert [wire._loop for wire in client_loops._wires(client)] == [asyncio.get_running_loop()]

        async def elsewhere() -> bool:
            assert client_loops._is_from_elsewhere(client, asyncio.get_running_loop())
            return client_loops.at_home(http, client) is not client  # type: ignore[arg-type]

        one = asyncio.new_event_loop()
        one.run_until_complete(asks())
        assert asyncio.run(elsewhere()), "its connections belong to the other loop"
        one.run_until_complete(client.aclose())
        one.close()


def test_a_client_without_connections_stays_with_the_loop_that_uses_it_first() -> None:
    client = httpx2.AsyncClient(trust_env=False)

    async def uses() -> object:
        found = client_loops.at_home(httpx2, client)
        assert client_loops.at_home(httpx2, client) is found
        return found

    one, other = asyncio.new_event_loop(), asyncio.new_event_loop()
    assert one.run_until_complete(uses()) is client
    twin = other.run_until_complete(_within_a_run(uses(), other))
    assert twin is not client
    assert one.run_until_complete(uses()) is client
    for loop in (one, other):
        loop.close()


async def _within_a_run(work: object, loop: asyncio.AbstractEventLoop) -> object:
    client_loops.enter(loop)
    assert client_loops.has_run()
    try:
        return await work  # type: ignore[misc]
    finally:
        await client_loops.leave(loop)
        assert not client_loops.has_run()


def test_twins_of_a_run_are_one_for_each_client_and_closed_at_its_end() -> None:
    client = httpx2.AsyncClient(trust_env=False)

    async def first() -> None:
        assert client_loops.at_home(httpx2, client) is client

    async def second() -> object:
        loop = asyncio.get_running_loop()
        client_loops.enter(loop)
        twin = client_loops.at_home(httpx2, client)
        assert client_loops.at_home(httpx2, client) is twin is not client
        assert twin._transport._pool is not client._transport._pool  # type: ignore[attr-defined]
        assert not twin.is_closed  # type: ignore[attr-defined]
        await client_loops.leave(loop)
        assert client_loops.at_home(httpx2, client) is not twin, "no run: none is kept"
        return twin

    asyncio.run(first())
    asyncio.run(second())
    gc.collect()
    assert not client.is_closed, "it is the user's own"


def test_a_transport_of_the_users_own_cannot_be_twinned_so_the_client_itself_is_used() -> None:
    client = httpx2.AsyncClient(transport=httpx2.MockTransport(lambda _: httpx2.Response(200)))

    async def uses() -> bool:
        return client_loops.at_home(httpx2, client) is client

    assert asyncio.run(uses())
    assert asyncio.run(uses())


def test_outside_of_any_loop_nobody_is_on_a_bridge() -> None:
    assert not client_loops.on_a_bridge()


def test_a_loop_of_ours_is_known_by_its_mark_and_no_other_is() -> None:
    plain, ours = asyncio.new_event_loop(), asyncio.new_event_loop()
    ours.lasting = True  # type: ignore[attr-defined]
    assert (client_loops.is_lasting(plain), client_loops.is_lasting(ours)) == (False, True)

    async def here() -> bool:
        return client_loops.on_a_bridge()

    assert [loop.run_until_complete(here()) for loop in (plain, ours)] == [False, True]
    client = httpx2.AsyncClient(trust_env=False)

    async def uses() -> bool:
        return client_loops.at_home(httpx2, client) is client

    assert not ours.run_until_complete(uses()), "a bridge makes no client its own"
    assert plain.run_until_complete(uses())
    for loop in (plain, ours):
        loop.close()
