"""What LangChain's models send live, the loopback provider serves, and it is a line of a batch with the same answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest
from pydantic import BaseModel

from cottonpalm.providers.batches.choice import adapter_of, lane_for
from cottonpalm.providers.batches.lanes import Lane, credentials_of
from cottonpalm.providers.batches.packing import room_in
from cottonpalm.providers.batches.scratch import Scratch
from cottonpalm.providers.batches.spool import Spool
from cottonpalm.providers.batches.stages import Member, Stage
from cottonpalm.providers.batches.submission import Desk
from tests.batches.kit import bring

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.batches.kit import Disk
    from tests.support.batch_provider import BatchProvider


class City(BaseModel):
    """A city."""

    name: str
    people: int


def openai_model(server: BatchProvider, **more: Any) -> Any:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model="gpt-test", base_url=server.openai_url, api_key="sk-test", max_retries=0, **more)


def anthropic_model(server: BatchProvider) -> Any:
    from langchain_anthropic import ChatAnthropic

    return ChatAnthropic(
        model="claude-test", base_url=server.anthropic_url, api_key="sk-ant-x", max_retries=0, max_tokens=99
    )


def gemini_model(server: BatchProvider) -> Any:
    from langchain_google_genai import ChatGoogleGenerativeAI

    return ChatGoogleGenerativeAI(
        model="gemini-test", google_api_key="AIza-test", base_url=server.gemini_url, max_retries=1
    )


CHAINS: dict[str, Callable[[Any], Any]] = {
    "openai": openai_model,
    "openai-json": lambda server: openai_model(server).with_structured_output(City),
    "openai-tools": lambda server: openai_model(server).bind_tools([City], tool_choice="any"),
    "openai-responses": lambda server: openai_model(server, use_responses_api=True),
    "anthropic": anthropic_model,
    "anthropic-json": lambda server: anthropic_model(server).with_structured_output(City),
    "gemini": gemini_model,
    "gemini-json": lambda server: gemini_model(server).with_structured_output(City),
}


@pytest.mark.parametrize("name", CHAINS)
def test_the_live_request_of_a_chain_is_a_line_with_the_same_answer(
    server: BatchProvider, disk: Disk, name: str, tmp_path: Path
) -> None:
    CHAINS[name](server).invoke("Where is the tower?")
    [seen] = server.seen
    headers = {key.lower(): value for key, value in seen.headers.items()}
    lane = lane_for(seen.url, headers, seen.body, hosts=server.hosts)
    assert isinstance(lane, Lane), lane
    spool = Spool(lane, adapter_of(lane), room_in(adapter_of(lane).limits), Scratch(tmp_path))
    spool.add(seen.body, Member(0, b"k"), 10)

    async def main() -> None:
        async with httpx.AsyncClient() as http:
            desk = Desk(disk.book, http, lambda lane: credentials_of(seen.url, headers), poll_s=0.001)
            packed = spool.close()
            assert packed is not None
            assert (await bring(desk, await desk.plan(packed))).stage is Stage.COLLECTED

    asyncio.run(main())
    result = disk.book.asked(0)[b"k"]
    assert result is not None
    assert result.good, result
    assert result.body is not None
    if lane.provider == "anthropic":
        assert result.body["usage"].pop("service_tier") == "batch"
    assert orjson.dumps(result.body) == orjson.dumps(seen.answer)
