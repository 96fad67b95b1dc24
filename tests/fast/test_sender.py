"""A request that the lean client hands on to the SDK's client stays under the same watch."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from cottonpalm import BatchProcessor, RetryPolicy
from cottonpalm.events import RequestFinished
from cottonpalm.request.transport.fast.sender import FastSender
from cottonpalm.request.transport.fast.template import Template
from cottonpalm.request.transport.http1.pool import hang_up
from cottonpalm.request.transport.replay import Look, Looked
from tests.fast.cases import chat, openai
from tests.fast.wires import Server, wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from cottonpalm.request.attempt.steps import Reply

pytestmark = pytest.mark.core
PAYLOAD = {"model": "m", "messages": [{"role": "user", "content": "a"}]}


async def moved(server: Server, timeout_s: float, *, cut: bool) -> Reply:
    """Send a request that is redirected to where nobody answers."""
    server.wire = wire(b"", "307 Moved", {"Location": "/elsewhere"})
    cuts: list[Callable[[], None]] = []
    look = Look()

    async def follow(_client: Any, _request: Any) -> Any:
        if cut:
            asyncio.get_running_loop().call_soon(cuts[-1])
        await asyncio.Event().wait()

    async with httpx.AsyncClient() as client:
        request = client.build_request("POST", f"{server.url}/v1/chat/completions", json=PAYLOAD)
        with pytest.raises(Looked):
            look.seen(httpx, client, request, follow)
        like = Template(look, PAYLOAD)
        try:
            async with asyncio.timeout(20):
                return await FastSender(like, like.body(PAYLOAD)).once(timeout_s, began=cuts.append)
        finally:
            hang_up(asyncio.get_running_loop())


@pytest.mark.parametrize(("timeout_s", "cut"), [(600, True), (0.1, False)])
def test_a_request_that_is_redirected_can_be_cut_off_and_ends_in_time(*, timeout_s: float, cut: bool) -> None:
    with Server() as server:
        reply = asyncio.run(moved(server, timeout_s, cut=cut))
    assert isinstance(reply.error, httpx.ReadTimeout)


def test_a_page_that_redirects_to_itself_is_tried_again_and_the_row_answered() -> None:
    """As a page for maintenance does, or one to log in at."""
    with Server(wire=wire(b"", "302 Found", {"Location": "/maintenance"})) as server:

        class Watch:
            def see(self, event: Any) -> None:
                if isinstance(event, RequestFinished):
                    server.wire = wire(chat())

        processor = BatchProcessor(openai(server.url), retry=RetryPolicy(base_s=0.01), observers=[Watch()])
        with processor.start(["a row"]) as run:
            [outcome] = run
    assert (outcome.status, outcome.attempts) == ("ok", 2)
