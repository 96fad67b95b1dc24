"""A web service that runs a batch in the background answers its pages all the same: their requests are its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx
import pytest
from langchain_openai import ChatOpenAI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from cottonpalm import BatchProcessor, Budget, RunStopped
from tests.engine.helpers import aread
from tests.support.loopback import Loopback

if TYPE_CHECKING:
    from starlette.requests import Request

pytestmark = pytest.mark.core


def model(server: Loopback) -> ChatOpenAI:
    """Without clients of its own: LangChain gives all models of one address the same."""
    return ChatOpenAI(model="gpt-4o-mini", base_url=server.openai_url, api_key="k", max_tokens=10)


@pytest.mark.parametrize(
    "in_a_thread", [False, True], ids=["astart on the service's loop", "batch in a thread"]
)
def test_pages_are_answered_beside_a_run_that_uses_all_its_limit_and_spends_its_budget(
    in_a_thread: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        with Loopback(latency=0.02) as server:

            async def page(request: Request) -> PlainTextResponse:
                answer = await model(server).ainvoke(request.query_params["ask"])
                return PlainTextResponse(str(answer.content))

            app = Starlette(routes=[Route("/", page)])
            prices = {"gpt-4o-mini": (1.0, 1.0)}
            processor = BatchProcessor(
                model(server), budget=Budget(total=0.0005), prices=prices, concurrency=2, retry=0
            )
            rows = [f"row {n}" for n in range(200)]

            def batch() -> str:
                with pytest.raises(RunStopped) as raised:
                    processor.batch(rows)
                return raised.value.reason

            async def run() -> str:
                if in_a_thread:
                    return await asyncio.to_thread(batch)
                async with processor.astart(rows) as run:
                    _, stopped = await aread(run)
                assert isinstance(stopped, RunStopped)
                return stopped.reason

            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as browser:
                running, pages = asyncio.create_task(run()), 0
                while not running.done():
                    said = await browser.get("/", params={"ask": f"page {pages}"})
                    assert (said.status_code, said.text) == (200, f"answer to: page {pages}")
                    pages += 1
                assert pages > 5
                assert await running == "budget"

    asyncio.run(main())
    assert not [record for record in caplog.records if "does not know its row" in record.message]
